"""Scores of predictions, each with an interval: a test set is a sample too."""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.stats import binomtest
from sklearn.metrics import confusion_matrix
from torch import Tensor

RESAMPLES = 1000


@dataclass(frozen=True)
class Score:
    """A score and the ends of its confidence interval over other test sets of the same size."""

    value: float
    low: float
    high: float


def classification_scores(logits: Tensor, labels: Tensor, confidence: float = 0.95) -> dict[str, Score]:
    """Accuracy and macro F1, the mean of the F1 scores of all classes that occur, as scikit-learn has them.

    Args:
        logits: (n, classes), or anything else that is largest for the predicted class.
        labels: (n,), true classes.
        confidence: of the intervals: Wilson's for accuracy, and the bootstrap's percentiles for F1.

    Raises:
        ValueError: no predictions, or another number of labels.

    """
    _check_sizes(logits, labels)
    known = np.arange(max(logits.shape[1], int(labels.max()) + 1))
    table = confusion_matrix(labels.cpu(), logits.argmax(1).cpu(), labels=known)
    return {"accuracy": _share(table, confidence), "macro F1": _bootstrapped(_macro_f1, table, confidence)}


def regression_scores(predictions: Tensor, targets: Tensor, confidence: float = 0.95) -> dict[str, Score]:
    """Mean absolute and mean squared error, with intervals by the bootstrap's percentiles.

    Args:
        predictions: (n,), in the units of ``targets``.
        targets: (n,).
        confidence: of the intervals.

    Raises:
        ValueError: no predictions, or shapes that would broadcast against each other.

    """
    _check_sizes(predictions, targets)
    if predictions.shape != targets.shape:
        raise ValueError(f"predictions {tuple(predictions.shape)} and targets {tuple(targets.shape)} differ in shape")
    errors = (predictions - targets).detach().cpu().double().abs().numpy()
    rows = np.random.default_rng(0).integers(len(errors), size=(RESAMPLES, len(errors)))
    powers = {"mean absolute error": errors, "mean squared error": errors**2}
    return {
        name: Score(float(values.mean()), *_percentiles(values[rows].mean(axis=1), confidence))
        for name, values in powers.items()
    }


@dataclass(frozen=True)
class Calibration:
    """How often predictions of a stated confidence are right, in B bins of equal width that aren't empty.

    Attributes:
        confidences: (B,), mean probability given to the predicted class.
        accuracies: (B,), share that was right.
        counts: (B,), number of predictions.
        error: expected calibration error: the mean gap between the two, weighted by ``counts``.

    """

    confidences: NDArray[np.float64]
    accuracies: NDArray[np.float64]
    counts: NDArray[np.int64]
    error: float


def calibration(logits: Tensor, labels: Tensor, bins: int = 10) -> Calibration:
    """Compare confidence with accuracy.

    Args:
        logits: (n, classes).
        labels: (n,), true classes.
        bins: number of bins of [0, 1].

    Raises:
        ValueError: no predictions, another number of labels, or no bins.

    Source: C. Guo, G. Pleiss, Y. Sun, K. Q. Weinberger, "On Calibration of Modern Neural Networks", ICML 2017.
    """
    _check_sizes(logits, labels)
    if bins < 1:
        raise ValueError(f"bins must be at least 1, got {bins}")
    confidences, predicted = (part.cpu() for part in torch.softmax(logits.detach().double(), 1).max(1))
    right = (predicted == labels.cpu()).numpy()
    which = np.minimum((confidences.numpy() * bins).astype(int), bins - 1)
    counts = np.bincount(which, minlength=bins)
    filled = counts > 0
    sums = (np.bincount(which, weights=values, minlength=bins) for values in (confidences.numpy(), right))
    confidence, accuracy = (values[filled] / counts[filled] for values in sums)
    error = float(np.average(np.abs(confidence - accuracy), weights=counts[filled]))
    return Calibration(confidence, accuracy, counts[filled], error)


def _check_sizes(outputs: Tensor, truth: Tensor) -> None:
    if not len(outputs) or len(outputs) != len(truth):
        raise ValueError(f"needs a prediction for each of at least one sample, got {len(outputs)} for {len(truth)}")


def _share(table: NDArray[np.int64], confidence: float) -> Score:
    hits, n = int(table.trace()), int(table.sum())
    interval = binomtest(hits, n).proportion_ci(confidence, method="wilson")
    return Score(hits / n, float(interval.low), float(interval.high))


def _bootstrapped(
    score: Callable[[NDArray[np.int64]], NDArray[np.float64]], table: NDArray[np.int64], confidence: float
) -> Score:
    """Of a confusion matrix, whose cells a resample of the test set draws as a multinomial."""
    shares = table.ravel() / table.sum()
    resamples = np.random.default_rng(0).multinomial(table.sum(), shares, size=RESAMPLES)
    return Score(float(score(table)), *_percentiles(score(resamples.reshape(RESAMPLES, *table.shape)), confidence))


def _macro_f1(tables: NDArray[np.int64]) -> NDArray[np.float64]:
    """F1 = 2 hits / (true + predicted) of a class, averaged over those that occur among either; tables (..., k, k)."""
    hits = np.diagonal(tables, axis1=-2, axis2=-1)
    sizes = tables.sum(-1) + tables.sum(-2)
    f1 = np.divide(2.0 * hits, sizes, out=np.zeros(hits.shape), where=sizes > 0)
    return np.asarray(f1.sum(-1) / (sizes > 0).sum(-1))


def _percentiles(values: NDArray[np.float64], confidence: float) -> tuple[float, float]:
    low, high = np.quantile(values, [(1 - confidence) / 2, (1 + confidence) / 2])
    return float(low), float(high)
