"""Sections 17.1 and 17.2: the learning rate of each of the hundred epochs, as a formula."""

import hypothesis.strategies as st
import numpy as np
import pytest
import torch
from hypothesis import given, settings
from torch.optim import Adam
from torch.optim.lr_scheduler import (
    CosineAnnealingLR,
    CosineAnnealingWarmRestarts,
    CyclicLR,
    ExponentialLR,
    MultiStepLR,
    OneCycleLR,
    StepLR,
)

from fitcore.schedulers import (
    cosine_annealing,
    cosine_warm_restarts,
    cyclic,
    exponential_decay,
    learning_rates,
    multi_step_decay,
    one_cycle,
    step_decay,
)
from fitcore.testing import claim, override, parameter

EPOCHS = np.arange(100)


def restarting_cosine(epoch):
    """Cycles of 20, 40 and 80 epochs, which begin at 0, 20 and 60."""
    start, length = np.select([epoch < 20, epoch < 60], [0, 20], 60), np.select([epoch < 20, epoch < 60], [20, 40], 80)
    return 0.05 * (1 + np.cos(np.pi * (epoch - start) / length))


def triangle(epoch):
    cycle = np.floor(1 + epoch / 40)
    return 0.001 + 0.099 * np.maximum(0, 1 - np.abs(epoch / 20 - 2 * cycle + 1))


def up_and_down(epoch):
    """Half a cosine up to epoch 29, and another down to epoch 99."""
    up, down = (1 - np.cos(np.pi * epoch / 29)) / 2, (1 + np.cos(np.pi * (epoch - 29) / 70)) / 2
    return np.where(epoch <= 29, 0.004 + 0.096 * up, 4e-7 + (0.1 - 4e-7) * down)


PRINTED = {
    "pytorch-notes/steplr-20-half-closed-form": ("StepLR(20)", lambda e: 0.01 * 0.5 ** (e // 20)),
    "pytorch-notes/steplr-30-closed-form": ("StepLR", lambda e: 0.1 * 0.1 ** (e // 30)),
    "pytorch-notes/multisteplr-closed-form": (
        "MultiStepLR",
        lambda e: 0.1 * 0.1 ** ((e >= 30) * 1.0 + (e >= 60) + (e >= 90)),
    ),
    "pytorch-notes/exponential-closed-form": ("ExponentialLR", lambda e: 0.1 * 0.95**e),
    "pytorch-notes/cosine-closed-form": ("CosineAnnealingLR", lambda e: 0.05 * (1 + np.cos(np.pi * e / 100))),
    "pytorch-notes/warm-restarts-closed-form": ("CosineAnnealingWarmRestarts", restarting_cosine),
    "pytorch-notes/cyclic-closed-form": ("CyclicLR", triangle),
    "pytorch-notes/onecycle-closed-form": ("OneCycleLR", up_and_down),
}


@claim(
    parameter("statement"),
    finding="To ten digits in each of the 100 epochs.",
    controls=[override("stepped every second epoch", held=2)],
)
@pytest.mark.parametrize("statement", PRINTED)
def test_the_rates_are_those_of_the_formula(statement, demo, sgd, evidence, held=1):
    name, formula = PRINTED[statement]
    with_adam = StepLR(Adam([torch.zeros(1, requires_grad=True)], lr=0.01), step_size=20, gamma=0.5)
    scheduler = with_adam if name == "StepLR(20)" else demo[name](sgd(0.1))
    rates = learning_rates(scheduler, 100 // held)[:, 0].repeat_interleave(held)
    expected = torch.from_numpy(formula(EPOCHS))
    evidence.curve("learning rate", EPOCHS, {name: rates, "formula": expected}, x_label="epoch")
    torch.testing.assert_close(rates, expected, rtol=1e-10, atol=1e-16)


gammas = st.floats(0.1, 0.99)
low = st.floats(0, 1e-3)
FAMILIES = {
    "steplr-20-half": (StepLR, step_decay, st.tuples(st.integers(1, 40), gammas)),
    "steplr-30": (StepLR, step_decay, st.tuples(st.integers(1, 40), gammas)),
    "multisteplr": (MultiStepLR, multi_step_decay, st.tuples(st.lists(st.integers(1, 40), min_size=1), gammas)),
    "exponential": (ExponentialLR, exponential_decay, st.tuples(gammas)),
    "cosine": (CosineAnnealingLR, cosine_annealing, st.tuples(st.integers(2, 40), low)),
    "warm-restarts": (
        CosineAnnealingWarmRestarts,
        cosine_warm_restarts,
        st.tuples(st.integers(2, 20), st.integers(1, 3), low),
    ),
    "cyclic": (
        lambda optimizer, high, up: CyclicLR(optimizer, 0.01, high, up),
        lambda _, high, up: cyclic(0.01, high, up),
        st.tuples(st.floats(0.1, 1), st.integers(2, 20)),
    ),
    "onecycle": (
        lambda optimizer, high, start: OneCycleLR(optimizer, high, 50, pct_start=start),
        lambda _, high, start: one_cycle(high, 50, pct_start=start),
        st.tuples(st.floats(0.1, 1), st.floats(0.1, 0.9)),
    ),
}


@claim(
    parameter("statement"),
    finding="So it is from other rates and with other settings of the same kind, wherever the training stops.",
    controls=[override("stepped every second epoch", held=2)],
)
@pytest.mark.parametrize("statement", [f"pytorch-notes/{name}-closed-form" for name in FAMILIES])
@settings(max_examples=12)
@given(data=st.data(), lr=st.floats(0.01, 1), held=st.just(1))
def test_the_same_formula_holds_with_other_settings(statement, sgd, data, lr, held):
    make, form, family = FAMILIES[statement.removeprefix("pytorch-notes/").removesuffix("-closed-form")]
    drawn = data.draw(family)
    rates = learning_rates(make(sgd(lr), *drawn), 50 // held)[:, 0].repeat_interleave(held)
    assert rates.tolist() == pytest.approx([form(lr, *drawn)(epoch) for epoch in range(50)], rel=1e-9, abs=1e-12)
