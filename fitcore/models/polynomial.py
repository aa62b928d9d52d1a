"""Polynomials as linear models of their features."""

import torch
from numpy.polynomial.legendre import legvander
from torch import Tensor


def legendre_features(x: Tensor, degree: int, low: float = -1.0, high: float = 1.0) -> Tensor:
    """P_0(u), ..., P_degree(u) with u = (2x - low - high) / (high - low): a well-conditioned basis on [low, high].

    Args:
        x: points, (...); outside [low, high] the features grow like powers.
        degree: the largest degree, at least 0.
        low: left end of the interval.
        high: right end of the interval.

    Returns:
        (..., degree + 1), float64.

    Raises:
        ValueError: a negative degree, or an empty interval.

    Source: ``numpy.polynomial.legendre.legvander``.

    """
    if degree < 0:
        raise ValueError(f"degree must be at least 0, got {degree}")
    if not low < high:
        raise ValueError(f"low must be below high, got {low} and {high}")
    scaled = (2 * x.double() - low - high) / (high - low)
    return torch.from_numpy(legvander(scaled.numpy(), degree))
