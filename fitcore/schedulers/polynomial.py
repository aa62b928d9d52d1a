"""Polynomial decay to a smallest rate."""

from typing import Any

from torch.optim import Optimizer
from torch.optim.lr_scheduler import LRScheduler

from fitcore.schedulers.closed_forms import polynomial_decay
from fitcore.schedulers.validation import check_rates, check_span


class PolynomialDecayLR(LRScheduler):
    """From the optimizer's rate to ``min_lr`` as a power of the time that is left; ``min_lr`` stays.

    See `polynomial_decay` for the formula. ``torch.optim.lr_scheduler.PolynomialLR`` is the same with min_lr = 0.

    Args:
        optimizer: whose rates are the first.
        total_epochs: until min_lr is reached, at least 1.
        power: 1 is a line, less stays high for longer.
        min_lr: the last rate, of all parameter groups.
        last_epoch: where to resume, as in torch's schedulers.

    Raises:
        ValueError: no epochs, a power that isn't positive, or a rate that makes no sense.
    """

    base_lrs: list[Any]  # floats, or tensors where the optimizer has those

    def __init__(
        self,
        optimizer: Optimizer,
        total_epochs: int,
        *,
        power: float = 0.9,
        min_lr: float = 0.0,
        last_epoch: int = -1,
    ) -> None:
        check_span(0, total_epochs)
        if not power > 0:
            raise ValueError(f"power must be positive, got {power}")
        check_rates(optimizer, min_lr=min_lr)
        self.total_epochs, self.power, self.min_lr = int(total_epochs), float(power), float(min_lr)
        super().__init__(optimizer, last_epoch)

    def get_lr(self) -> list[Any]:
        """The rates of this epoch, one a parameter group; `get_last_lr` is what to call from outside."""
        return [
            polynomial_decay(lr, self.total_epochs, self.power, self.min_lr)(self.last_epoch) for lr in self.base_lrs
        ]
