"""Section 16.5: how the steps of RMSprop and Adagrad shrink, and whether for good."""

import hypothesis.strategies as st
import torch
from hypothesis import given, settings
from torch.optim import Adagrad, RMSprop
from torch.testing import assert_close

from fitcore import optimizers
from fitcore.optimizers import descend, descend_with
from fitcore.testing import claim, override
from fitcore.testing.strategies import tensors

sizes = st.floats(0.01, 1e4) | st.floats(-1e4, -0.01)


def moves(optimizer, gradients, **options):
    """Sizes of the updates of parameters that are given these gradients, one after the other."""
    start = torch.zeros_like(gradients[0])
    path = descend_with(lambda params: optimizer(params, **options), start, lambda _, t: gradients[t], len(gradients))
    return path.diff(dim=0).abs()


def slope(x, _):
    """That of x⁴ - 3x³ + 2."""
    return 4 * x**3 - 9 * x**2


@claim(
    "pytorch-notes/rmsprop-lr-may-be-too-small",
    finding="It may where gradients fall, and for long: after a single gradient 100 times the size of the others the "
    "next step is a tenth of lr; 300 steps later a step is still less than half of lr, and only after 650 more than "
    "nine tenths. Not under a constant gradient: its steps fall from ten times lr, the first, to lr, no further.",
    controls=[override("alpha of 0.5, which forgets at once", alpha=0.5)],
)
@settings(max_examples=3)
@given(gradient=sizes, alpha=st.just(0.99))
def test_rmsprops_steps_fall_below_the_rate_only_after_larger_gradients(gradient, alpha, evidence):
    constant = torch.full((700, 2), gradient, dtype=torch.float64)
    constant[0, 1] *= 100
    steps = moves(RMSprop, constant, lr=0.001, alpha=alpha) / 0.001
    t = torch.arange(1, 701, dtype=torch.float64)
    series = {"constant gradient": steps[:, 0].log10(), "the first 100 times as large": steps[:, 1].log10()}
    evidence.curve("log10 of the step over lr", t, series, x_label="step")
    assert_close(steps[:, 0], (1 - alpha**t).rsqrt(), rtol=1e-4, atol=0)
    assert steps[:, 0].min() > 1 - 1e-5
    assert_close(steps[1, 1], torch.tensor(0.1, dtype=torch.float64), rtol=0.01, atol=0)
    assert steps[1:301, 1].max() < 0.5
    assert 0.9 < steps[650, 1] < 0.99


@claim(
    "pytorch-notes/adagrad-step-closed-form",
    finding="Whatever the size of the gradient, as long as it is large against eps = 1e-10.",
    controls=[
        override("an average of the squares in place of their sum", optimizer=RMSprop),
        override("squares that were summed before", options={"initial_accumulator_value": 1.0}),
    ],
)
@settings(max_examples=10)
@given(gradient=sizes, lr=st.just(0.01) | st.floats(1e-4, 1), optimizer=st.just(Adagrad), options=st.just({}))
def test_under_a_constant_gradient_step_t_of_adagrad_is_the_rate_over_the_root_of_t(gradient, lr, optimizer, options):
    t = torch.arange(1, 41, dtype=torch.float64)
    assert_close(moves(optimizer, torch.full_like(t, gradient), lr=lr, **options), lr * t.rsqrt(), rtol=1e-6, atol=0)


@claim(
    "pytorch-notes/adagrad-lr-decreases-and-stops-early",
    finding="The effective rate never rises, whatever the gradients. With the guide's lr of 0.01 it has gone 0.18 "
    "of the 2.75 to the minimum after 100 steps and 0.57 after 1,000, where a step is less than a tenth of the first: "
    "in effect it has stopped too early. Literally it never stops: under a constant gradient it goes 2 lr √t, without "
    "limit. And with lr = 1 it is at the minimum after 100 steps.",
    controls=[override("RMSprop, whose average forgets", rule=optimizers.RMSprop)],
)
@settings(max_examples=4)
@given(gradients=tensors((8, 2), torch.float64, st.integers(1, 9)), rule=st.just(optimizers.Adagrad))
def test_adagrads_rate_only_falls_but_a_larger_one_arrives(gradients, rule, evidence):
    start = torch.full((2,), 5.0, dtype=torch.float64)
    small, large = descend(rule(lr=torch.tensor([0.01, 1.0], dtype=torch.float64)), start, slope, 1000).T
    evidence.curve("x", range(1001), {"lr = 0.01": small, "lr = 1": large}, x_label="step")
    assert small[100] > 4.8
    assert small[1000] > 4.4
    assert small.diff()[-1].abs() < 0.1 * small.diff()[0].abs()
    assert (large[100:] - 2.25).abs().max() < 0.002
    given_ones = descend(rule(lr=0.01), torch.zeros(2, dtype=torch.float64), lambda _, t: gradients[t], 8).diff(dim=0)
    assert ((given_ones / gradients).abs().diff(dim=0) < 0).all()
    slow = descend(rule(lr=0.01), torch.zeros((), dtype=torch.float64), lambda *_: torch.ones(()), 400).abs()
    assert_close(slow[[100, 400]], 0.02 * torch.tensor([100, 400], dtype=torch.float64).sqrt(), rtol=0.1, atol=0)
