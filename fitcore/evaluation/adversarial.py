"""Adversarial examples: inputs changed by little, in the direction in which the loss grows fastest."""

from collections.abc import Callable

import torch
from torch import Tensor


def fast_gradient_sign(
    loss: Callable[[Tensor], Tensor], inputs: Tensor, epsilon: float, low: float = 0.0, high: float = 1.0
) -> Tensor:
    """x + ε sign ∂L/∂x, kept in [low, high]: the fast gradient sign method, one step in the maximum norm.

    Args:
        loss: L as a function of the inputs. With a loss for each of several models, each on its own inputs, their
            sum will do: its gradient is that of each.
        inputs: x, any shape.
        epsilon: the largest change of an element, not negative.
        low: smallest value that an input can have.
        high: largest value.

    Returns:
        Shaped like ``inputs``, without graph.

    Raises:
        ValueError: a negative ε.

    Source: I. Goodfellow, J. Shlens, C. Szegedy, "Explaining and Harnessing Adversarial Examples", ICLR 2015.

    """
    if epsilon < 0:
        raise ValueError(f"epsilon must not be negative, got {epsilon}")
    inputs = inputs.detach().requires_grad_()
    (gradient,) = torch.autograd.grad(loss(inputs).sum(), inputs)
    return (inputs + epsilon * gradient.sign()).clamp(low, high).detach()
