"""The straight line."""

import torch
from torch import Tensor


def linear(x: Tensor, w: Tensor, b: Tensor) -> Tensor:
    """``w x + b`` for scalars ``w`` and ``b``; the result has the shape of ``x``."""
    return w * x + b


def design_matrix(x: Tensor) -> Tensor:
    """X with rows (xᵢ, 1), of shape (n, 2) for ``x`` of shape (n,): the line's predictions are X (w, b)."""
    return torch.stack([x, torch.ones_like(x)], dim=-1)
