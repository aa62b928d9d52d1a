"""The gradient of the mean squared error of a straight line, by hand: each formula stands beside its derivative.

The loss is L = mean((p - y)²) over n samples, with predictions p = w x + b. `chain_rule` puts the pieces together.
"""

from collections.abc import Callable

import torch
from torch import Tensor

from fitcore.models.linear import linear


def mse(predictions: Tensor, targets: Tensor) -> Tensor:
    """L = 1/n Σ (pᵢ - yᵢ)², a scalar, for predictions and targets of shape (n,)."""
    return (predictions - targets).square().mean()


def mse_derivative(predictions: Tensor, targets: Tensor) -> Tensor:
    """∂L/∂pᵢ = 2 (pᵢ - yᵢ) / n, of shape (n,). The mean of the loss is the division by n."""
    return 2 * (predictions - targets) / predictions.size(0)


def linear_derivatives(x: Tensor) -> tuple[Tensor, float]:
    """(∂pᵢ/∂w, ∂pᵢ/∂b) = (xᵢ, 1) for p = w x + b, whatever w and b are."""
    return x, 1.0


def chain_rule(params: Tensor, x: Tensor, y: Tensor) -> tuple[Tensor, Tensor]:
    """L and its gradient: ∂L/∂w = Σ ∂L/∂pᵢ ∂pᵢ/∂w, and the same for b.

    ``params`` is (2,): w and b; ``x`` and ``y`` are (n,). Returns the loss (scalar) and the gradient (2,).
    """
    return _chain_rule(params, x, y, over_samples=torch.sum)


def averaged_chain_rule(params: Tensor, x: Tensor, y: Tensor) -> tuple[Tensor, Tensor]:
    """L and 1/n of its gradient: as `chain_rule`, but with the mean over samples where the chain rule has the sum.

    A common slip: `mse_derivative` has divided by n already. Descent with it at rate η is descent with the
    gradient at rate η/n.
    """
    return _chain_rule(params, x, y, over_samples=torch.mean)


def _chain_rule(
    params: Tensor, x: Tensor, y: Tensor, over_samples: Callable[[Tensor, int], Tensor]
) -> tuple[Tensor, Tensor]:
    w, b = params.unbind()
    predictions = linear(x, w, b)
    dl_dp = mse_derivative(predictions, y)
    dp_dw, dp_db = linear_derivatives(x)
    return mse(predictions, y), over_samples(torch.stack([dl_dp * dp_dw, dl_dp * dp_db]), 1)
