"""Models."""

from fitcore.models.linear import design_matrix, linear
from fitcore.models.mlp import MLP

__all__ = ["MLP", "design_matrix", "linear"]
