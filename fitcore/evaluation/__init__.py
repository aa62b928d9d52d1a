"""Measures of what was learned."""

from fitcore.evaluation.bias_variance import BiasVariance, bias_variance
from fitcore.evaluation.smoothness import total_curvature

__all__ = ["BiasVariance", "bias_variance", "total_curvature"]
