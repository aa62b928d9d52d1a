"""What a linear model gets out of features: a probe of what a layer knows (Alain and Bengio 2016)."""

import torch
from torch import Tensor


def ridge_predictions(features: Tensor, targets: Tensor, others: Tensor, penalty: float) -> Tensor:
    """Ridge regression of ``targets`` on ``features``, with an intercept, evaluated at ``others``.

    Solved in the dual, whose size is the number of samples: fast for many features of few samples.

    Args:
        features: (n, ...), flattened to (n, p).
        targets: (n, k).
        others: (m, ...), features of other samples.
        penalty: of the squared weights, in units of the features' total variance; positive.

    Returns:
        (m, k).

    Raises:
        ValueError: penalty isn't positive.
    """
    if not penalty > 0:
        raise ValueError(f"penalty must be positive, got {penalty}")
    x, mean = features.flatten(1), features.flatten(1).mean(0)
    x, level = x - mean, targets.mean(0)
    gram = x @ x.T
    variance = gram.diagonal().mean() or 1.0  # features that don't vary tell nothing: the mean is predicted
    damped = gram + penalty * variance * torch.eye(len(x), dtype=x.dtype)
    dual = torch.linalg.solve(damped, targets - level)
    return (others.flatten(1) - mean) @ x.T @ dual + level


def probe_accuracy(features: Tensor, labels: Tensor, classes: int, penalty: float = 0.3) -> float:
    """Share of the second half of the samples whose class a linear classifier fitted to the first half recognises.

    Ridge regression of the classes' indicators, (n, ...) and (n,).
    """
    half = len(features) // 2
    indicators = torch.nn.functional.one_hot(labels[:half], classes).to(features.dtype)
    scores = ridge_predictions(features[:half], indicators, features[half:], penalty)
    return (scores.argmax(1) == labels[half:]).double().mean().item()


def reconstruction(features: Tensor, inputs: Tensor, penalty: float = 1e-3) -> float:
    """R² with which ridge regression fitted to the first half of the samples tells the inputs of the second half.

    The share of the inputs' total variance about the mean of the first half that is accounted for, (n, ...) both.
    """
    half = len(features) // 2
    known, unknown = inputs[:half].flatten(1), inputs[half:].flatten(1)
    told = ridge_predictions(features[:half], known, features[half:], penalty)
    return 1 - ((told - unknown).square().sum() / (unknown - known.mean(0)).square().sum()).item()
