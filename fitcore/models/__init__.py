"""Models."""

from fitcore.models.linear import design_matrix, linear
from fitcore.models.mlp import MLP, Tanh
from fitcore.models.polynomial import legendre_features

__all__ = ["MLP", "Tanh", "design_matrix", "legendre_features", "linear"]
