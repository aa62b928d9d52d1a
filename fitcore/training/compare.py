"""Ablations: what each change of a recipe does, alone and together with the others."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.special import stdtrit

Scores = Mapping[str, ArrayLike]
Study = Callable[..., Scores]


@dataclass(frozen=True)
class Difference:
    """A paired difference of two variants over S seeds.

    Attributes:
        values: (S,), the difference under each seed.
        mean: its mean.
        low: lower end of the interval for the mean (Student's t, which takes the differences as normal).
        high: upper end.

    """

    values: NDArray[np.float64]
    mean: float
    low: float
    high: float

    @property
    def standard_errors(self) -> float:
        """How many standard errors the mean is from 0: 0 if the mean is, infinite if all other values are the same."""
        if self.mean == 0:
            return 0.0
        error = self.values.std(ddof=1) / np.sqrt(len(self.values))
        return float(np.divide(self.mean, error)) if error else float(np.copysign(np.inf, self.mean))


@dataclass(frozen=True)
class Comparison:
    """Scores of all variants under the same seeds.

    Attributes:
        scores: by variant and by metric, (S,) each. The variants are ``"baseline"``, every change by its name and, if
            there are several changes, ``"together"``, and ``"without <change>"`` for each if there are at least three.

    """

    scores: Mapping[str, Mapping[str, NDArray[np.float64]]]

    def difference(self, metric: str, variant: str, to: str = "baseline", confidence: float = 0.95) -> Difference:
        """Compare a variant with another, seed by seed.

        Raises:
            KeyError: if there is no such variant or metric.

        """
        values = self._of(variant, metric) - self._of(to, metric)
        mean = float(values.mean())
        half = float(stdtrit(len(values) - 1, (1 + confidence) / 2) * values.std(ddof=1) / np.sqrt(len(values)))
        return Difference(values, mean, mean - half, mean + half)

    def rows(self, metric: str) -> list[dict[str, str | float]]:
        """One row a variant: its mean score and its difference to the baseline with a 95 % interval, for a table."""
        rows: list[dict[str, str | float]] = []
        for variant in self.scores:
            difference = self.difference(metric, variant)
            rows.append(
                {
                    "variant": variant,
                    metric: float(self._of(variant, metric).mean()),
                    "difference": difference.mean,
                    "from": difference.low,
                    "to": difference.high,
                }
            )
        return rows

    def _of(self, variant: str, metric: str) -> NDArray[np.float64]:
        if variant not in self.scores:
            raise KeyError(f"no variant {variant!r} among {', '.join(map(repr, self.scores))}")
        if metric not in self.scores[variant]:
            raise KeyError(f"no metric {metric!r} among {', '.join(map(repr, self.scores[variant]))}")
        return self.scores[variant][metric]


def compare(
    study: Study, changes: Mapping[str, Mapping[str, Any]], baseline: Mapping[str, Any] | None = None
) -> Comparison:
    """Run a study as it is, with each change alone, with all of them together and with all but one.

        comparison = compare(accuracies, {"dropout": {"dropout": 0.5}, "weight decay": {"weight_decay": 1e-4}})
        comparison.difference("test accuracy", "dropout")

    Args:
        study: trains under S seeds, the same in every call, with the settings given as keywords; it returns S numbers
            for each metric.
        changes: by name, the settings that each of them changes. No two may change the same one.
        baseline: settings of every variant, where no change says otherwise.

    Raises:
        ValueError: no changes, two changes of one setting, names that aren't free, or scores that can't be paired.

    Source: R. Meyes, M. Lu, C. W. de Puiseux, T. Meisen, "Ablation Studies in Artificial Neural Networks",
    arXiv:1901.08644.
    """
    scores = {
        variant: {metric: _scores(variant, metric, values) for metric, values in study(**settings).items()}
        for variant, settings in _variants(dict(baseline or {}), changes).items()
    }
    counts = {len(values) for metrics in scores.values() for values in metrics.values()}
    if len(counts) > 1:
        raise ValueError(f"scores of different seeds can't be paired: got {sorted(counts)} of them")
    return Comparison(scores)


def _variants(baseline: dict[str, Any], changes: Mapping[str, Mapping[str, Any]]) -> dict[str, dict[str, Any]]:
    if not changes:
        raise ValueError("needs at least one change")
    taken = {"baseline", "together", *(f"without {name}" for name in changes)} & changes.keys()
    if taken:
        raise ValueError(f"no change may be called {', '.join(map(repr, sorted(taken)))}: that is a variant's name")
    settings = [setting for change in changes.values() for setting in change]
    twice = {setting for setting in settings if settings.count(setting) > 1}
    if twice:
        raise ValueError(f"two changes of {', '.join(sorted(twice))}: what is one change must be one entry")
    variants = {"baseline": baseline} | {name: baseline | dict(change) for name, change in changes.items()}
    everything = {setting: value for change in changes.values() for setting, value in change.items()}
    if len(changes) > 1:
        variants["together"] = baseline | everything
    if len(changes) > 2:
        for name, change in changes.items():
            variants[f"without {name}"] = baseline | {key: everything[key] for key in everything if key not in change}
    return variants


def _scores(variant: str, metric: str, values: ArrayLike) -> NDArray[np.float64]:
    scores = np.asarray(values, dtype=np.float64)
    if scores.ndim != 1 or len(scores) < 2:
        raise ValueError(f"{metric!r} of {variant!r} must be one number for each of several seeds, got {scores.shape}")
    return scores
