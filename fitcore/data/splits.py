"""Splits of a data set into training and validation samples."""

import torch
from torch import Tensor


def train_validation_split(
    samples: int, fraction: float = 0.2, generator: torch.Generator | None = None
) -> tuple[Tensor, Tensor]:
    """Random disjoint indices ``(training, validation)`` that together cover 0 ... samples - 1.

    The validation set has ⌊fraction · samples⌋ members, the training set all others; both are in random order.
    Without a ``generator`` the order comes from torch's global random state.

    Raises:
        ValueError: the fraction is outside (0, 1), or leaves one of the two sets empty.
    """
    if not 0 < fraction < 1:
        raise ValueError(f"fraction must be between 0 and 1, got {fraction}")
    validation = int(fraction * samples)
    if validation < 1:
        raise ValueError(f"samples must be enough for one validation sample at fraction {fraction}, got {samples}")
    # Counted from the front: `order[:-0]` would be empty rather than whole.
    training, held_out = torch.randperm(samples, generator=generator).split([samples - validation, validation])
    return training, held_out
