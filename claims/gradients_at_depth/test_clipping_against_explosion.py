"""Section 15.1.1: which maximum of the gradient clipping limits, and whether it mends what is infinite or NaN."""

import math

import hypothesis.strategies as st
import pytest
import torch
from hypothesis import example, given
from torch import nn
from torch.nn.utils import clip_grad_norm_, clip_grad_value_

from fitcore.testing import CONDITIONAL, claim, override, replace
from fitcore.testing.strategies import shapes, tensors

numbers = st.floats(-1e6, 1e6, width=32)


def clip_nothing(parameters, limit):
    """Leave every gradient as it is."""


def with_gradients(gradients):
    parameters = [torch.zeros_like(gradient, requires_grad=True) for gradient in gradients]
    for parameter, gradient in zip(parameters, gradients, strict=True):
        parameter.grad = gradient.clone()
    return parameters


def clipped(clip, gradients, limit):
    """All gradients after clipping, in one vector."""
    parameters = with_gradients(gradients)
    clip(parameters, limit)
    return torch.cat([parameter.grad.flatten() for parameter in parameters])


@claim(
    "pytorch-notes/clipping-limits-the-maximum-gradient",
    finding="No entry exceeds the limit c after either. clip_grad_value_ cuts every entry that does, so that n of them "
    "may still have a norm of c√n; clip_grad_norm_ limits that of all together, and keeps the direction.",
    controls=[
        override("norm not clipped", by_norm=clip_nothing),
        override("values not clipped", by_value=clip_nothing),
        override("values clipped instead of the norm", by_norm=clip_grad_value_),
    ],
)
@given(
    drawn=st.lists(tensors(shapes(max_dims=2), elements=numbers), max_size=3),
    limit=st.floats(0.0625, 16, width=32),
    by_norm=st.just(clip_grad_norm_),
    by_value=st.just(clip_grad_value_),
)
def test_clipping_limits_the_largest_entry_of_the_gradient(drawn, limit, by_norm, by_value):
    gradients = [*drawn, torch.tensor([32.0, -64.0])]
    whole = torch.cat([gradient.flatten() for gradient in gradients])
    scaled, cut = clipped(by_norm, gradients, limit), clipped(by_value, gradients, limit)
    assert max(scaled.abs().max(), cut.abs().max()) <= limit * (1 + 1e-6)
    assert scaled.norm() <= limit * (1 + 1e-5)
    torch.testing.assert_close(scaled, whole * (limit / whole.norm()), rtol=1e-4, atol=0)
    assert torch.equal(cut, whole.clamp(-limit, limit))
    assert cut.norm() > 1.4 * limit


def with_entry(entry, others):
    return [torch.cat([torch.tensor([1.0, entry]), others]), torch.tensor([2.0])]


@claim(
    "pytorch-notes/clipping-rescues-nonfinite-gradients",
    verdict=CONDITIONAL,
    finding="Only clip_grad_value_, and only infinities: it cuts them to the limit.",
    controls=[override("the norm clipped", clip=clip_grad_norm_), override("NaN", infinity=math.nan)],
)
@pytest.mark.parametrize("sign", [1, -1])
@given(others=tensors((2,), elements=numbers), infinity=st.just(math.inf), clip=st.just(clip_grad_value_))
def test_clipping_by_value_cuts_infinities(sign, others, infinity, clip):
    gradients = with_entry(sign * infinity, others)
    after = clipped(clip, gradients, 1.0)
    assert after.isfinite().all()
    assert torch.equal(after, torch.cat(gradients).clamp(-1, 1))
    assert after[1] == sign


@claim(
    "pytorch-notes/clipping-rescues-nonfinite-gradients",
    verdict=CONDITIONAL,
    finding="clip_grad_norm_ mends neither. An infinite entry makes the norm infinite, becomes NaN itself (inf · "
    "0), and all others 0; a NaN makes every gradient NaN, those of other parameters too. clip_grad_value_ leaves "
    "a NaN where it is.",
    controls=[
        replace("torch.nn.utils.clip_grad_norm_", clip_nothing),
        override("large numbers", infinity=1e6, nan=1e6),
    ],
)
@example(others=torch.tensor([2.0, 0.0]), infinity=math.inf, nan=math.nan)
@given(others=tensors((2,), elements=numbers), infinity=st.just(math.inf), nan=st.just(math.nan))
def test_clipping_by_norm_turns_infinities_into_nan_and_spreads_nan(others, infinity, nan):
    of_infinity = clipped(nn.utils.clip_grad_norm_, with_entry(infinity, others), 1.0)
    assert of_infinity.isnan().tolist() == [False, True, False, False, False]
    assert not of_infinity[[0, 2, 3, 4]].any()
    assert clipped(nn.utils.clip_grad_norm_, with_entry(nan, others), 1.0).isnan().all()
    by_value = clipped(clip_grad_value_, with_entry(nan, others), 1.0)
    assert by_value.isnan().tolist() == [False, True, False, False, False]


def optimizer_step(clip, gradient):
    """What one step of Adam makes of three weights of 1."""
    weight = torch.ones(3, requires_grad=True)
    optimizer = torch.optim.Adam([weight], lr=0.1)
    weight.grad = gradient
    clip([weight], 1.0)
    optimizer.step()
    return weight.detach()


@claim(
    "pytorch-notes/clipping-rescues-nonfinite-gradients",
    verdict=CONDITIONAL,
    finding="So a single infinity loses a weight for good, and a single NaN all of them, in spite of the clipping. "
    "What helps is to leave out the step, which error_if_nonfinite=True makes hard to forget.",
    controls=[override("large numbers", bad=1e6)],
)
@pytest.mark.parametrize(("bad", "lost"), [(math.inf, [1]), (math.nan, [0, 1, 2])], ids=["inf", "nan"])
def test_a_step_after_clipping_loses_the_weights(bad, lost):
    gradient = torch.tensor([1.0, bad, 2.0])
    weight = optimizer_step(clip_grad_norm_, gradient.clone())
    assert weight.isnan().nonzero().flatten().tolist() == lost
    parameters = with_gradients([gradient])
    with pytest.raises(RuntimeError, match="non-finite"):
        clip_grad_norm_(parameters, 1.0, error_if_nonfinite=True)
    torch.testing.assert_close(parameters[0].grad, gradient, rtol=0, atol=0, equal_nan=True)
