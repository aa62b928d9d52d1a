import hypothesis.strategies as st
import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis.extra.numpy import array_shapes, arrays
from sklearn.linear_model import Lasso
from torch import nn
from torch.testing import assert_close

from fitcore.models import MLP
from fitcore.regularizers import (
    ProximalSGD,
    clip_by_norm,
    elastic_net,
    l1_penalty,
    l2_penalty,
    norms,
    soft_threshold,
    sparsity,
    total_norm,
)

values = st.floats(-10, 10, allow_subnormal=False)
vectors = arrays(np.float64, array_shapes(max_dims=2, max_side=4), elements=values).map(torch.from_numpy)
several = st.lists(vectors, min_size=1, max_size=4)


def flat(tensors):
    return torch.cat([tensor.flatten() for tensor in tensors])


@given(several)
def test_penalties_and_norms_are_those_of_one_vector(tensors):
    assert_close(l1_penalty(tensors), flat(tensors).norm(p=1))
    assert_close(l2_penalty(tensors), flat(tensors).norm() ** 2)
    assert_close(elastic_net(tensors, 0.5, 0.25), 0.5 * l1_penalty(tensors) + 0.25 * l2_penalty(tensors))
    assert_close(total_norm(tensors), flat(tensors).norm())
    assert_close(norms(tensors), torch.stack([tensor.flatten().norm() for tensor in tensors]))


@given(several)
def test_the_sum_of_norms_lies_between_the_norm_and_root_k_times_it(tensors):
    low = total_norm(tensors)
    assert low * (1 - 1e-12) <= norms(tensors).sum() <= low * len(tensors) ** 0.5 * (1 + 1e-12)


def test_a_module_stands_for_all_its_parameters():
    network = MLP([3, 4, 1])
    assert_close(l1_penalty(network), l1_penalty(network.parameters()))
    assert norms(network).shape == (4,)
    l2_penalty(network).backward()
    assert all(torch.equal(p.grad, 2 * p) for p in network.parameters())


def test_sparsity_counts_zeros_or_small_numbers():
    tensors = [torch.tensor([0.0, -0.5, 1.0]), torch.tensor([[0.25]])]
    assert sparsity(tensors) == 0.25
    assert sparsity(iter(tensors), threshold=0.5) == 0.75


@given(vectors, st.floats(0, 5), vectors)
def test_soft_thresholding_minimises_its_objective(v, t, other):
    w = soft_threshold(v, t)

    def objective(w):
        return 0.5 * (w - v).square() + t * w.abs()

    assert (objective(w) <= objective(w + other.flatten()[0]) + 1e-12).all()
    assert (w[v.abs() <= t] == 0).all()


def test_proximal_steps_reach_the_lasso():
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(40, 10, generator=generator, dtype=torch.float64)
    y = x[:, 0] - 2 * x[:, 1] + torch.randn(40, generator=generator, dtype=torch.float64)
    model = nn.Linear(10, 1, bias=False, dtype=torch.float64)
    optimizer = ProximalSGD(model.parameters(), lr=0.1, l1=0.3)
    for _ in range(500):
        optimizer.zero_grad()
        (0.5 * (model(x)[:, 0] - y).square().mean()).backward()
        optimizer.step()
    lasso = Lasso(alpha=0.3, fit_intercept=False, tol=1e-12).fit(x.numpy(), y.numpy()).coef_
    assert_close(model.weight.detach()[0], torch.from_numpy(lasso), rtol=0, atol=1e-8)
    assert 0 < sparsity(model) < 1


def test_without_a_penalty_it_is_sgd_and_skips_what_has_no_gradient():
    ours, theirs = (nn.Parameter(torch.tensor([1.0, -2.0])) for _ in range(2))
    alone = nn.Parameter(torch.tensor([1e-9]))
    ours.grad, theirs.grad = (torch.tensor([0.5, 0.5]) for _ in range(2))
    ProximalSGD([ours, alone], lr=0.1, l1=0.0).step()
    torch.optim.SGD([theirs], lr=0.1).step()
    assert torch.equal(ours, theirs)
    ProximalSGD([ours, alone], lr=0.1, l1=1.0).step()
    assert alone.item() == pytest.approx(1e-9)


@given(several, st.floats(0.1, 10))
def test_clipping_is_that_of_torch(tensors, max_norm):
    parameters = [nn.Parameter(torch.zeros_like(tensor)) for tensor in tensors]
    for parameter, tensor in zip(parameters, tensors, strict=True):
        parameter.grad = tensor.clone()
    nn.utils.clip_grad_norm_(parameters, max_norm)
    clipped = clip_by_norm(tensors, max_norm)
    assert total_norm(clipped) <= max_norm * (1 + 1e-12)
    for parameter, tensor in zip(parameters, clipped, strict=True):
        assert_close(parameter.grad, tensor, rtol=1e-4, atol=1e-6)


def test_wrong_settings_are_refused():
    with pytest.raises(ValueError, match=r"l1 must not be negative, got -1"):
        ProximalSGD([nn.Parameter(torch.zeros(1))], lr=0.1, l1=-1)
    with pytest.raises(ValueError, match=r"max_norm must be positive, got 0"):
        clip_by_norm([torch.zeros(1)], 0)
