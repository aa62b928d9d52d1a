"""Sections 16.1, 16.4 and 16.5: what a step of SGD, Nesterov's SGD and AdamW is made of."""

import hypothesis.strategies as st
import pytest
import torch
from hypothesis import assume, given, settings
from torch.optim import SGD, Adam, AdamW
from torch.testing import assert_close

from fitcore.optimizers import Nesterov, descend, descend_with
from fitcore.testing import REFUTED, claim, override
from fitcore.testing.strategies import tensors

STEPS = 5
gradient_series = tensors((STEPS, 2), torch.float64, st.integers(1, 9) | st.integers(-9, -1))
few = settings(max_examples=8)


def path(optimizer, gradients, start=(0.0, 0.0), **options):
    """Parameters that are given these gradients, one after the other."""
    first = torch.tensor(start, dtype=torch.float64)
    return descend_with(lambda params: optimizer(params, **options), first, lambda _, t: gradients[t], len(gradients))


@claim(
    "pytorch-notes/sgd-update-uses-only-current-gradient",
    finding="The step is the same whatever the gradients before were, and the state stays empty.",
    controls=[override("momentum", options={"momentum": 0.9})],
)
@few
@given(gradients=gradient_series, before=gradient_series, lr=st.just(0.01) | st.floats(1e-4, 10), options=st.just({}))
def test_sgd_moves_by_the_current_gradient_alone(gradients, before, lr, options):
    used = []

    def optimizer(params):
        used.append(SGD(params, lr=lr, **options))
        return used[0]

    assert_close(path(optimizer, gradients).diff(dim=0), -lr * gradients, rtol=1e-9, atol=1e-9)
    assert not used[0].state_dict()["state"]
    other = torch.cat([before[:-1], gradients[-1:]])
    last = path(SGD, other, lr=lr, **options).diff(dim=0)[-1]
    assert_close(last, -lr * gradients[-1], rtol=1e-9, atol=1e-9)


@claim(
    "pytorch-notes/nesterov-needs-momentum",
    finding="The message: Nesterov momentum requires a momentum and zero dampening. So dampening is refused as well.",
    controls=[override("momentum there too", without={"momentum": 0.9})],
)
@few
@given(gradients=gradient_series, lr=st.floats(1e-4, 10), without=st.sampled_from([{}, {"momentum": 0.0}]))
def test_nesterovs_step_needs_momentum_and_then_is_his(gradients, lr, without):
    with pytest.raises(ValueError, match="Nesterov momentum requires a momentum"):
        SGD([torch.zeros(2)], lr=lr, nesterov=True, **without)
    with pytest.raises(ValueError, match="zero dampening"):
        SGD([torch.zeros(2)], lr=lr, nesterov=True, momentum=0.9, dampening=0.5)
    start = torch.zeros(2, dtype=torch.float64)
    rule = descend(Nesterov(lr=lr, momentum=0.9), start, lambda _, t: gradients[t], STEPS)
    assert_close(path(SGD, gradients, lr=lr, momentum=0.9, nesterov=True), rule, rtol=1e-9, atol=1e-9)


@claim(
    "pytorch-notes/sgd-recommended-settings-are-plain-sgd",
    verdict=REFUTED,
    finding="They are Nesterov's momentum: under a constant gradient the second step is 2.71 times the plain one, and "
    "later ones approach 10 times. Plain SGD has no momentum, which is torch's default.",
    controls=[override("no momentum", recommended={"momentum": 0.0, "nesterov": False})],
)
@few
@given(
    gradient=tensors((2,), torch.float64),
    lr=st.sampled_from([0.01, 0.1]) | st.floats(0.01, 0.1),
    recommended=st.just({"momentum": 0.9, "nesterov": True}),
)
def test_the_recommended_settings_of_sgd_are_nesterovs_momentum(gradient, lr, recommended):
    assume(gradient.any())
    plain, rule = SGD([torch.zeros(2)]).defaults["momentum"], Nesterov(lr=lr, momentum=0.9)
    gradients = gradient.expand(60, 2)
    moves = path(SGD, gradients, lr=lr, **recommended).diff(dim=0)
    assert plain == 0
    assert_close(moves[1], -2.71 * lr * gradient)
    assert_close(moves[-1], -10 * lr * gradient, rtol=0.01, atol=0)
    assert_close(moves, descend(rule, torch.zeros_like(gradient), lambda *_: gradient, 60).diff(dim=0))
    assert_close(path(SGD, gradients, lr=lr).diff(dim=0), -lr * gradients)


@claim(
    "pytorch-notes/adamw-is-adam-with-decay",
    finding="Their paths are equal to the bit.",
    controls=[override("AdamW's own weight_decay of 0.01", options={})],
)
@few
@given(gradients=gradient_series, lr=st.floats(1e-4, 1), options=st.just({"weight_decay": 0}))
def test_adamw_without_decay_is_adam(gradients, lr, options):
    start = (1.0, -2.0)
    assert torch.equal(path(AdamW, gradients, start, lr=lr, **options), path(Adam, gradients, start, lr=lr))


@claim(
    "pytorch-notes/adamw-decay-decoupled",
    finding="Whatever the gradients, AdamW's step is Adam's without decay, less lr · weight_decay of the weight. Adam "
    "divides the decay by the root of the squares, as it does the gradient: where no gradient comes, its first step "
    "is lr with a decay of 0.001 as of 10; beside a gradient hundreds of thousands of times as large its decay is "
    "below a millionth.",
    controls=[override("Adam in its place", decoupled=Adam)],
)
@few
@given(
    gradients=gradient_series,
    scale=st.sampled_from([1e-3, 1.0, 1e6]),
    decay=st.just(0.01) | st.floats(1e-3, 10),
    decoupled=st.just(AdamW),
)
def test_adamw_decays_apart_from_the_scaling_and_adam_within_it(gradients, scale, decay, decoupled):
    start, options = (3.0, -2.0), {"lr": 0.01, "weight_decay": decay}
    decayed = path(decoupled, scale * gradients, start, **options)
    of_adam = path(Adam, scale * gradients, start, lr=0.01).diff(dim=0)
    assert_close(decayed.diff(dim=0), of_adam - 0.01 * decay * decayed[:-1], rtol=1e-7, atol=1e-12)
    signs, large = torch.tensor([0.01, -0.01], dtype=torch.float64), torch.full_like(gradients, 1e6 * decay)
    assert_close(path(Adam, 0 * gradients, start, **options).diff(dim=0)[0], -signs, rtol=1e-4, atol=0)
    without_decay = path(Adam, large, start, lr=0.01)
    assert_close(path(Adam, large, start, **options), without_decay, rtol=0, atol=1e-6)
    assert (path(AdamW, large, start, **options)[-1] - without_decay[-1]).abs().min() > 0.05 * decay
