"""Training: one loop, and the ways of writing one update."""

from fitcore.training.early_stopping import EarlyStopping
from fitcore.training.history import History
from fitcore.training.loop import train
from fitcore.training.steps import (
    Step,
    autograd_step,
    descend_in_place,
    manual_step,
    optimizer_step,
    zero_gradient,
)

__all__ = [
    "EarlyStopping",
    "History",
    "Step",
    "autograd_step",
    "descend_in_place",
    "manual_step",
    "optimizer_step",
    "train",
    "zero_gradient",
]
