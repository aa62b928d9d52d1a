"""Samplers for classes of different sizes."""

import torch
from torch import Tensor
from torch.utils.data import WeightedRandomSampler


def class_balanced_sampler(labels: Tensor, count: int | None = None) -> WeightedRandomSampler:
    """Draw samples of every class equally often, for ``DataLoader(sampler=...)``.

    A sample's weight is 1 over the size of its class. It is drawn with replacement: without it, as many draws as
    samples are all of them, and nothing is balanced.

    Args:
        labels: class of each sample, (n,), integers of 0 and above.
        count: number of draws in an epoch, by default n.

    Raises:
        ValueError: labels that are not one integer a sample, or none at all.
    """
    integers = not (labels.is_floating_point() or labels.is_complex() or labels.dtype == torch.bool)
    if labels.ndim != 1 or not integers or not len(labels):
        raise ValueError(f"labels must be integers, one a sample, got {labels.dtype} of shape {tuple(labels.shape)}")
    if labels.min() < 0:
        raise ValueError(f"labels must not be negative, got {labels.min()}")
    weights = 1.0 / torch.bincount(labels)
    return WeightedRandomSampler(weights[labels].tolist(), len(labels) if count is None else count)
