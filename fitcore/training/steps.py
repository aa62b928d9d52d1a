"""One update of gradient descent, written three ways: by hand, with autograd, with an optimizer.

Each maker returns a `Step`. The three differ only in who computes the gradient and who moves the parameters.
"""

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass
class Step:
    """One update: ``loss = step()`` moves ``step.params`` and returns the loss (scalar) before the move.

    ``update`` takes the parameters and returns the moved parameters and the loss at those it was given.
    """

    update: Callable[[Tensor], tuple[Tensor, Tensor]]
    params: Tensor

    def __call__(self) -> Tensor:
        """Make the update."""
        self.params, loss = self.update(self.params)
        return loss


def manual_step(
    loss_and_gradient: Callable[[Tensor], tuple[Tensor, Tensor]], params: Tensor, lr: float | Tensor
) -> Step:
    """p ← p - η ∇L(p), with ``loss_and_gradient(params)`` returning L (scalar) and ∇L (shaped like params).

    ``lr`` is η: a number, or a tensor shaped like params with a rate for each of them.
    """

    def update(params: Tensor) -> tuple[Tensor, Tensor]:
        loss, gradient = loss_and_gradient(params)
        return params - lr * gradient, loss

    return Step(update, params)


def zero_gradient(params: Tensor) -> None:
    """∇ ← 0: what the next backward adds to. Nothing to do before the first backward, when there is no gradient."""
    if params.grad is not None:
        params.grad.zero_()


def descend_in_place(params: Tensor, lr: float) -> Tensor:
    """p ← p - η ∇L(p) in the same leaf tensor, so that the next backward still fills its gradient."""
    with torch.no_grad():
        params -= lr * params.grad  # type: ignore[operator]
    return params


def autograd_step(
    loss: Callable[[Tensor], Tensor],
    params: Tensor,
    lr: float,
    clear: Callable[[Tensor], None] = zero_gradient,
    descend: Callable[[Tensor, float], Tensor] = descend_in_place,
) -> Step:
    """p ← p - η ∇L(p), with the gradient from ``loss(params).backward()``.

    ``clear(params)`` disposes of the last epoch's gradient, and ``descend(params, lr)`` returns the moved parameters;
    the defaults are the usual idioms.
    """

    def update(params: Tensor) -> tuple[Tensor, Tensor]:
        clear(params)
        value = loss(params)
        value.backward()
        return descend(params, lr), value.detach()

    return Step(update, params)


def optimizer_step(loss: Callable[[Tensor], Tensor], params: Tensor, optimizer: torch.optim.Optimizer) -> Step:
    """``zero_grad``, ``backward``, ``step``: the optimizer, which must hold ``params``, moves them.

    ``loss(params)`` is a scalar, or one loss for each of the independent copies whose parameters are the rows of
    ``params``: the sum is differentiated, so each row's gradient is that of its own loss.
    """

    def update(params: Tensor) -> tuple[Tensor, Tensor]:
        value = loss(params)
        optimizer.zero_grad()
        value.backward(torch.ones_like(value))
        optimizer.step()
        return params, value.detach()

    return Step(update, params)
