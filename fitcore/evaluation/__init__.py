"""Measures of what was learned."""

from fitcore.evaluation.smoothness import total_curvature

__all__ = ["total_curvature"]
