"""What a training run leaves behind."""

from dataclasses import dataclass

from torch import Tensor


@dataclass(frozen=True)
class History:
    """The record of a training run of T epochs, in float64.

    Attributes:
        losses: (T,), means over each epoch's samples of the loss before the update that they took part in.
        validation_losses: (T,), after each epoch, in evaluation mode; None without validation data.
        metrics: for each metric (T,), taken where ``losses`` are.
        validation_metrics: for each metric (T,), taken where ``validation_losses`` are; empty without such data.
        learning_rates: (T,), that of the first parameter group at the start of each epoch.
        gradient_norms: norm before clipping in each update of the run, (updates,); None where nothing is clipped.
        best_epoch: number of epochs after which the model was what it is left as: where early stopping is used that of
            the lowest validation loss, else T.
    """

    losses: Tensor
    validation_losses: Tensor | None
    metrics: dict[str, Tensor]
    validation_metrics: dict[str, Tensor]
    learning_rates: Tensor
    gradient_norms: Tensor | None
    best_epoch: int
