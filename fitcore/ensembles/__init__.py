"""Many training runs at once: stacked copies of a module, and closed forms where there is one."""

from fitcore.ensembles.ensemble import Ensemble
from fitcore.ensembles.fit import LearningCurves, fit
from fitcore.ensembles.losses import cross_entropies, mean_squared_errors
from fitcore.ensembles.quadratic import QuadraticDynamics

__all__ = [
    "Ensemble",
    "LearningCurves",
    "QuadraticDynamics",
    "cross_entropies",
    "fit",
    "mean_squared_errors",
]
