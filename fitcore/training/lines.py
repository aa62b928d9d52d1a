"""Straight lines fitted by hand-written gradient descent, many starts at once."""

from collections.abc import Callable

from torch import Tensor

from fitcore.training.loop import train
from fitcore.training.steps import autograd_step, zero_gradient


def line_losses(params: Tensor, x: Tensor, y: Tensor) -> Tensor:
    """L(w, b) = mean((w x + b - y)²) of each line, (...), for ``params`` (..., 2), and ``x`` and ``y`` (..., n)."""
    return (params[..., :1] * x + params[..., 1:] - y).square().mean(-1)


def descend_lines(
    x: Tensor,
    y: Tensor,
    starts: Tensor,
    lr: float,
    epochs: int,
    *,
    clear: Callable[[Tensor], None] = zero_gradient,
) -> Tensor:
    """Parameters after 0, 1, ..., epochs updates of `autograd_step`, (epochs + 1, S, 2).

    Args:
        x: (n,), or (S, n) where each line has points of its own.
        y: shaped like x.
        starts: w and b of S lines, (S, 2). The losses are summed, so that each line follows its own gradient.
        lr: learning rate.
        epochs: how many updates to make.
        clear: disposes of the gradient before each epoch.

    """
    params = starts.clone().requires_grad_()
    return train(autograd_step(lambda lines: line_losses(lines, x, y).sum(), params, lr, clear), epochs).trajectory
