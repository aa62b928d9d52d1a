"""What a scheduler does to its optimizer."""

import warnings
from collections.abc import Callable, Sequence
from typing import cast

import torch
from torch import Tensor
from torch.optim.lr_scheduler import LRScheduler, ReduceLROnPlateau


def learning_rates(
    scheduler: LRScheduler | ReduceLROnPlateau, epochs: int, losses: Sequence[float] | None = None
) -> Tensor:
    """The learning rates under which a training of some epochs would run, without training anything.

    In every epoch the rate is read, and the scheduler makes a step; the optimizer would have made its own in between.

    Args:
        scheduler: any, with the optimizer that it was made for.
        epochs: how many.
        losses: what ``ReduceLROnPlateau`` sees after each epoch; by default no scheduler sees any.

    Returns:
        (epochs, parameter groups), float64.
    """
    groups, step = scheduler.optimizer.param_groups, cast(Callable[..., None], scheduler.step)
    rates = []
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "Detected call of `lr_scheduler.step\\(\\)` before", UserWarning)
        for epoch in range(epochs):
            rates.append([float(group["lr"]) for group in groups])
            step(*([] if losses is None else [losses[epoch]]))
    return torch.tensor(rates, dtype=torch.float64).view(epochs, len(groups))
