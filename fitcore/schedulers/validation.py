"""Settings of a schedule that make no sense."""

from torch.optim import Optimizer


def check_span(warmup_epochs: int, total_epochs: int) -> None:
    """Raise ValueError unless 0 ≤ warmup_epochs < total_epochs."""
    if not total_epochs >= 1:
        raise ValueError(f"total_epochs must be at least 1, got {total_epochs}")
    if not 0 <= warmup_epochs < total_epochs:
        raise ValueError(
            f"warmup_epochs must be none or more and fewer than total_epochs, got {warmup_epochs} of {total_epochs}"
        )


def check_rates(optimizer: Optimizer, **rates: float) -> None:
    """Raise ValueError unless each of the named rates lies between 0 and the initial rate of every parameter group."""
    highest = min(float(group.get("initial_lr", group["lr"])) for group in optimizer.param_groups)
    for argument, rate in rates.items():
        if not 0 <= rate <= highest:
            raise ValueError(f"{argument} must lie between 0 and the optimizer's rate {highest}, got {rate}")
