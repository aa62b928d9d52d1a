"""How much worse a model predicts when its inputs are disturbed."""

from collections.abc import Callable, Sequence

import torch
from torch import Tensor


def noisy_input_losses(
    predict: Callable[[Tensor], Tensor], inputs: Tensor, targets: Tensor, levels: Sequence[float]
) -> Tensor:
    """Mean of (f(x + s ε) - y)² over the samples for each level s, with ε standard normal and drawn anew for each.

    Args:
        predict: f, from (..., n, 1) to (..., n, 1), for each of the leading problems its own model.
        inputs: x, (..., n, 1).
        targets: y, (..., n, 1).
        levels: standard deviations s of the noise, L of them; 0 leaves the inputs as they are.

    Returns:
        (L, ...).

    Raises:
        ValueError: a negative level, or predictions that don't have the shape of the targets and would broadcast.

    """
    if min(levels) < 0:
        raise ValueError(f"levels must not be negative, got {min(levels)}")
    losses = []
    for level in levels:
        predictions = predict(inputs + level * torch.randn_like(inputs))
        if predictions.shape != targets.shape:
            raise ValueError(
                f"predictions must have the shape of targets {tuple(targets.shape)}, got {tuple(predictions.shape)}"
            )
        losses.append((predictions - targets).square().mean((-2, -1)))
    return torch.stack(losses)
