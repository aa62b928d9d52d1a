"""Section 15.2: what clipping by the norm leaves alone, and how far it lets the weights go."""

import hypothesis.strategies as st
import torch
from hypothesis import given, settings
from torch import nn
from torch.optim import SGD

from fitcore.seeding import seeded
from fitcore.testing import CONDITIONAL, claim, override, replace
from fitcore.testing.strategies import shapes, strided, tensors

GUARD = 1e-6  # what clip_grad_norm_ adds to the norm before it divides by it
elements = st.floats(-1000, 1000, width=32)


def with_gradients(gradients):
    parameters = [torch.zeros_like(gradient, requires_grad=True) for gradient in gradients]
    for parameter, gradient in zip(parameters, gradients, strict=True):
        parameter.grad = gradient.clone()
    return parameters


def total_norm(parameters, norm_type=2.0):
    return nn.utils.get_total_norm([parameter.grad for parameter in parameters], norm_type)


def always_scale(parameters, max_norm, norm_type=2.0):
    """Bring the norm to ``max_norm`` also where it is below."""
    norm = total_norm(parameters, norm_type)
    for parameter in parameters:
        parameter.grad *= max_norm / (norm + GUARD)
    return norm


def clip_nothing(parameters, max_norm):
    return total_norm(parameters)


@claim(
    "pytorch-notes/clip-leaves-small-gradients-unchanged",
    verdict=CONDITIONAL,
    finding="To the bit, if the norm, of whichever kind, is below max_norm by more than 1e-6.",
    controls=[replace("torch.nn.utils.clip_grad_norm_", always_scale)],
)
@given(
    gradients=st.lists(strided(tensors(shapes(max_dims=3), elements=elements)), max_size=3),
    dtype=st.sampled_from([torch.float32, torch.float64]),
    norm_type=st.sampled_from([2.0, 1.0, torch.inf]),
    times=st.floats(1.001, 100),
)
def test_gradients_below_the_cap_keep_every_bit(gradients, dtype, norm_type, times):
    gradients = [*(gradient.to(dtype) for gradient in gradients), torch.tensor([3.0, 4.0], dtype=dtype)]
    parameters = with_gradients(gradients)
    max_norm = times * float(total_norm(parameters, norm_type))
    nn.utils.clip_grad_norm_(parameters, max_norm, norm_type=norm_type)
    assert all(torch.equal(parameter.grad, gradient) for parameter, gradient in zip(parameters, gradients, strict=True))


def divide_by_the_bare_norm(parameters, max_norm):
    """Clip without the 1e-6."""
    norm = total_norm(parameters)
    for parameter in parameters:
        parameter.grad *= (max_norm / norm).clamp(max=1)
    return norm


@claim(
    "pytorch-notes/clip-leaves-small-gradients-unchanged",
    verdict=CONDITIONAL,
    finding="Within 1e-6 below it they shrink, for gradients are multiplied by max_norm / (norm + 1e-6) where that is "
    "below 1: by a millionth under a cap of 1, but by almost half under a cap of 1e-6.",
    controls=[replace("torch.nn.utils.clip_grad_norm_", divide_by_the_bare_norm)],
)
@given(max_norm=st.sampled_from([1.0, 0.1, 1e-6]), below=st.floats(0.1, 0.9), angle=st.floats(0, 1.5))
def test_gradients_a_millionth_below_the_cap_shrink(max_norm, below, angle):
    angle = torch.tensor(angle, dtype=torch.float64)
    gradient = (max_norm - below * GUARD) * torch.stack([angle.cos(), angle.sin()])
    parameters = with_gradients([gradient])
    norm = nn.utils.clip_grad_norm_(parameters, max_norm)
    assert norm < max_norm
    assert parameters[0].grad.norm() < norm
    torch.testing.assert_close(parameters[0].grad, gradient * max_norm / (norm + GUARD))


@claim(
    "pytorch-notes/clip-bounds-distance-travelled",
    finding="Whatever the gradients are: 100 steps at 0.01 are together at most as long as the cap, 1 or 0.1, and "
    "exactly so where each gradient is longer than the cap. With momentum 0.9 they may get further.",
    controls=[
        replace("torch.nn.utils.clip_grad_norm_", clip_nothing),
        override("momentum", momentum=0.9),
    ],
)
@settings(max_examples=10)
@given(
    seed=st.integers(0, 2**32 - 1),
    max_norm=st.sampled_from([1.0, 0.1]),
    scale=st.floats(0.01, 1000),
    momentum=st.just(0.0),
)
def test_clipped_steps_of_sgd_go_no_further_than_rate_times_cap_times_steps(seed, max_norm, scale, momentum):
    weights = torch.zeros(2, 10, dtype=torch.float64, requires_grad=True)
    optimizer = SGD([weights], lr=0.01, momentum=momentum)
    with seeded(seed):
        drift = torch.randn(2, 10, dtype=torch.float64)
        gradients = scale * (drift + 0.1 * torch.randn(100, 2, 10, dtype=torch.float64))
    lengths = []
    for gradient in gradients:
        before, weights.grad = weights.detach().clone(), gradient.clone()
        nn.utils.clip_grad_norm_([weights], max_norm)
        optimizer.step()
        lengths.append((weights.detach() - before).norm())
    bound = 0.01 * max_norm * 100
    assert weights.detach().norm() <= sum(lengths) <= bound * (1 + 1e-9)
    expected = 0.01 * gradients.flatten(1).norm(dim=1).clamp(max=max_norm).sum()
    torch.testing.assert_close(sum(lengths), expected, rtol=1e-4, atol=0)
