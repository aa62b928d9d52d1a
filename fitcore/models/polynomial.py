"""Polynomials as linear models of their features."""

import torch
from numpy.polynomial.legendre import legvander
from torch import Tensor, nn


def legendre_features(x: Tensor, degree: int, low: float = -1.0, high: float = 1.0) -> Tensor:
    """P_0(u), ..., P_degree(u) with u = (2x - low - high) / (high - low): a well-conditioned basis on [low, high].

    Args:
        x: points, (...); outside [low, high] the features grow like powers.
        degree: the largest degree, at least 0.
        low: left end of the interval.
        high: right end of the interval.

    Returns:
        (..., degree + 1), float64.

    Raises:
        ValueError: a negative degree, or an empty interval.

    Source: ``numpy.polynomial.legendre.legvander``.

    """
    if degree < 0:
        raise ValueError(f"degree must be at least 0, got {degree}")
    if not low < high:
        raise ValueError(f"low must be below high, got {low} and {high}")
    scaled = (2 * x.double() - low - high) / (high - low)
    return torch.from_numpy(legvander(scaled.numpy(), degree))


def power_features(x: Tensor, degree: int) -> Tensor:
    """x, x², ..., x^degree, without a constant: (..., degree) for ``x`` of shape (..., 1).

    Raises:
        ValueError: a degree below 1, or ``x`` without a last dimension of 1.

    """
    if degree < 1:
        raise ValueError(f"degree must be at least 1, got {degree}")
    if x.shape[-1:] != (1,):
        raise ValueError(f"x must have shape (..., 1), got {tuple(x.shape)}")
    return torch.cat([x**power for power in range(1, degree + 1)], dim=-1)


class PolynomialModel(nn.Module):
    """w_1 x + w_2 x² + ... + w_d x^d: a linear layer without bias on raw powers. Input and output (..., 1).

    The coefficients are ``coefficients.weight``, (1, degree), and start as torch.nn.Linear draws them. The larger the
    degree and the interval, the smaller the learning rates that are stable: on [-5, 5] the largest eigenvalue of the
    Hessian of the squared error is 17 with degree 1 and some 1e13 with degree 10.
    """

    def __init__(self, degree: int) -> None:
        """Draw the coefficients from the global random state.

        Raises:
            ValueError: a degree below 1.
        """
        super().__init__()
        if degree < 1:
            raise ValueError(f"degree must be at least 1, got {degree}")
        self.coefficients = nn.Linear(degree, 1, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        """Return the polynomial at ``x``, shaped like it."""
        result: Tensor = self.coefficients(power_features(x, self.coefficients.in_features))
        return result
