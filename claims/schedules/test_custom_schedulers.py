"""Section 17.3: warm-up with cosine annealing and polynomial decay, written as subclasses of torch's schedulers."""

import io
import math
import pickle
import warnings

import hypothesis.strategies as st
import numpy as np
import pytest
import torch
from hypothesis import example, given, settings
from torch.optim import SGD
from torch.optim.lr_scheduler import LRScheduler

from fitcore.schedulers import (
    WarmupCosineLR,
    learning_rates,
    polynomial_decay,
    warmup_cosine,
)
from fitcore.seeding import seeded
from fitcore.testing import REFUTED, claim, error_of, override, replace

EPOCHS = np.arange(100)


class Printed(torch.optim.lr_scheduler._LRScheduler):
    """What the listing's two schedulers have in common: ``total`` epochs, a smallest rate, and no bound on either."""

    def __init__(self, optimizer, *, total=100, low=1e-4, **settings):
        self.total, self.low = total, low
        self.__dict__.update(settings)
        super().__init__(optimizer)

    def get_lr(self):
        return [self.rate(lr, self.last_epoch) for lr in self.base_lrs]


class PrintedWarmup(Printed):
    """NumPy's cosine, as in the listing."""

    warmup = 10
    cosine = staticmethod(np.cos)

    def rate(self, lr, epoch):
        if epoch < self.warmup:
            return lr * (epoch / self.warmup)
        progress = (epoch - self.warmup) / (self.total - self.warmup)
        return self.low + (lr - self.low) * (0.5 * (1 + self.cosine(np.pi * progress)))


class WithMathCosine(PrintedWarmup):
    """Python's own cosine instead."""

    cosine = staticmethod(math.cos)


class PrintedPolynomial(Printed):
    """The power of what is left."""

    power = 0.9

    def rate(self, lr, epoch):
        return self.low + (lr - self.low) * (1 - min(epoch / self.total, 1.0)) ** self.power


class Forgetful(Printed):
    """A rate that never changes."""

    def rate(self, lr, epoch):
        return lr


def clamped(optimizer, *, total=100):
    return WarmupCosineLR(optimizer, 10, total, min_lr=1e-4)


@claim(
    "pytorch-notes/warmup-cosine-closed-form",
    finding="For any rate, warm-up and length, within total_epochs: with a warm-up of at least one epoch the first "
    "rate is 0, the highest comes in epoch warmup_epochs, and total_epochs itself is the first with min_lr.",
    controls=[override("a rate that never changes", make=Forgetful)],
)
@example(lr=0.1, warmup=10, total=100, make=PrintedWarmup)
@given(lr=st.floats(0.01, 1), warmup=st.integers(0, 20), total=st.integers(21, 100), make=st.just(PrintedWarmup))
def test_a_line_up_and_a_cosine_down(sgd, lr, warmup, total, make):
    printed = learning_rates(PrintedWarmup(sgd(0.1)), 100)[:, 0].tolist()
    cosine = 1e-4 + (0.1 - 1e-4) * (1 + np.cos(np.pi * (EPOCHS - 10) / 90)) / 2
    assert printed == pytest.approx(np.where(EPOCHS < 10, 0.1 * EPOCHS / 10, cosine))
    rates = learning_rates(make(sgd(lr), warmup=warmup, total=total), total + 1)[:, 0].tolist()
    assert rates == pytest.approx([warmup_cosine(lr, warmup, total, 1e-4)(epoch) for epoch in range(total + 1)])


@claim(
    "pytorch-notes/polynomial-closed-form",
    finding="For any rate, power and length, and without end; with min_lr = 0 it is torch's own PolynomialLR.",
    controls=[override("a rate that never changes", make=Forgetful)],
)
@example(lr=0.1, power=0.9, total=100, make=PrintedPolynomial)
@given(lr=st.floats(0.01, 1), power=st.floats(0.3, 3), total=st.integers(1, 100), make=st.just(PrintedPolynomial))
def test_a_power_of_the_time_left_and_then_the_smallest_rate(sgd, lr, power, total, make):
    printed = learning_rates(PrintedPolynomial(sgd(0.1)), 100)[:, 0].tolist()
    assert printed == pytest.approx(1e-4 + (0.1 - 1e-4) * (1 - EPOCHS / 100) ** 0.9)
    rates = learning_rates(make(sgd(lr), power=power, total=total), total + 50)[:, 0].tolist()
    assert rates == pytest.approx([polynomial_decay(lr, total, power, 1e-4)(epoch) for epoch in range(total + 50)])
    assert rates[total:] == [1e-4] * 50
    torch_has = torch.optim.lr_scheduler.PolynomialLR(sgd(lr), total, power)
    without = learning_rates(make(sgd(lr), power=power, total=total, low=0.0), total + 50)
    torch.testing.assert_close(without, learning_rates(torch_has, total + 50), rtol=1e-9, atol=1e-12)


@claim(
    "pytorch-notes/warmup-cosine-stays-at-min",
    verdict=REFUTED,
    finding="The cosine goes on: after total_epochs the rate rises again as it fell, and is the highest once more "
    "total_epochs - warmup_epochs later. Without the fraction bounded by 1, as the listing's polynomial has it, only "
    "epoch total_epochs has min_lr.",
    controls=[override("the fraction bounded by 1", make=clamped)],
)
@example(total=100, make=PrintedWarmup)
@given(total=st.integers(20, 100), make=st.just(PrintedWarmup))
def test_after_the_last_epoch_the_warm_up_cosine_rises_again(sgd, total, make):
    falling = total - 10
    after = learning_rates(make(sgd(0.1), total=total), total + falling + 1)[total:, 0]
    assert after[0].item() == pytest.approx(1e-4)
    assert (after.diff() > 0).all()
    assert after[-1].item() == pytest.approx(0.1)
    assert learning_rates(clamped(sgd(0.1), total=total), 2 * total)[total:, 0].tolist() == [1e-4] * total


def moved_in_the_first_epoch(seed, make):
    """Whether ten updates of a linear model move any of its weights."""
    with seeded(seed):
        x, y, model = torch.randn(10, 8, 10), torch.randn(10, 8, 1), torch.nn.Linear(10, 1)
    optimizer, before = SGD(model.parameters(), lr=0.1), model.weight.detach().clone()
    make(optimizer)
    for batch, targets in zip(x, y, strict=True):
        optimizer.zero_grad()
        (model(batch) - targets).square().mean().backward()
        optimizer.step()
    return not torch.equal(model.weight, before)


def from_a_tenth(optimizer):
    return WarmupCosineLR(optimizer, 10, 100, min_lr=1e-4, start_lr=0.01)


@claim(
    "pytorch-notes/warmup-first-epoch-lr-zero",
    verdict=REFUTED,
    finding="Its rate is 0 / 10: all updates of the first epoch leave every bit of the weights as it was (in the "
    "listing a second scheduler on the same optimizer covers this up). A warm-up that begins with a tenth of the rate "
    "trains from the start.",
    controls=[override("a warm-up from 0.01", make=from_a_tenth)],
)
@settings(max_examples=10)
@given(seed=st.integers(0, 2**31), make=st.just(PrintedWarmup))
def test_the_first_epoch_of_the_warm_up_trains_nothing(seed, make):
    assert not moved_in_the_first_epoch(seed, make)
    assert moved_in_the_first_epoch(seed, from_a_tenth)


def on_one_optimizer(sgd, lr=0.1, warmup=PrintedWarmup):
    optimizer = sgd(lr)
    return optimizer, warmup(optimizer), PrintedPolynomial(optimizer)


def on_two_optimizers(sgd, lr):
    optimizer = sgd(lr)
    return optimizer, PrintedWarmup(optimizer), PrintedPolynomial(sgd(lr))


@claim(
    "pytorch-notes/two-schedulers-one-optimizer",
    verdict=REFUTED,
    finding="Whichever is built last sets the rate. So the first epoch of the listing runs at the polynomial's 0.1, "
    "while the warm-up's get_last_lr() still says 0; from its first step on the warm-up has its way.",
    controls=[override("an optimizer each", build=on_two_optimizers)],
)
@example(lr=0.1, build=on_one_optimizer)
@given(lr=st.floats(0.01, 1), build=st.just(on_one_optimizer))
def test_the_scheduler_built_last_sets_the_first_rate(sgd, lr, build):
    optimizer, warmup, polynomial = build(sgd, lr)
    assert warmup.get_last_lr() == [0.0]
    assert optimizer.param_groups[0]["lr"] == polynomial.get_last_lr()[0] == pytest.approx(lr)
    optimizer.step()
    warmup.step()
    assert optimizer.param_groups[0]["lr"] == warmup.get_last_lr()[0] == pytest.approx(lr / 10)
    other = sgd(lr)
    PrintedPolynomial(other)
    PrintedWarmup(other)
    assert other.param_groups[0]["lr"] == 0.0


def listing(sgd, warmup=PrintedWarmup):
    """The two curves of the listing, for whose polynomial an optimizer of its own is made in the first epoch."""
    optimizer, warming, polynomial = on_one_optimizer(sgd, 0.1, warmup)
    curves = {"warm-up, cosine": [], "polynomial": []}
    for epoch in range(100):
        curves["warm-up, cosine"].append(warming.get_last_lr()[0])
        curves["polynomial"].append(polynomial.get_last_lr()[0])
        optimizer.step()
        warming.step()
        if epoch == 0:
            polynomial = PrintedPolynomial(sgd(0.1))
        polynomial.step()
    return curves


def only_warming_up(optimizer):
    """A training as long as its warm-up, whose cosine has no epochs to divide by."""
    return PrintedWarmup(optimizer, total=10)


@claim(
    "pytorch-notes/listing-custom-schedulers-runs",
    finding="The underscored base class is still there. One warning comes with it: the polynomial's own optimizer "
    "never makes a step, so torch takes the scheduler's for one in the wrong order.",
    controls=[
        override("as many epochs as the warm-up has", warmup=only_warming_up),
        replace("torch.optim.lr_scheduler._LRScheduler", object, "the underscored class gone"),
    ],
)
def test_the_listing_runs_with_one_warning(sgd, warmup=PrintedWarmup):
    assert issubclass(torch.optim.lr_scheduler._LRScheduler, LRScheduler)
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        assert error_of(listing, sgd, warmup) is None
    assert [warning.category for warning in caught] == [UserWarning]
    assert "before `optimizer.step()`" in str(caught[0].message)


@claim(
    "pytorch-notes/custom-lr-curves-plotted-correct",
    finding="Both formulas depend on the epoch alone, so that the polynomial, built anew in the first epoch, catches "
    "up at once. Only the warm-up's first point is not what the optimizer had in that epoch.",
    controls=[override("a rate that never changes", warmup=Forgetful)],
)
@pytest.mark.filterwarnings("ignore:Detected call of `lr_scheduler.step")
def test_both_plotted_curves_are_the_closed_forms(sgd, evidence, warmup=PrintedWarmup):
    curves = listing(sgd, warmup)
    evidence.curve("learning rate", EPOCHS, curves, x_label="epoch")
    up_and_down, power = warmup_cosine(0.1, 10, 100, 1e-4), polynomial_decay(0.1, 100, 0.9, 1e-4)
    assert curves["warm-up, cosine"] == pytest.approx([up_and_down(epoch) for epoch in range(100)], rel=1e-12)
    assert curves["polynomial"] == pytest.approx([power(epoch) for epoch in range(100)], rel=1e-12)


def reloaded(state):
    file = io.BytesIO()
    torch.save(state, file)
    file.seek(0)
    return torch.load(file)


@claim(
    "pytorch-notes/numpy-lr-breaks-checkpoint-loading",
    verdict=REFUTED,
    finding="Only what is saved within the warm-up does. From its end on the rate is a number of NumPy's, in the state "
    "of the scheduler and of the optimizer, and torch.load, which since 2.6 takes plain data alone, refuses both. "
    "math.cos in place of np.cos mends it, and the polynomial, without NumPy, never had the fault.",
    controls=[override("math.cos", make=WithMathCosine)],
)
@example(epochs=10, make=PrintedWarmup)
@given(epochs=st.integers(10, 120), make=st.just(PrintedWarmup))
def test_numpy_rates_are_refused_by_torch_load(sgd, epochs, make):
    def states(kind, epochs):
        scheduler = kind(sgd(0.1))
        learning_rates(scheduler, epochs)
        return scheduler.state_dict(), scheduler.optimizer.state_dict()

    for state in states(make, epochs):
        error = error_of(reloaded, state)
        assert isinstance(error, pickle.UnpicklingError)
        assert "numpy" in str(error)
    safe = [*states(make, epochs % 10), *states(WithMathCosine, epochs), *states(PrintedPolynomial, epochs)]
    assert [error_of(reloaded, state) for state in safe] == [None] * 6
