"""Many training runs at once: stacked copies of a module, and closed forms where there is one."""

from fitcore.ensembles.ensemble import Ensemble, mean_squared_errors
from fitcore.ensembles.quadratic import QuadraticDynamics
from fitcore.ensembles.regression import LearningCurves, fit_regression

__all__ = [
    "Ensemble",
    "LearningCurves",
    "QuadraticDynamics",
    "fit_regression",
    "mean_squared_errors",
]
