"""What a descent leaves behind."""

from dataclasses import dataclass

from torch import Tensor


@dataclass(frozen=True)
class Descent:
    """The record of T updates of a handful of parameters.

    Attributes:
        losses: (T,), each before its update, as a loop prints them.
        validation_losses: (T,), taken beside the losses, or None.
        trajectory: (T + 1, ...), the parameters after 0, 1, ..., T updates.

    """

    losses: Tensor
    validation_losses: Tensor | None
    trajectory: Tensor

    @property
    def params(self) -> Tensor:
        """The parameters after the last update."""
        return self.trajectory[-1]
