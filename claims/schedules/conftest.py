"""The schedulers of section 17.2 as its demo makes them, and what schedules do to SGD on noisy least squares."""

from collections.abc import Callable

import pytest
import torch
from torch import Tensor
from torch.optim import SGD, Optimizer
from torch.optim.lr_scheduler import (
    CosineAnnealingLR,
    CosineAnnealingWarmRestarts,
    CyclicLR,
    ExponentialLR,
    LambdaLR,
    LRScheduler,
    MultiStepLR,
    OneCycleLR,
    ReduceLROnPlateau,
    StepLR,
)

from fitcore.ensembles.least_squares import excess_losses
from fitcore.schedulers import learning_rates

DEMO: dict[str, Callable[[Optimizer], LRScheduler | ReduceLROnPlateau]] = {
    "StepLR": lambda optimizer: StepLR(optimizer, step_size=30, gamma=0.1),
    "MultiStepLR": lambda optimizer: MultiStepLR(optimizer, milestones=[30, 60, 90], gamma=0.1),
    "ExponentialLR": lambda optimizer: ExponentialLR(optimizer, gamma=0.95),
    "CosineAnnealingLR": lambda optimizer: CosineAnnealingLR(optimizer, T_max=100),
    "ReduceLROnPlateau": lambda optimizer: ReduceLROnPlateau(optimizer, mode="min", factor=0.1, patience=10),
    "CosineAnnealingWarmRestarts": lambda optimizer: CosineAnnealingWarmRestarts(optimizer, T_0=20, T_mult=2),
    "CyclicLR": lambda optimizer: CyclicLR(optimizer, 0.001, 0.1, step_size_up=20, mode="triangular"),
    "OneCycleLR": lambda optimizer: OneCycleLR(optimizer, max_lr=0.1, total_steps=100),
}


@pytest.fixture(scope="session")
def demo():
    """``demo[name](optimizer)`` makes a scheduler with the demo's settings."""
    return DEMO


def still(lr: float) -> SGD:
    return SGD([torch.zeros(1, requires_grad=True)], lr=lr)


@pytest.fixture(scope="session")
def sgd():
    """``sgd(lr)`` makes plain SGD on a parameter that gets no gradient."""
    return still


def backwards(optimizer: Optimizer, epochs: int) -> LRScheduler:
    """The cosine from its end to its beginning."""
    fall = learning_rates(CosineAnnealingLR(still(1.0), T_max=epochs), epochs)[:, 0].tolist()
    return LambdaLR(optimizer, lambda epoch: fall[max(epochs - 1 - epoch, 0)])


# Of an optimizer with the highest rate, which but for the rising ones is also the first, and the number of epochs.
SCHEDULES: dict[str, Callable[[SGD, int], LRScheduler]] = {
    "constant": lambda optimizer, _: LambdaLR(optimizer, lambda _: 1.0),
    "cosine": lambda optimizer, epochs: CosineAnnealingLR(optimizer, T_max=epochs),
    "steps": lambda optimizer, epochs: StepLR(optimizer, round(0.35 * epochs), 0.3),
    "warm restarts": lambda optimizer, epochs: CosineAnnealingWarmRestarts(optimizer, T_0=epochs // 2),
    "one cycle": lambda optimizer, epochs: OneCycleLR(optimizer, optimizer.defaults["lr"], epochs),
    "cyclic": lambda optimizer, epochs: CyclicLR(optimizer, 1e-4, optimizer.defaults["lr"], epochs // 4),
    "rising": backwards,
}
Arms = tuple[tuple[str, float], ...]
ARMS: Arms = (
    *((name, 0.02) for name in SCHEDULES),
    *(("constant", lr) for lr in (0.001, 0.002, 0.005, 0.01, 0.04)),
    *(("cosine", lr) for lr in (0.002, 0.01, 0.04)),
)


def descend(copies: int, batch_size: int | None, epochs: int, arms: Arms) -> dict[tuple[str, float], Tensor]:
    x = torch.randn(copies, 500, 20)
    y = (x @ torch.randn(copies, 20, 1))[..., 0] + torch.randn(copies, 500)
    rates = torch.stack([learning_rates(SCHEDULES[name](still(lr), epochs), epochs)[:, 0] for name, lr in arms])
    return dict(zip(arms, excess_losses(x, y, rates, batch_size), strict=True))


@pytest.fixture
def excess(shared, trials):
    """``excess(batch_size=8, epochs=20)[schedule, lr]``: training loss above its minimum after each epoch.

    500 samples of 20 Gaussian features, label noise of variance 1: a tensor (trials, epochs) for each schedule with its
    highest rate, all from w = 0 on the same data in the same order.
    """
    return lambda batch_size=8, epochs=20, arms=ARMS: shared(descend, trials.count, batch_size, epochs, arms)
