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
    _check(samples, noise)
    shape = (*sets, samples, 1)
    x = torch.linspace(-3, 3, samples)[:, None].expand(shape) if evenly_spaced else 6 * torch.rand(shape) - 3
    return x, torch.sin(2 * x) + noise * torch.randn(shape)


def cubic_plus_sine(n: int = 200, noise: float = 0.2, sets: tuple[int, ...] = ()) -> tuple[Tensor, Tensor]:
    """y = 0.5x³ - 2x² + x + 2 sin(2x) + noise · ε with ε standard normal: x and y, each (*sets, n, 1).

    x is uniform on [-5, 5). Drawn from torch's global random state, first all x and then all ε; ``sets`` asks for that
    many independent data sets at once.

    Raises:
        ValueError: n is below 1, or noise is negative.

    """
    _check(n, noise)
    x = 10 * torch.rand(*sets, n, 1) - 5
    return x, cubic_plus_sine_law(x) + noise * torch.randn(x.shape)


def cubic_plus_sine_law(x: Tensor) -> Tensor:
    """0.5x³ - 2x² + x + 2 sin(2x), shaped like x: what `cubic_plus_sine` adds its noise to."""
    return 0.5 * x**3 - 2 * x**2 + x + 2 * torch.sin(2 * x)


def _check(samples: int, noise: float) -> None:
    if samples < 1:
        raise ValueError(f"samples must be at least 1, got {samples}")
    if noise < 0:
        raise ValueError(f"noise must not be negative, got {noise}")
