"""Decision boundaries of classifiers in the plane: where they run, and how complicated they are."""

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor


def plane_grid(low: tuple[float, float], high: tuple[float, float], step: float) -> Tensor:
    """Points ``step`` apart from ``low`` to below ``high``, (rows, columns, 2): along a row x grows, down the rows y.

    As ``numpy.meshgrid`` of two ``numpy.arange`` lays them out; reshaped to (-1, 2) a model takes them as a batch.
    """
    x, y = (torch.arange(start, end, step) for start, end in zip(low, high, strict=True))
    rows, columns = torch.meshgrid(y, x, indexing="ij")
    return torch.stack([columns, rows], dim=-1)


def islands(regions: Tensor) -> NDArray[np.int64]:
    """Number of connected patches of one class beyond the first of each class, for pictures (..., rows, columns).

    A straight line through the plane leaves none. Cells are connected through their four sides.

    Returns:
        (...).

    """
    pictures = regions.reshape(-1, *regions.shape[-2:]).numpy()
    counts = [sum(_patches(picture == label) - 1 for label in np.unique(picture)) for picture in pictures]
    return np.asarray(counts, dtype=np.int64).reshape(regions.shape[:-2])


def boundary_length(regions: Tensor, step: float) -> Tensor:
    """Length of the border between classes along the sides of the cells, (...), for pictures (..., rows, columns).

    It measures a straight line of angle θ as |cos θ| + |sin θ| times its length: compare with others of one grid.
    """
    sides = [(regions.diff(dim=dim) != 0).sum((-2, -1)) for dim in (-2, -1)]
    return step * (sides[0] + sides[1])


def _patches(mask: NDArray[np.bool_]) -> int:
    from scipy.ndimage import label  # noqa: PLC0415

    return int(label(mask)[1])
