"""Learning-rate schedules: closed forms of torch's schedulers, and two more schedulers."""

from fitcore.schedulers.closed_forms import (
    Schedule,
    cosine_annealing,
    cosine_warm_restarts,
    cyclic,
    exponential_decay,
    multi_step_decay,
    one_cycle,
    polynomial_decay,
    reduce_on_plateau,
    step_decay,
    warmup_cosine,
)
from fitcore.schedulers.observed import learning_rates
from fitcore.schedulers.polynomial import PolynomialDecayLR
from fitcore.schedulers.warmup import WarmupCosineLR

__all__ = [
    "PolynomialDecayLR",
    "Schedule",
    "WarmupCosineLR",
    "cosine_annealing",
    "cosine_warm_restarts",
    "cyclic",
    "exponential_decay",
    "learning_rates",
    "multi_step_decay",
    "one_cycle",
    "polynomial_decay",
    "reduce_on_plateau",
    "step_decay",
    "warmup_cosine",
]
