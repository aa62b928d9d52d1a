"""What the shape of a learning curve tells about the training."""

from enum import StrEnum

import numpy as np
from numpy.typing import ArrayLike

MOST_DETOUR = 1.3
MOST_LEFT = 0.6
LEAST_RISE = 0.05


class Pattern(StrEnum):
    """Patterns of a training and a validation loss."""

    HEALTHY = "healthy"
    OVERFITTING = "overfitting"
    UNDERFITTING = "underfitting"
    OSCILLATING = "oscillating"


def roughness(losses: ArrayLike) -> float:
    """Length of the way that the losses (n,) go up and down, over the distance between highest and lowest.

    1 for a curve that only falls, more the more it goes back and forth; 1 for a constant.
    """
    curve = np.asarray(losses, dtype=np.float64)
    span = np.ptp(curve)
    return float(np.abs(np.diff(curve)).sum() / span) if span > 0 else 1.0


def diagnose(training: ArrayLike, validation: ArrayLike, baseline: float | None = None) -> Pattern:
    """Name the pattern of the losses after each of n epochs, both (n,).

    Asked in this order, whatever the unit of the losses:

    - *oscillating*: the training loss goes up and down, with a `roughness` above 1.3;
    - *underfitting*: in the end it is still above 60 % of ``baseline``;
    - *overfitting*: the validation loss has risen from its lowest value by 5 % of its highest, while the training loss
      went on falling;
    - *healthy*: none of these.

    A loss that isn't finite counts as oscillation: the training has diverged.

    Args:
        training: training losses.
        validation: validation losses.
        baseline: loss of the best constant prediction, such as the variance of the targets, or the entropy of the
            classes. By default the highest training loss: a model that is too small, and starts far off, then looks
            healthy.

    Raises:
        ValueError: fewer than three epochs, or curves of different lengths.
    """
    of_training, of_validation = (np.asarray(curve, dtype=np.float64) for curve in (training, validation))
    if of_training.ndim != 1 or of_training.shape != of_validation.shape or len(of_training) < 3:
        raise ValueError(
            "training and validation must be two curves of the same three or more epochs, "
            f"got {of_training.shape} and {of_validation.shape}"
        )
    if not np.isfinite([of_training, of_validation]).all() or roughness(of_training) > MOST_DETOUR:
        return Pattern.OSCILLATING
    if of_training[-1] > MOST_LEFT * (of_training.max() if baseline is None else baseline):
        return Pattern.UNDERFITTING
    best = int(of_validation.argmin())
    rise = of_validation[-1] - of_validation[best]
    if rise > LEAST_RISE * of_validation.max() and of_training[-1] < of_training[best]:
        return Pattern.OVERFITTING
    return Pattern.HEALTHY
