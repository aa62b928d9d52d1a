"""Section 17.1: the scheduler's step, which nothing else stands in for, and its place after the optimizer's."""

import warnings

import hypothesis.strategies as st
import pytest
from hypothesis import given
from torch.optim.lr_scheduler import LambdaLR, LinearLR, StepLR

from fitcore.schedulers import learning_rates, step_decay
from fitcore.testing import claim, override

OTHERS = {
    "LambdaLR": lambda optimizer: LambdaLR(optimizer, lambda epoch: 1 / (1 + epoch)),
    "LinearLR": lambda optimizer: LinearLR(optimizer, 0.25),
}
FALLING = ["StepLR", "MultiStepLR", "ExponentialLR", "CosineAnnealingLR", "CosineAnnealingWarmRestarts", "LambdaLR"]
SETTING_ANOTHER = ["CyclicLR", "OneCycleLR", "LinearLR"]


def trained_only(optimizer, scheduler):
    optimizer.step()


def trained_and_scheduled(optimizer, scheduler):
    optimizer.step()
    scheduler.step()


@claim(
    "pytorch-notes/scheduler-step-required",
    finding="The rate stays what the scheduler made it when it was built. That is the optimizer's own for those that "
    "start from it; CyclicLR, OneCycleLR, LinearLR and the like set another at once.",
    controls=[override("the scheduler stepped", epoch=trained_and_scheduled)],
)
@pytest.mark.parametrize("name", [*FALLING, *SETTING_ANOTHER])
@given(lr=st.floats(0.01, 1), epoch=st.just(trained_only))
def test_without_its_step_a_scheduler_never_changes_the_rate(name, demo, sgd, lr, epoch):
    optimizer = sgd(lr)
    scheduler = (demo | OTHERS)[name](optimizer)
    first = optimizer.param_groups[0]["lr"]
    for _ in range(40):
        epoch(optimizer, scheduler)
        assert optimizer.param_groups[0]["lr"] == first
    assert (first == lr) == (name in FALLING)
    assert len(learning_rates(scheduler, 50).unique()) > 1


def scheduler_first(optimizer, scheduler):
    scheduler.step()
    used = optimizer.param_groups[0]["lr"]
    optimizer.step()
    return used


def optimizer_first(optimizer, scheduler):
    used = optimizer.param_groups[0]["lr"]
    trained_and_scheduled(optimizer, scheduler)
    return used


@claim(
    "pytorch-notes/scheduler-order-skips-first-value",
    finding="The rates are those of epochs 1, 2, 3, ... instead of 0, 1, 2, ...: StepLR(20) halves after 19 epochs. "
    "torch warns, once; in the right order it does not.",
    controls=[override("the optimizer first", order=optimizer_first)],
)
@given(
    lr=st.floats(0.01, 1),
    decay=st.tuples(st.integers(1, 20), st.floats(0.1, 0.9)),
    epochs=st.integers(1, 25),
    order=st.just(scheduler_first),
)
def test_the_scheduler_before_the_optimizer_skips_the_first_rate(lr, decay, epochs, order, sgd):
    def used(order):
        optimizer = sgd(lr)
        scheduler = StepLR(optimizer, *decay)
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            rates = [order(optimizer, scheduler) for _ in range(epochs)]
        return rates, [warning for warning in caught if "skipping the first value" in str(warning.message)]

    rate = step_decay(lr, *decay)
    (skipping, warned), (whole, silent) = used(order), used(optimizer_first)
    assert skipping == pytest.approx([rate(epoch + 1) for epoch in range(epochs)])
    assert whole == pytest.approx([rate(epoch) for epoch in range(epochs)])
    assert (len(warned), len(silent)) == (1, 0)
