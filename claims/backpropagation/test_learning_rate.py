"""Section 14.5: learning rates too large and too small, for a network and for losses of one variable.

The network has 32 hidden neurons and learns 320 of scikit-learn's digits in 20 epochs of batches of 64.
"""

from dataclasses import dataclass
from functools import partial

import hypothesis.strategies as st
import pytest
import torch
from hypothesis import given
from sklearn.datasets import load_digits
from torch import Tensor, nn

from fitcore.ensembles import Ensemble, QuadraticDynamics, cross_entropies, fit
from fitcore.gradients import gradient
from fitcore.models import MLP
from fitcore.testing import claim, override
from fitcore.training import autograd_step, manual_step, train

TRIALS = 54


@dataclass(frozen=True)
class Taught:
    """Mean loss of each epoch, (20, trials), and the share of 397 new digits recognised, (trials,)."""

    losses: Tensor
    accuracy: Tensor


def taught(seeds, optimizer, lr):
    digits = load_digits()
    x, y = torch.tensor(digits.data / 16, dtype=torch.float32), torch.tensor(digits.target)
    ensemble = Ensemble(lambda: MLP([64, 32, 10], nn.ReLU), seeds)
    rows = torch.stack([torch.randperm(1400)[:320] for _ in seeds])
    make = partial(getattr(torch.optim, optimizer), lr=lr)
    curves = fit(ensemble, (x[rows], y[rows]), epochs=20, batch_size=64, optimizer=make, loss=cross_entropies)
    with torch.no_grad():
        recognised = ensemble(ensemble.share(x[1400:])).argmax(-1) == y[1400:]
    return Taught(curves.losses, recognised.float().mean(1))


@pytest.fixture
def teach(shared):
    """``teach(optimizer, lr)``, trained once a session."""
    return lambda optimizer, lr: shared(taught, tuple(shared.seeds(TRIALS).tolist()), optimizer, lr)


@claim(
    "pytorch-notes/lr-too-large-destroys-sgd-training",
    finding="With 10 or 100 no network recognises more than a tenth or so, as by chance, and with 0.3 each does about "
    "four fifths or more.",
    controls=[override("a rate that suits", lr=1.0)],
    trials=TRIALS,
)
@pytest.mark.parametrize("lr", [10.0, 100.0])
def test_far_too_large_a_rate_learns_nothing(teach, trials, evidence, lr):
    large, suitable = teach("SGD", lr), teach("SGD", 0.3)
    evidence.compare("test accuracy", {f"lr = {lr:g}": large.accuracy, "lr = 0.3": suitable.accuracy})
    trials.always(large.accuracy < 0.25, name="nothing learned")
    trials.always(suitable.accuracy > 0.6, name="learned with 0.3")
    trials.always(large.losses[-1] > 1.5, name="not converged")


@claim(
    "pytorch-notes/lr-too-large-gives-exploding-loss",
    finding="With 100 it reaches 35,000 to 56,000 in the first epoch (median), from 2.3. It does not stay there: what "
    "explodes kills the ReLUs, and after 20 epochs it is about 40. And too large need not explode: with 10 nothing is "
    "learned either, but after 20 epochs the loss is 2.4.",
    controls=[override("ten times less", lr=10.0)],
    trials=TRIALS,
)
def test_the_loss_explodes_and_comes_back(teach, trials, evidence, lr=100.0):
    exploded, merely_large = teach("SGD", lr), teach("SGD", 10.0)
    curves = {f"lr = {lr:g}": exploded.losses[:, 0].log10(), "lr = 10": merely_large.losses[:, 0].log10()}
    evidence.curve("log10 of the training loss, first trial", range(1, 21), curves, x_label="epoch")
    evidence.observe("largest loss of an epoch", exploded.losses.amax(0), limit=300)
    trials.mostly(exploded.losses.amax(0) > 300, at_least=0.5, name="more than 300")
    trials.mostly(exploded.losses[-1] < exploded.losses.amax(0) / 10, at_least=0.5, name="a tenth of that in the end")
    trials.always((merely_large.losses[-1] < 4) & (merely_large.accuracy < 0.25), name="10: no explosion, no learning")


@claim(
    "pytorch-notes/lr-too-large-hurts-adam-too",
    finding="With 1 hardly more is recognised than by chance, with 10 no more; with 0.01, 87 % (medians).",
    controls=[override("a rate that suits", lr=0.1)],
    trials=TRIALS,
)
@pytest.mark.parametrize("lr", [1.0, 10.0])
def test_adam_fails_with_a_rate_of_one_or_more(teach, trials, evidence, lr):
    large, suitable = teach("Adam", lr), teach("Adam", 0.01)
    evidence.compare("test accuracy", {f"lr = {lr:g}": large.accuracy, "lr = 0.01": suitable.accuracy})
    trials.mostly(large.accuracy < 0.5, at_least=0.5, name="not even half")
    trials.always(suitable.accuracy > 0.7, name="70 % with 0.01")


@claim(
    "pytorch-notes/lr-too-small-is-slow-14-5",
    finding="After 20 epochs the loss is 2.30 with 0.001, of 2.31 at the start, 2.25 with 0.01 and 0.27 or 0.28 with "
    "0.3 (medians).",
    controls=[override("a rate that suits", lr=1.0)],
    trials=TRIALS,
)
@pytest.mark.parametrize("lr", [0.001, 0.01])
def test_with_a_small_rate_twenty_epochs_are_hardly_a_beginning(teach, trials, evidence, lr):
    small, suitable = teach("SGD", lr), teach("SGD", 0.3)
    curves = {f"lr = {lr:g}": small.losses.median(1).values, "lr = 0.3": suitable.losses.median(1).values}
    evidence.curve("median training loss", range(1, 21), curves, x_label="epoch")
    trials.always(small.losses[-1] < small.losses[0], name="it does learn")
    trials.always(small.losses[-1] > 0.9 * small.losses[0], name="but less than a tenth of the loss has gone")
    trials.always(suitable.losses[-1] < 0.25 * suitable.losses[0], name="with 0.3 three quarters have")


SQUARE = QuadraticDynamics.from_regression(torch.ones(1, 1), torch.zeros(1))  # w², of curvature 2


def steps_to_target(lr):
    """Updates until w² < 1e-6 from w = 1: w is multiplied by 1 - 2 lr each time."""
    return torch.log(torch.tensor(1e-3, dtype=torch.float64)) / torch.log1p(torch.tensor(-2 * lr, dtype=torch.float64))


@claim(
    "pytorch-notes/lr-too-small-never-reaches-optimum",
    finding="However long the training, some rate is too small for it: w² < 1e-6 takes 3.45 / lr updates, 31 with 0.1 "
    "and 34,536 with 1e-4. The time is finite for every rate, but each tenth of the rate takes ten times as long.",
    controls=[override("more than the budget asks for", share=1.05)],
)
@given(budget=st.integers(20, 10**7), share=st.floats(1e-3, 0.95) | st.just(0.95))
def test_for_any_number_of_updates_a_rate_is_too_small(budget, share, evidence):
    needed = -torch.expm1(torch.tensor(1e-3, dtype=torch.float64).log() / budget) / 2  # w is 1e-3 after the budget
    start = torch.ones(1, dtype=torch.float64)
    assert SQUARE.losses(start, (share * needed).item(), [budget]) > 1e-6 * (1 + 1e-3)
    assert SQUARE.losses(start, (1.01 * needed).item(), [budget]) < 1e-6
    rows = [{"lr": lr, "updates": steps_to_target(lr).ceil().item()} for lr in (0.1, 0.01, 1e-3, 1e-4)]
    evidence.table("updates until w² < 1e-6", rows)


@claim(
    "pytorch-notes/tiny-rate-stands-still-in-float32",
    finding="Below half the distance of neighbouring numbers an update is rounded away, and the next one too: with a "
    "rate of 1e-9 no parameter of float32 moved. In float64 all did.",
    controls=[override("in float64", dtype=torch.float64)],
)
@given(start=st.floats(1, 2, exclude_max=True, width=32), target=st.floats(3, 8), dtype=st.just(torch.float32))
def test_steps_below_the_precision_lead_nowhere(start, target, dtype):
    moved = {}
    for kind in (dtype, torch.float64):
        weight = torch.tensor([start], dtype=kind, requires_grad=True)
        trajectory = train(autograd_step(lambda w: (w - target).square().sum(), weight, 1e-9), 5).trajectory
        moved[kind] = trajectory[-1] != trajectory[0]
    assert moved[torch.float64]
    assert not moved[dtype]


def two_valleys(w):
    return (w**2 - 1) ** 2 + 0.3 * w


def one_valley(w):
    return (w + 1) ** 2


@claim(
    "pytorch-notes/lr-too-small-stuck-in-suboptimum",
    finding="From w = 1.5 it ends in the higher of the two valleys, at 0.29, and 0.2 leaps out of it at the first "
    "update, to the lowest point, -0.31. But the valley holds 0.05 and 0.15 as well, which aren't small: what gets "
    "stuck is any rate too small to leap. Where there is one valley, the small one is merely slow.",
    controls=[
        override("a loss with one valley", loss=one_valley),
        override("a rate that leaps", rates=(0.2,)),
    ],
)
def test_a_rate_too_small_to_leap_stays_in_the_higher_valley(
    evidence, loss=two_valleys, rates=(0.005, 0.01, 0.05, 0.15)
):
    def slopes(w):
        return gradient(lambda v: loss(v).sum(), w)

    lr = torch.tensor([*rates, 0.2], dtype=torch.float64)
    start = torch.full_like(lr, 1.5)
    w = train(manual_step(lambda w: (loss(w), slopes(w)), start, lr), 1_500).params
    rows = zip(lr, w, loss(w), strict=True)
    evidence.table("after 1,500 updates", [{"lr": rate, "w": at, "loss": value} for rate, at, value in rows])
    assert (slopes(w).abs() < 1e-6).all()
    assert (loss(w)[:-1] > loss(w)[-1] + 0.5).all()
