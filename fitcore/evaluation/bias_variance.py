"""Bias and variance of a learning procedure, from its predictions on many training sets."""

from typing import NamedTuple

from torch import Tensor


class BiasVariance(NamedTuple):
    """Bias² and variance, averaged over the points, (...)."""

    bias_squared: Tensor
    variance: Tensor


def bias_variance(predictions: Tensor, truth: Tensor) -> BiasVariance:
    """Split the mean squared error of predictions f̂ against the truth f into bias² and variance.

        mean (f̂ - f)² = bias² + variance,    bias² = (E f̂ - f)²,    variance = E (f̂ - E f̂)²

    Both are unbiased estimates, and their sum is the mean squared error exactly, over the trials and points given.
    From few trials bias² may come out below zero, since the variance of the mean prediction is taken off it. The error
    against new observations f + ε is larger by the variance of ε.

    Args:
        predictions: f̂ of each trial at each point, (..., trials, points).
        truth: f, without noise, (points,) or anything that broadcasts with (..., points).

    Raises:
        ValueError: fewer than two trials.

    Source: S. Geman, E. Bienenstock, R. Doursat, "Neural Networks and the Bias/Variance Dilemma", 1992.

    """
    trials = predictions.shape[-2]
    if trials < 2:
        raise ValueError(f"predictions must have at least 2 trials, got {trials}")
    variance = predictions.var(-2)
    bias_squared = (predictions.mean(-2) - truth).square() - variance / trials
    return BiasVariance(bias_squared.mean(-1), variance.mean(-1))
