"""Synthetic regression data with a known noise-free target."""

import torch
from torch import Tensor


def noisy_sine(
    samples: int, noise: float = 0.3, evenly_spaced: bool = False, sets: tuple[int, ...] = ()
) -> tuple[Tensor, Tensor]:
    """y = sin(2x) + noise · ε with ε standard normal: x and y, each (*sets, samples, 1).

    x is uniform on [-3, 3], or evenly spaced from -3 to 3. Drawn from torch's global random state; ``sets`` asks for
    that many independent data sets at once.

    Raises:
        ValueError: samples is below 1, or noise is negative.

    """
    if samples < 1:
        raise ValueError(f"samples must be at least 1, got {samples}")
    if noise < 0:
        raise ValueError(f"noise must not be negative, got {noise}")
    shape = (*sets, samples, 1)
    x = torch.linspace(-3, 3, samples)[:, None].expand(shape) if evenly_spaced else 6 * torch.rand(shape) - 3
    return x, torch.sin(2 * x) + noise * torch.randn(shape)
