import hypothesis.strategies as st
import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis.extra.numpy import arrays
from torch.testing import assert_close

from fitcore.ensembles import QuadraticDynamics


def tensors(*shape):
    return arrays(np.float64, shape, elements=st.integers(-20, 20).map(lambda k: k / 4)).map(torch.from_numpy)


@st.composite
def regressions(draw, batches=((), (2,), (2, 3))):
    """Features, targets and a start, with fewer or more samples than parameters."""
    batch, n, p = draw(st.sampled_from(batches)), draw(st.integers(1, 6)), draw(st.integers(1, 4))
    return draw(tensors(*batch, n, p)), draw(tensors(*batch, n)), draw(tensors(*batch, p))


def loss(features, targets, l2, params):
    residuals = (features @ params[..., None]).squeeze(-1) - targets
    return residuals.square().mean(-1) + l2 * params.square().sum(-1)


def loop(problem, l2, lr, steps):
    """Losses and parameters before each of ``steps`` updates and after the last, by taking them."""
    features, targets, start = problem
    params, losses, path = start.clone().requires_grad_(), [], []
    for _ in range(steps + 1):
        value = loss(features, targets, l2, params)
        losses.append(value.detach())
        path.append(params.detach().clone())
        (slope,) = torch.autograd.grad(value.sum(), params)
        with torch.no_grad():
            params -= lr[..., None] * slope
    return torch.stack(losses, -1), torch.stack(path, -2)


@settings(max_examples=40)
@given(problem=regressions(), l2=st.sampled_from([0.0, 0.01, 1.0]), share=st.floats(0.01, 1.05))
def test_equals_the_loop_step_by_step(problem, l2, share):
    features, targets, start = problem
    dynamics = QuadraticDynamics.from_regression(features, targets, l2)
    lr = share * dynamics.largest_stable_lr.clamp(max=1.0)
    losses, path = loop(problem, l2, lr, steps=30)
    assert_close(dynamics.losses(start, lr, range(31)), losses, rtol=1e-9, atol=1e-9)
    assert_close(dynamics.parameters(start, lr, range(31)), path, rtol=1e-9, atol=1e-9)


@given(problem=regressions(batches=[()]), l2=st.sampled_from([0.0, 0.1]))
def test_the_hessian_is_that_of_the_loss(problem, l2):
    features, targets, start = problem
    hessian = torch.autograd.functional.hessian(lambda params: loss(features, targets, l2, params), start)
    assert_close(QuadraticDynamics.from_regression(features, targets, l2).hessian, hessian)


@given(problem=regressions(), l2=st.sampled_from([0.0, 0.1]))
def test_the_gradient_vanishes_at_the_minimiser(problem, l2):
    features, targets, _ = problem
    dynamics = QuadraticDynamics.from_regression(features, targets, l2)
    params = dynamics.minimiser.clone().requires_grad_()
    value = loss(features, targets, l2, params)
    (slope,) = torch.autograd.grad(value.sum(), params)
    assert_close(value.detach(), dynamics.minimum)
    assert_close(slope, torch.zeros_like(slope), rtol=0, atol=1e-9)


def test_a_direction_without_curvature_never_moves():
    features, targets = torch.tensor([[1.0, 1.0]]), torch.tensor([2.0])
    dynamics = QuadraticDynamics.from_regression(features, targets)
    end = dynamics.parameters(torch.tensor([5.0, 0.0]), 0.1, [10_000])
    assert dynamics.eigenvalues.tolist() == pytest.approx([4.0, 0.0])
    assert dynamics.minimiser.tolist() == pytest.approx([1.0, 1.0])
    assert end[0].tolist() == pytest.approx([3.5, -1.5])


def test_without_any_curvature_every_rate_is_stable():
    dynamics = QuadraticDynamics.from_regression(torch.zeros(2, 1), torch.ones(2))
    assert dynamics.largest_stable_lr == torch.inf
    assert dynamics.losses(torch.ones(1), 1.0, [0, 5]).tolist() == [1.0, 1.0]


def test_beyond_the_largest_stable_rate_the_loss_grows():
    dynamics = QuadraticDynamics.from_regression(torch.randn(9, 2).double(), torch.randn(9).double())
    limit = dynamics.largest_stable_lr
    below, above = (dynamics.losses(torch.ones(2), share * limit, [0, 1_000]) for share in (0.99, 1.01))
    assert below[1] < below[0]
    assert above[1] > above[0]


def test_ill_conditioned_features_keep_their_digits():
    """A minimiser exact to 1e-9 at a condition number of 1e6, whose square would leave four digits."""
    features = torch.linspace(0, 1, 50, dtype=torch.float64)[:, None] ** torch.arange(8)
    truth = torch.arange(1.0, 9.0, dtype=torch.float64)
    dynamics = QuadraticDynamics.from_regression(features, features @ truth)
    assert torch.linalg.cond(features) > 1e5
    assert_close(dynamics.minimiser, truth, rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize(
    ("features", "targets", "l2", "message"),
    [
        (torch.ones(3, 2), torch.ones(2), 0.0, r"got \(3, 2\) and \(2,\)"),
        (torch.ones(3), torch.ones(3), 0.0, r"features must have shape"),
        (torch.ones(3, 2), torch.ones(3), -0.1, "l2 must not be negative, got -0.1"),
    ],
)
def test_errors_name_the_argument(features, targets, l2, message):
    with pytest.raises(ValueError, match=message):
        QuadraticDynamics.from_regression(features, targets, l2)
