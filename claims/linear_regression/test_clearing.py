"""Sections 4.5 and 4.6: the regression without clearing the gradients, and the two ways of clearing them."""

import hypothesis.strategies as st
import pytest
import torch
from hypothesis import given, settings

from fitcore.ensembles import QuadraticDynamics
from fitcore.gradients import gradient
from fitcore.models import design_matrix
from fitcore.testing import REFUTED, claim, override
from fitcore.testing.strategies import tensors
from fitcore.training import zero_gradient
from fitcore.training.lines import descend_lines, line_losses

X = torch.linspace(0, 10, 20, dtype=torch.float64)
Y = 3 * X + 2
LR, EPOCHS = 0.01, 200
EXACT = QuadraticDynamics.from_regression(design_matrix(X), Y)


def leave_gradient(params):
    """Let it accumulate."""


def draw_starts(trials):
    return torch.from_numpy(trials.map(lambda seed: torch.cat([torch.randn(1), torch.randn(1)]))).double()


def loss(params):
    return line_losses(params, X, Y)


@claim(
    "pytorch-notes/no-clearing-misdirects-46",
    finding="Each update follows the sum of all gradients so far. In 35 % of the 200 steps that leads uphill, and the "
    "loss swings without end: from 360 to 500 in the median draw to about 0.1 after 198 epochs and 430 to 590 after "
    "200; with zeroing it ends at 0.06 to 0.11.",
    controls=[override("zeroed each epoch", clear=zero_gradient)],
)
def test_without_clearing_a_third_of_the_steps_lead_uphill(trials, evidence, clear=leave_gradient):
    draws = draw_starts(trials)
    path = descend_lines(X, Y, draws, LR, EPOCHS, clear=clear)
    fresh = gradient(lambda params: loss(params).sum(), path[:-1])
    steps = path.diff(dim=0)
    trials.always(((steps + LR * fresh.cumsum(0)).abs() < 1e-6).all(-1).all(0), "steps follow the sum of the gradients")
    uphill = ((steps * fresh).sum(-1) > 0).double().mean(0)
    evidence.observe("share of the steps that lead uphill", uphill)
    trials.always(uphill > 0.25, "uphill in a quarter of the steps or more")
    cleared = loss(descend_lines(X, Y, draws, LR, EPOCHS))
    medians = {"not cleared": loss(path).median(1).values, "zeroed": cleared.median(1).values}
    evidence.curve("loss of the median draw", range(EPOCHS + 1), medians, x_label="epoch")
    top = loss(path)[-10:].amax(0)
    trials.less(100 * cleared[-1], top, name="a hundred times the loss of the zeroed run at the top of a swing")


@claim(
    "pytorch-notes/no-clearing-explodes",
    verdict=REFUTED,
    finding="It swings for ever, never higher than 1/(1 - lr λ/4) times the first loss, 1.2 times at 0.01 and 7.9 at "
    "0.05, and never settles: the sum of all gradients is momentum with factor 1. It explodes only above 4/λ = 0.057, "
    "twice the limit of training with clearing, which does explode at 0.03 and 0.05.",
    controls=[override("zeroed each epoch", clear=zero_gradient)],
    trials=20,
)
@pytest.mark.parametrize("lr", [0.01, 0.03, 0.05])
def test_without_clearing_the_loss_swings_and_does_not_explode(trials, evidence, lr, clear=leave_gradient):
    draws = draw_starts(trials)
    losses = loss(descend_lines(X, Y, draws, lr, 2 * EPOCHS, clear=clear))
    bound = losses[0] / (1 - lr * EXACT.eigenvalues.max() / 4)
    trials.always((losses <= 1.001 * bound).all(0), "bounded")
    trials.always(losses[-100:].amax(0) > 0.5 * losses[0], "does not settle")
    evidence.curve("loss of the first draw", range(2 * EPOCHS + 1), {f"lr = {lr}": losses[:, 0]}, x_label="epoch")
    above = loss(descend_lines(X, Y, draws, 0.06, EPOCHS, clear=leave_gradient))
    trials.always(above[-1] > 1e6 * above[0], "explodes above 4/λ")


def always(epoch):
    return True


def every_second(epoch):
    return epoch % 2 == 0


def plain_sgd(params):
    return torch.optim.SGD(params, lr=0.1)


def sgd_with_momentum(params):
    return torch.optim.SGD(params, lr=0.1, momentum=0.9)


def sgd_with_decay(params):
    return torch.optim.SGD(params, lr=0.1, weight_decay=0.1)


def adam(params):
    return torch.optim.Adam(params, lr=0.1)


def train_two(start, optimizer, set_to_none, in_use):
    """Two parameters after 5 steps, the second of them used by the loss only in the epochs of ``in_use``."""
    params = [value.clone().requires_grad_() for value in start.split(1)]
    stepper = optimizer(params)
    for epoch in range(5):
        stepper.zero_grad(set_to_none=set_to_none)
        used = params if in_use(epoch) else params[:1]
        torch.cat(used).square().sum().backward()
        stepper.step()
    return torch.cat(params).detach()


def same_either_way(start, optimizer, in_use):
    return torch.equal(train_two(start, optimizer, True, in_use), train_two(start, optimizer, False, in_use))


@claim(
    "pytorch-notes/grad-none-equals-grad-zero-any-optimizer",
    verdict=REFUTED,
    finding="Not for a parameter that some steps don't use: an optimizer skips it if its gradient is None, and if it "
    "is zero still applies momentum or weight decay to it. Plain SGD does the same either way, and so does every "
    "optimizer if each step uses all parameters.",
    controls=[override("plain SGD", optimizer=plain_sgd), override("used in every step", in_use=always)],
)
@pytest.mark.parametrize("optimizer", [sgd_with_momentum, sgd_with_decay, adam])
@settings(max_examples=20)
@given(start=tensors((2,), torch.float64, st.integers(1, 9)), in_use=st.just(every_second))
def test_none_and_zero_differ_where_a_parameter_is_not_used(optimizer, start, in_use):
    assert not same_either_way(start, optimizer, in_use)
    assert same_either_way(start, optimizer, always)
    assert same_either_way(start, plain_sgd, every_second)
