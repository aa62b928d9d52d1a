"""Gradients from differences of function values."""

from collections.abc import Callable

import torch
from torch import Tensor


def central_difference(f: Callable[[Tensor], Tensor], point: Tensor, delta: float) -> Tensor:
    """(f(p + δ eⱼ) - f(p - δ eⱼ)) / 2δ for each j: the gradient of ``f`` at ``point``, with an error of O(δ²).

    ``f`` maps (k,) to a scalar and ``point`` is (k,); so is the result. Exact, but for rounding, where ``f`` is
    quadratic: the error is δ²/6 times the third derivative.

    Raises ValueError unless ``delta`` is positive.
    """
    if not delta > 0:
        raise ValueError(f"delta must be positive, got {delta}")
    shifts = delta * torch.eye(point.numel(), dtype=point.dtype)
    return torch.stack([(f(point + shift) - f(point - shift)) / (2 * delta) for shift in shifts])
