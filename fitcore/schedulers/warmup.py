"""Warm-up, then cosine annealing."""

from typing import Any

from torch.optim import Optimizer
from torch.optim.lr_scheduler import LRScheduler

from fitcore.schedulers.closed_forms import warmup_cosine
from fitcore.schedulers.validation import check_rates, check_span


class WarmupCosineLR(LRScheduler):
    """A line from ``start_lr`` to the optimizer's rate, from there a cosine to ``min_lr``, which stays.

    See `warmup_cosine` for the formula. An epoch may as well be a batch, where `step` is called after each. From
    start_lr = 0, the usual default, the first of them trains nothing: with epochs choose another.

    Args:
        optimizer: whose rates are the highest.
        warmup_epochs: until the highest rate is reached, 0 for no warm-up.
        total_epochs: until min_lr is reached, more than ``warmup_epochs``.
        min_lr: the last rate, of all parameter groups.
        start_lr: the first rate, of all parameter groups.
        last_epoch: where to resume, as in torch's schedulers.

    Raises:
        ValueError: a number of epochs or a rate that makes no sense.
    """

    base_lrs: list[Any]  # floats, or tensors where the optimizer has those

    def __init__(
        self,
        optimizer: Optimizer,
        warmup_epochs: int,
        total_epochs: int,
        *,
        min_lr: float = 0.0,
        start_lr: float = 0.0,
        last_epoch: int = -1,
    ) -> None:
        check_span(warmup_epochs, total_epochs)
        check_rates(optimizer, min_lr=min_lr, start_lr=start_lr)
        self.warmup_epochs, self.total_epochs = int(warmup_epochs), int(total_epochs)
        self.min_lr, self.start_lr = float(min_lr), float(start_lr)
        super().__init__(optimizer, last_epoch)

    def get_lr(self) -> list[Any]:
        """The rates of this epoch, one a parameter group; `get_last_lr` is what to call from outside."""
        return [
            warmup_cosine(lr, self.warmup_epochs, self.total_epochs, self.min_lr, self.start_lr)(self.last_epoch)
            for lr in self.base_lrs
        ]
