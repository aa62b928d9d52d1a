"""Functions that bring their own derivative, as subclasses of `torch.autograd.Function`.

Each is written as courses write it: ``forward`` keeps in ``ctx`` what ``backward`` needs, and ``backward`` multiplies
the gradient that arrives from above, ∂L/∂f, with f'(x). So a function serves ``backward`` and ``autograd.grad``, of
first and of higher order; `torch.func` and forward mode would ask for ``setup_context`` and ``jvp`` as well.
See https://docs.pytorch.org/docs/stable/notes/extending.html.
"""

from typing import Any

from torch import Tensor
from torch.autograd import Function


class ReLU(Function):
    """f(x) = max(x, 0), elementwise; f'(x) = 1 where x > 0 and 0 elsewhere.

    ``ReLU.apply(x)`` is shaped like ``x``. At x = 0, where any slope in [0, 1] is a subgradient, it takes 0, as
    `torch.nn.functional.relu` does.

    >>> import torch
    >>> x = torch.tensor([-1.0, 0.0, 2.0], requires_grad=True)
    >>> ReLU.apply(x).sum().backward()
    >>> x.grad
    tensor([0., 0., 1.])
    """

    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        """max(x, 0), shaped like ``x``."""
        ctx.save_for_backward(x)
        return x.clamp(min=0)

    @staticmethod
    def backward(ctx: Any, upstream: Tensor) -> Tensor:
        """∂L/∂x = ∂L/∂f where x > 0, else 0; shaped like ``x``."""
        (x,) = ctx.saved_tensors
        return upstream.masked_fill(x <= 0, 0)


class ReLUMaskingNegatives(ReLU):
    """As `ReLU`, but only x < 0 blocks the gradient: f'(0) = 1.

    A common slip: f' is said to be 1 for x > 0 and 0 elsewhere, and then the mask is written with ``<`` for ``<=``.
    """

    @staticmethod
    def backward(ctx: Any, upstream: Tensor) -> Tensor:
        """∂L/∂x = ∂L/∂f where x >= 0, else 0; shaped like ``x``."""
        (x,) = ctx.saved_tensors
        return upstream.masked_fill(x < 0, 0)
