"""Training: the loop of a module, and the descent of a handful of parameters with the ways of writing one update."""

from fitcore.training.checkpoint import load_checkpoint, load_weights, save_checkpoint
from fitcore.training.compare import Comparison, Difference, compare
from fitcore.training.descent import Descent
from fitcore.training.early_stopping import EarlyStopping
from fitcore.training.fit import fit
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
    "Comparison",
    "Descent",
    "Difference",
    "EarlyStopping",
    "History",
    "Step",
    "autograd_step",
    "compare",
    "descend_in_place",
    "fit",
    "load_checkpoint",
    "load_weights",
    "manual_step",
    "optimizer_step",
    "save_checkpoint",
    "train",
    "zero_gradient",
]
