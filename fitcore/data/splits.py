"""Splits of a data set into training and validation samples."""

from collections.abc import Sequence

import numpy as np
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
    validation = _held_out(samples, fraction)
    # Counted from the front: `order[:-0]` would be empty rather than whole.
    training, held_out = torch.randperm(samples, generator=generator).split([samples - validation, validation])
    return training, held_out


def stratified_split(
    labels: Tensor | Sequence[int], fraction: float = 0.2, generator: torch.Generator | None = None
) -> tuple[Tensor, Tensor]:
    """Like `train_validation_split`, with the same share of every class in both parts, to within one sample.

    Args:
        labels: the class of each sample, (n,).
        fraction: share of the samples for validation.
        generator: as there.

    Raises:
        ValueError: the fraction is outside (0, 1); a class has a single sample; either part has fewer samples than
            there are classes.
    """
    from sklearn.model_selection import StratifiedShuffleSplit  # noqa: PLC0415 - takes a second, and few need it

    classes = torch.as_tensor(labels)
    if classes.ndim != 1:
        raise ValueError(f"labels must be one-dimensional, got shape {tuple(classes.shape)}")
    samples, validation = len(classes), _held_out(len(classes), fraction)
    names, counts = classes.unique(return_counts=True)
    if counts.min() < 2:
        raise ValueError(f"every class needs two samples, class {names[counts.argmin()]} has one")
    if min(validation, samples - validation) < len(names):
        raise ValueError(
            f"both parts need a sample for each of {len(names)} classes; "
            f"fraction {fraction} of {samples} samples holds back {validation}"
        )
    seed = int(torch.randint(2**31, (), generator=generator))
    splitter = StratifiedShuffleSplit(1, train_size=samples - validation, test_size=validation, random_state=seed)
    training, held_out = next(splitter.split(np.empty((samples, 1)), classes.cpu().numpy()))
    return torch.from_numpy(training), torch.from_numpy(held_out)


def _held_out(samples: int, fraction: float) -> int:
    if not 0 < fraction < 1:
        raise ValueError(f"fraction must be between 0 and 1, got {fraction}")
    validation = int(round(fraction * samples, 9))  # 0.29 * 100 is a little less than 29
    if validation < 1:
        raise ValueError(f"samples must be enough for one validation sample at fraction {fraction}, got {samples}")
    return validation
