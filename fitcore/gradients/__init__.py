"""Gradients by hand, by differences and by automatic differentiation."""

from fitcore.gradients.autograd import gradient
from fitcore.gradients.manual import (
    averaged_chain_rule,
    chain_rule,
    linear_derivatives,
    mse,
    mse_derivative,
)
from fitcore.gradients.numerical import central_difference

__all__ = [
    "averaged_chain_rule",
    "central_difference",
    "chain_rule",
    "gradient",
    "linear_derivatives",
    "mse",
    "mse_derivative",
]
