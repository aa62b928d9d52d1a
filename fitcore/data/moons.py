"""Two classes in the plane that no straight line separates."""

import numpy as np
import torch
from sklearn.datasets import make_moons
from torch import Tensor


def noisy_moons(samples: int, noise: float = 0.25, flipped: float = 0.1, sets: int = 1) -> tuple[Tensor, Tensor]:
    """``sklearn.datasets.make_moons`` with some labels turned round: points (sets, samples, 2), labels (sets, samples).

    Args:
        samples: number of points in a set, half of each class before labels are flipped.
        noise: standard deviation of the points about the two half circles.
        flipped: probability that a label is the other class.
        sets: number of independent data sets, drawn from torch's global random state.

    Raises:
        ValueError: ``flipped`` is no probability.

    """
    if not 0 <= flipped <= 1:
        raise ValueError(f"flipped must be between 0 and 1, got {flipped}")
    seeds = torch.randint(2**31, (sets,)).tolist()
    moons = [make_moons(samples, noise=noise, random_state=seed) for seed in seeds]
    points = torch.from_numpy(np.stack([points for points, _ in moons])).float()
    labels = torch.from_numpy(np.stack([labels for _, labels in moons]))
    return points, labels ^ (torch.rand(labels.shape) < flipped).long()
