"""Decision rules over trials: each is an exact binomial test on what happened trial by trial.

Nothing is assumed about the distribution of a measured quantity: a trial either shows the effect or doesn't. Means are
not compared, since one diverged run would decide them; a claim about a mean averages within a trial.

Two errors are kept apart. *Confirming something false* has probability at most ``ALPHA`` for every rule here but
``always``, by the test's exactness. *Failing on fresh seeds although the statement is true* depends on the margin that
was observed: each decision carries a bootstrap estimate of it, to be kept below ``FLAKE`` by enough trials.
"""

import math
from dataclasses import dataclass
from functools import cache

import numpy as np
from numpy.typing import ArrayLike, NDArray

from fitcore.testing.errors import ClaimError

ALPHA = 1e-4
FLAKE = 1e-6
MOST_TRIALS = 10_000
DEFAULT_TRIALS = 80  # trials_needed(0.9): confirms a median effect that shows in nine trials of ten


@dataclass(frozen=True)
class Decision:
    """Outcome of a rule.

    Attributes:
        rule: ``always``, ``mostly``, ``less`` or ``equivalent``.
        trials: number of trials decided on.
        estimate: share of the trials that show the effect.
        interval: exact (Clopper-Pearson) interval for that share, of confidence 1 - 2 ``ALPHA``.
        threshold: the share that must be exceeded (``always``: reached).
        p_value: probability of so many trials showing the effect if the true share were the threshold.
        fresh_seed_failure: estimated probability that the rule fails on as many fresh seeds; ``None`` for ``always``,
            which is for certainties.
        confirmed: what was decided.

    """

    rule: str
    trials: int
    estimate: float
    interval: tuple[float, float]
    threshold: float
    p_value: float | None
    fresh_seed_failure: float | None
    confirmed: bool


def always(mask: ArrayLike) -> Decision:
    """Decide that every trial shows the effect, as a mathematical certainty does."""
    shows = _mask(mask)
    hits = int(shows.sum())
    interval = _share_interval(hits, len(shows))
    return Decision("always", len(shows), hits / len(shows), interval, 1.0, None, None, hits == len(shows))


def mostly(mask: ArrayLike, at_least: float) -> Decision:
    """Decide that the effect shows with probability above ``at_least``, by the exact binomial test.

    H0: P(effect) <= at_least; confirmed where p <= ``ALPHA``. The probability of failing on fresh seeds is that of the
    bootstrap, which for a share is exact: the binomial at the observed share, half a hit short of certainty either way.

    Args:
        mask: (n,) booleans, one a trial.
        at_least: a share in (0, 1).

    Raises:
        ClaimError: if no outcome of so few trials could confirm.

    """
    return _share_above("mostly", _mask(mask), at_least)


def less(a: ArrayLike, b: ArrayLike, by: float = 0.0, at_least: float = 0.5) -> Decision:
    """Decide that ``b`` exceeds ``a`` by more than ``by`` in more than a share ``at_least`` of paired trials.

    The exact sign test; with the default share it decides that the median of b - a exceeds ``by``.

    Args:
        a: (n,) values, or one number that holds for all trials.
        b: (n,) values of the same trials, or one number.
        by: smallest effect that counts, in the units of ``a`` and ``b``.
        at_least: share of the trials, in (0, 1).

    Raises:
        ClaimError: if the two have different shapes, or there are too few trials.

    """
    return _share_above("less", _differences(a, b) > by, at_least)


def equivalent(a: ArrayLike, b: ArrayLike, within: float) -> Decision:
    """Decide that the median of the paired differences b - a lies inside (-within, within).

    Two one-sided sign tests (TOST, Schuirmann 1987, with signs for Student's t); the weaker of the two is returned.

    Args:
        a: (n,) values, or one number that holds for all trials.
        b: (n,) values of the same trials, or one number.
        within: half width of what counts as equivalent, in the units of ``a`` and ``b``; positive.

    Raises:
        ClaimError: if ``within`` isn't positive, the shapes differ, or there are too few trials.

    """
    if not within > 0:
        raise ClaimError(f"within must be positive, got {within}")
    differences = _differences(a, b)
    sides = (_share_above("equivalent", side, 0.5) for side in (differences < within, differences > -within))
    return min(sides, key=lambda decision: decision.estimate)


@cache
def trials_needed(rate: float, at_least: float = 0.5) -> int:
    """Count the trials with which ``mostly`` errs at most as stated if the effect shows with probability ``rate``.

    The smallest n from which on P(Binomial(n, rate) is not confirmed against ``at_least``) <= ``FLAKE``.

    Raises:
        ClaimError: unless 0 < at_least < rate <= 1, or if more than ``MOST_TRIALS`` would be needed.

    """
    from scipy.stats import binom

    if not 0 < at_least < rate <= 1:
        raise ClaimError(f"needs 0 < at_least < rate <= 1, got at_least={at_least}, rate={rate}")
    sizes = np.arange(1, MOST_TRIALS + 1)
    errs = binom.cdf(_fewest_hits(sizes, at_least) - 1, sizes, rate) > FLAKE
    if errs[-1]:
        raise ClaimError(f"more than {MOST_TRIALS} trials needed to tell a rate of {rate} from {at_least}")
    # The error falls in a saw-tooth: take the size after the last that errs too often.
    return int(sizes[errs][-1]) + 1


def fresh_seed_failure(hits: int, seen: int, trials: int, at_least: float) -> float:
    """Estimate the probability that ``trials`` fresh trials don't confirm what ``hits`` of ``seen`` have shown.

    Exact for the observed share, taken half a hit short of certainty either way.
    """
    from scipy.stats import binom

    fewest = int(_fewest_hits(trials, at_least))
    return float(binom.cdf(fewest - 1, trials, (hits + 0.5) / (seen + 1)))


def _share_above(rule: str, shows: NDArray[np.bool_], at_least: float) -> Decision:
    from scipy.stats import binom

    if not 0 < at_least < 1:
        raise ClaimError(f"at_least must be in (0, 1), got {at_least}")
    n, hits = len(shows), int(shows.sum())
    if at_least**n > ALPHA:
        needed = math.ceil(math.log(ALPHA) / math.log(at_least))
        raise ClaimError(f"{rule}(at_least={at_least}) needs at least {needed} trials to decide, got {n}")
    p_value = float(binom.sf(hits - 1, n, at_least))
    return Decision(
        rule=rule,
        trials=n,
        estimate=hits / n,
        interval=_share_interval(hits, n),
        threshold=at_least,
        p_value=p_value,
        fresh_seed_failure=fresh_seed_failure(hits, n, n, at_least),
        confirmed=hits >= int(_fewest_hits(n, at_least)),
    )


def _fewest_hits(n: ArrayLike, at_least: float) -> NDArray[np.int64]:
    """The fewest hits in n trials that reject P(effect) <= at_least at level ``ALPHA``; n + 1 where none does."""
    from scipy.stats import binom

    return np.asarray(binom.isf(ALPHA, n, at_least), dtype=np.int64) + 1


def _share_interval(hits: int, n: int) -> tuple[float, float]:
    from scipy.stats import binomtest

    interval = binomtest(hits, n).proportion_ci(confidence_level=1 - 2 * ALPHA, method="exact")
    return float(interval.low), float(interval.high)


def _mask(mask: ArrayLike) -> NDArray[np.bool_]:
    shows = np.asarray(mask)
    if shows.dtype != np.bool_ or shows.ndim != 1 or not shows.size:
        raise ClaimError(f"needs one boolean a trial, got {shows.dtype} of shape {shows.shape}")
    return shows


def _differences(a: ArrayLike, b: ArrayLike) -> NDArray[np.float64]:
    first, second = np.asarray(a, dtype=np.float64), np.asarray(b, dtype=np.float64)
    if first.ndim and second.ndim and first.shape != second.shape:
        raise ClaimError(f"paired values need the same shape, got {first.shape} and {second.shape}")
    differences = second - first
    if differences.ndim != 1:
        raise ClaimError(f"paired values must be one number a trial, got shape {differences.shape}")
    return np.asarray(differences)
