"""Gradients from automatic differentiation."""

from collections.abc import Callable

import torch
from torch import Tensor


def gradient(f: Callable[[Tensor], Tensor], point: Tensor) -> Tensor:
    """∇f(p), shaped like ``point``, for a scalar-valued ``f``. Nothing is stored in ``point.grad``."""
    leaf = point.detach().requires_grad_()
    (result,) = torch.autograd.grad(f(leaf), leaf)
    return result
