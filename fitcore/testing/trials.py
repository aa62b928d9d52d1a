"""Trials: one run under each of many seeds, and the decisions taken on them."""

import hashlib
from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from fitcore.seeding import seeded
from fitcore.testing import statistics
from fitcore.testing.errors import ClaimError
from fitcore.testing.evidence import Evidence


def trial_seeds(base_seed: int, key: str, count: int) -> NDArray[np.int64]:
    """Return ``count`` seeds in [0, 2**32) that depend on the base seed and on ``key``, whatever else runs."""
    words = np.frombuffer(hashlib.sha256(key.encode()).digest(), dtype=np.uint32)
    sequence = np.random.SeedSequence(base_seed, spawn_key=tuple(int(word) for word in words))
    return sequence.generate_state(count).astype(np.int64)


class Trials:
    """The running claim's trials: what pytest hands out as the fixture ``trials``.

    A decision that isn't confirmed raises ``AssertionError``; every decision is recorded as evidence.
    """

    def __init__(self, evidence: Evidence, base_seed: int, scale: float) -> None:
        self._evidence = evidence
        self._base_seed = base_seed
        self._scale = scale
        self.begin("", None)

    def begin(self, key: str, count: int | None) -> None:
        """Make ready for the test ``key``, which wants ``count`` trials."""
        self._key = key
        self._count = max(1, round((count or statistics.DEFAULT_TRIALS) * self._scale))
        self._seeds_given = False
        self.used: int | None = None

    @property
    def count(self) -> int:
        """Number of trials: what the claim declares, times ``--trials``."""
        return self._count

    @property
    def seeds(self) -> NDArray[np.int64]:
        """One seed a trial, for code that runs all trials at once."""
        self._seeds_given = True
        self.used = self._count
        return trial_seeds(self._base_seed, self._key, self._count)

    def map(self, run: Callable[[int], Any], finite: bool = True) -> NDArray[Any]:
        """Call ``run(seed)`` for every seed, with ``random``, NumPy and torch seeded so, and stack what it returns.

        Args:
            run: returns a number, an array or a tensor, of the same shape for every seed.
            finite: whether NaN and infinity are errors, as they are unless the claim predicts them.

        Returns:
            (count, ...) array.

        Raises:
            ClaimError: naming the seed, where a trial yields NaN or infinity; or if trials return no numbers, or
                different shapes.

        """
        __tracebackhide__ = True
        outcomes = []
        for seed in self.seeds.tolist():
            with seeded(seed):
                outcome = run(seed)
            outcomes.append(np.asarray(outcome.detach().cpu() if hasattr(outcome, "detach") else outcome))
        shapes = {outcome.shape for outcome in outcomes}
        if len(shapes) > 1:
            raise ClaimError(f"trials return different shapes: {', '.join(map(str, sorted(shapes)))}")
        stacked = np.stack(outcomes)
        if stacked.dtype.kind not in "biufc":
            raise ClaimError(f"trials return no numbers, e.g. {outcomes[0]!r}")
        if finite:
            self._check_finite(stacked)
        return stacked

    def always(self, mask: ArrayLike, name: str = "in every trial") -> None:
        """Assert that ``mask`` (n,) is true in every trial, as a certainty must be."""
        __tracebackhide__ = True
        self._assert(statistics.always(mask), name, np.asarray(mask))

    def mostly(self, mask: ArrayLike, at_least: float = 0.9, name: str = "") -> None:
        """Assert that ``mask`` (n,) is true with probability above ``at_least``: exact binomial test."""
        __tracebackhide__ = True
        decision = statistics.mostly(mask, at_least)
        self._assert(decision, name or f"in more than {at_least:.0%} of trials", np.asarray(mask))

    def less(self, a: ArrayLike, b: ArrayLike, by: float = 0.0, at_least: float = 0.5, name: str = "") -> None:
        """Assert that b - a > ``by`` in more than ``at_least`` of the paired trials: exact sign test.

        With the default share: the median of b - a exceeds the smallest effect that counts, ``by``. Either of the two
        may be a number, which all trials are compared with.
        """
        __tracebackhide__ = True
        decision = statistics.less(a, b, by, at_least)
        self._check_finite(a, b)
        shows = np.asarray(b) - np.asarray(a) > by
        self._assert(decision, name or f"less by {by:g} in more than {at_least:.0%} of trials", shows)

    def equivalent(self, a: ArrayLike, b: ArrayLike, within: float, name: str = "") -> None:
        """Assert that the median of the paired differences b - a lies inside ±``within``: two one-sided sign tests.

        Either of the two may be a number, which all trials are compared with.
        """
        __tracebackhide__ = True
        decision = statistics.equivalent(a, b, within)
        self._check_finite(a, b)
        inside = np.abs(np.asarray(b) - np.asarray(a)) < within
        self._assert(decision, name or f"median difference within ±{within:g}", inside)

    def _assert(self, decision: statistics.Decision, name: str, shows: NDArray[np.bool_]) -> None:
        __tracebackhide__ = True
        self._evidence.decision(name, decision, statistics.ALPHA)
        self.used = max(self.used or 0, decision.trials)
        if not decision.confirmed:
            raise AssertionError(self._explain(decision, name, shows))

    def _explain(self, decision: statistics.Decision, name: str, shows: NDArray[np.bool_]) -> str:
        p = "" if decision.p_value is None else f", p = {decision.p_value:.2g} > {statistics.ALPHA:g}"
        seen = f"{name}: seen in {shows.sum()} of {decision.trials} trials{p}"
        against = np.flatnonzero(~shows)[:3]
        if not self._ran_under_the_seeds(decision.trials) or not against.size:
            return seen
        return f"{seen}; against it e.g. seeds {', '.join(str(self.seeds[index]) for index in against)}"

    def _ran_under_the_seeds(self, trials: int) -> bool:
        """Whether so many trials may have run under ``seeds``, and not under seeds that claims share."""
        return self._seeds_given and trials == self._count

    def _check_finite(self, *values: ArrayLike) -> None:
        __tracebackhide__ = True
        for array in map(np.atleast_1d, values):
            bad = np.flatnonzero(~np.isfinite(array.reshape(len(array), -1)).all(axis=1))
            if bad.size:
                of_seed = f" under seed {self.seeds[bad[0]]}" if self._ran_under_the_seeds(len(array)) else ""
                raise ClaimError(f"trial {bad[0]}{of_seed} is not finite: {array[bad[0]]}")
