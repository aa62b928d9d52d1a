"""Models."""

from fitcore.models.layers import GaussianNoise, Tanh
from fitcore.models.linear import design_matrix, linear
from fitcore.models.mlp import MLP
from fitcore.models.polynomial import PolynomialModel, legendre_features, power_features

__all__ = [
    "MLP",
    "GaussianNoise",
    "PolynomialModel",
    "Tanh",
    "design_matrix",
    "legendre_features",
    "linear",
    "power_features",
]
