"""How much a fitted curve bends."""

from torch import Tensor


def total_curvature(values: Tensor, spacing: float) -> Tensor:
    """∫ |f''(x)| dx by second differences, Σ |f(x-h) - 2f(x) + f(x+h)| / h: 0 for a straight line.

    Args:
        values: f on a grid, (..., points).
        spacing: h, the distance between neighbouring points.

    Returns:
        (...), in units of f per unit of x.

    Raises:
        ValueError: fewer than three points, or a spacing that isn't positive.

    """
    if values.shape[-1] < 3:
        raise ValueError(f"values must be given on at least 3 points, got {values.shape[-1]}")
    if not spacing > 0:
        raise ValueError(f"spacing must be positive, got {spacing}")
    return values.diff(n=2, dim=-1).abs().sum(-1) / spacing
