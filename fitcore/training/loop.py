"""The training loop: one update an epoch."""

from collections.abc import Callable

import torch
from torch import Tensor

from fitcore.training.descent import Descent
from fitcore.training.steps import Step


def train(
    step: Step,
    epochs: int,
    validation: Callable[[Tensor], Tensor] | None = None,
    stop_when_fixed: bool = False,
) -> Descent:
    """Call ``step`` once an epoch and record what it does. A second call continues where the step stands.

    Args:
        step: moves its parameters and returns the loss before the move.
        epochs: how many updates to make, at least 1.
        validation: evaluated under ``torch.no_grad`` before each update, where the training loss is.
        stop_when_fixed: end after the first update that leaves every parameter as it was. A step whose only state
            is its parameters would never move them again: the epochs left out could only repeat the last one.

    Raises:
        ValueError: if ``epochs`` is less than 1.

    """
    if epochs < 1:
        raise ValueError(f"epochs must be at least 1, got {epochs}")
    losses, validation_losses, trajectory = [], [], [step.params.detach().clone()]
    for _ in range(epochs):
        if validation is not None:
            with torch.no_grad():
                validation_losses.append(validation(step.params))
        losses.append(step())
        trajectory.append(step.params.detach().clone())
        if stop_when_fixed and torch.equal(trajectory[-1], trajectory[-2]):
            break
    return Descent(
        losses=torch.stack(losses),
        validation_losses=torch.stack(validation_losses) if validation_losses else None,
        trajectory=torch.stack(trajectory),
    )
