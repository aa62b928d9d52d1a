"""Losses of every copy of an ensemble, which `fitcore.ensembles.fit` minimises."""

import torch
from torch import Tensor


def mean_squared_errors(predictions: Tensor, targets: Tensor) -> Tensor:
    """Mean squared error of every copy, (S,), from predictions and targets of the same shape (S, ...).

    Raises:
        ValueError: the shapes differ, which would broadcast.
    """
    if predictions.shape != targets.shape:
        raise ValueError(
            f"targets must have the shape of predictions {tuple(predictions.shape)}, got {tuple(targets.shape)}"
        )
    return (predictions - targets).square().flatten(1).mean(1)


def cross_entropies(logits: Tensor, labels: Tensor) -> Tensor:
    """Cross-entropy of every copy, (S,), from logits (S, n, classes) and class indices (S, n).

    Raises:
        ValueError: the shapes don't fit together.
    """
    if logits.ndim != 3 or logits.shape[:2] != labels.shape:
        raise ValueError(
            f"logits must have shape (S, n, classes) and labels (S, n), "
            f"got {tuple(logits.shape)} and {tuple(labels.shape)}"
        )
    # With the classes first: a softmax over the last dimension takes several times as long where it is short.
    return torch.nn.functional.cross_entropy(logits.mT, labels, reduction="none").mean(1)
