"""Tests of ``fitcore.testing.statistics``: both errors of every rule, exactly where possible, else by simulation."""

from functools import cache

import numpy as np
import pytest
from numpy.typing import NDArray
from scipy.stats import binom, binomtest

from fitcore.testing import ClaimError
from fitcore.testing.statistics import (
    ALPHA,
    DEFAULT_TRIALS,
    FLAKE,
    Decision,
    always,
    equivalent,
    less,
    mostly,
    trials_needed,
)

SIZES_AND_SHARES = [(14, 0.5), (40, 0.5), (DEFAULT_TRIALS, 0.5), (151, 0.5), (88, 0.9), (200, 0.9), (100, 0.01)]

# Continuous, of median zero, and of every shape: symmetric, skewed, without a mean, without mass on one side.
MEDIAN_ZERO = {
    "normal": lambda rng, shape: rng.normal(size=shape),
    "lognormal": lambda rng, shape: rng.lognormal(sigma=2, size=shape) - 1,
    "Cauchy": lambda rng, shape: rng.standard_cauchy(size=shape),
    "exponential": lambda rng, shape: rng.exponential(size=shape) - np.log(2),
}


@cache
def decisions(n: int, share: float) -> list[Decision]:
    """What ``mostly`` decides after 0, 1, ..., n hits in n trials."""
    return [mostly(np.arange(n) < hits, share) for hits in range(n + 1)]


def fewest_hits(n: int, share: float) -> int:
    return sum(not decision.confirmed for decision in decisions(n, share))


def p_values(shows: NDArray[np.bool_]) -> NDArray[np.float64]:
    """The p-value against a share of one half of every row (a data set) of trials that show an effect."""
    return np.array([decision.p_value for decision in decisions(shows.shape[1], 0.5)])[shows.sum(axis=1)]


def assert_no_too_small(p: NDArray[np.float64]) -> None:
    """Assert P(p <= u) <= u, but for five standard errors of the simulation."""
    levels = np.array([0.5, 0.2, 0.1, 0.05, 0.01, 0.001])
    rates = (p[:, None] <= levels).mean(axis=0)
    assert (rates <= levels + 5 * np.sqrt(levels * (1 - levels) / len(p))).all()


@pytest.mark.parametrize(("n", "share"), SIZES_AND_SHARES)
def test_p_values_are_those_of_the_exact_binomial_test(n, share):
    expected = [binomtest(hits, n, share, alternative="greater").pvalue for hits in range(n + 1)]
    np.testing.assert_allclose([decision.p_value for decision in decisions(n, share)], expected, rtol=1e-9)


@pytest.mark.parametrize(("n", "share"), SIZES_AND_SHARES)
def test_a_rule_confirms_where_p_is_at_most_alpha(n, share):
    assert all(decision.confirmed == (decision.p_value <= ALPHA) for decision in decisions(n, share))


@pytest.mark.parametrize(("n", "share"), SIZES_AND_SHARES)
def test_a_share_at_the_boundary_is_confirmed_with_probability_at_most_alpha(n, share):
    confirmed = np.array([decision.confirmed for decision in decisions(n, share)])
    assert 0 < binom.pmf(np.arange(n + 1), n, share)[confirmed].sum() <= ALPHA


@pytest.mark.parametrize("draw", MEDIAN_ZERO.values(), ids=MEDIAN_ZERO)
def test_less_confirms_no_median_at_the_boundary_more_often_than_stated(draw):
    differences = draw(np.random.default_rng(0), (100_000, 40))
    assert_no_too_small(p_values(differences > 0))


@pytest.mark.parametrize("draw", MEDIAN_ZERO.values(), ids=MEDIAN_ZERO)
@pytest.mark.parametrize("side", [1, -1])
def test_equivalent_confirms_no_median_at_either_boundary_more_often_than_stated(draw, side):
    differences = draw(np.random.default_rng(0), (100_000, 40)) + side
    assert_no_too_small(np.maximum(p_values(differences < 1), p_values(differences > -1)))


@pytest.mark.parametrize("draw", MEDIAN_ZERO.values(), ids=MEDIAN_ZERO)
def test_less_counts_the_trials_in_which_b_exceeds_a_by_more_than_asked(draw):
    a, b = draw(np.random.default_rng(1), (2, 40))
    assert less(a, b, by=0.1).p_value == p_values((b - a > 0.1)[None])[0]


@pytest.mark.parametrize("draw", MEDIAN_ZERO.values(), ids=MEDIAN_ZERO)
def test_equivalent_is_as_weak_as_its_weaker_side(draw):
    a, b = draw(np.random.default_rng(1), (2, 40))
    sides = p_values(np.stack([b - a < 0.5, b - a > -0.5]))
    assert equivalent(a, b, within=0.5).p_value == max(sides)


def test_equivalent_needs_both_sides():
    zeros = np.zeros(40)
    assert equivalent(zeros, zeros, within=0.1).confirmed
    assert not equivalent(zeros, zeros + 0.2, within=0.1).confirmed
    assert not equivalent(zeros, zeros - 0.2, within=0.1).confirmed


def test_a_difference_at_the_boundary_shows_no_effect():
    zeros = np.zeros(40)
    assert less(zeros, zeros + 1, by=1).estimate == 0
    assert equivalent(zeros, zeros + 1, within=1).estimate == 0


def test_one_diverged_trial_decides_nothing():
    a = np.zeros(40)
    b = np.append(np.ones(39), -1e30)
    assert less(a, b).confirmed


@pytest.mark.parametrize(("shows", "confirmed"), [([True] * 3, True), ([True, False, True], False), ([True], True)])
def test_always_is_for_certainties(shows, confirmed):
    decision = always(np.array(shows))
    assert decision.confirmed is confirmed
    assert decision.p_value is decision.fresh_seed_failure is None


def test_the_default_number_of_trials_is_what_a_rate_of_nine_in_ten_needs():
    assert trials_needed(0.9) == DEFAULT_TRIALS


def test_a_rate_of_nine_in_ten_fails_on_fresh_seeds_at_most_once_in_a_million_runs():
    assert binom.cdf(fewest_hits(DEFAULT_TRIALS, 0.5) - 1, DEFAULT_TRIALS, 0.9) <= FLAKE


@pytest.mark.parametrize(("rate", "share"), [(0.9, 0.5), (1.0, 0.5), (0.99, 0.9), (0.7, 0.5)])
def test_trials_needed_is_the_fewest_from_which_on_the_error_stays_below(rate, share):
    n = trials_needed(rate, share)
    sizes = np.arange(n - 1, n + 100)
    fewest = binom.isf(ALPHA, sizes, share) + 1
    errs = binom.cdf(fewest - 1, sizes, rate) > FLAKE
    assert errs[0]
    assert not errs[1:].any()


@pytest.mark.parametrize("n", [14, DEFAULT_TRIALS])
def test_the_estimated_failure_on_fresh_seeds_is_that_of_the_bootstrap(n):
    rng = np.random.default_rng(0)
    hits = np.arange(1, n)
    # A resample of n trials hits as often as a binomial does; the half hit is felt where nearly all or none are hits.
    resampled = rng.binomial(n, hits[:, None] / n, size=(n - 1, 20_000))
    failures = (resampled < fewest_hits(n, 0.5)).mean(axis=1)
    estimated = np.array([decisions(n, 0.5)[k].fresh_seed_failure for k in hits])
    np.testing.assert_allclose(estimated, failures, atol=0.15 if n < 20 else 0.04)


def test_a_thin_margin_is_predicted_to_fail_and_a_full_one_not():
    n = DEFAULT_TRIALS
    assert mostly(np.arange(n) < fewest_hits(n, 0.5), 0.5).fresh_seed_failure > 0.3
    assert mostly(np.ones(n, dtype=bool), 0.5).fresh_seed_failure < FLAKE


def test_the_interval_is_that_of_clopper_and_pearson():
    decision = mostly(np.arange(40) < 36, 0.5)
    assert decision.estimate == 0.9
    assert decision.interval == tuple(binomtest(36, 40).proportion_ci(confidence_level=1 - 2 * ALPHA))


def test_all_trials_may_be_compared_with_one_number() -> None:
    values = np.linspace(0.0, 1.0, 40)
    assert less(values, 2.0) == less(values, np.full(40, 2.0))
    assert less(-1.0, values) == less(np.full(40, -1.0), values)
    assert equivalent(0.5, values, within=1.0) == equivalent(np.full(40, 0.5), values, within=1.0)


MISTAKES = {
    "too few trials": (lambda: mostly([True] * 13, 0.5), "mostly(at_least=0.5) needs at least 14 trials to decide"),
    "too few pairs": (lambda: less([0.0], [1.0]), "less(at_least=0.5) needs at least 14 trials to decide, got 1"),
    "no trials": (lambda: mostly([], 0.5), "needs one boolean a trial, got float64 of shape (0,)"),
    "a share above one": (lambda: mostly([True] * 99, 1.5), "at_least must be in (0, 1), got 1.5"),
    "numbers for booleans": (lambda: always([1, 0]), "needs one boolean a trial, got int64 of shape (2,)"),
    "a mask of two axes": (lambda: always([[True]]), "needs one boolean a trial, got bool of shape (1, 1)"),
    "unpaired values": (lambda: less([1, 2], [1]), "paired values need the same shape, got (2,) and (1,)"),
    "values of two axes": (lambda: less([[1, 2]], [[1, 2]]), "must be one number a trial, got shape (1, 2)"),
    "no width": (lambda: equivalent([1], [1], within=0), "within must be positive, got 0"),
    "a rate at the boundary": (lambda: trials_needed(0.5), "needs 0 < at_least < rate <= 1, got at_least=0.5"),
    "a rate too near": (lambda: trials_needed(0.501), "more than 10000 trials needed to tell a rate of 0.501 from 0.5"),
}


@pytest.mark.parametrize(("decide", "message"), MISTAKES.values(), ids=MISTAKES)
def test_a_mistake_says_what_is_wrong_and_what_was_given(decide, message):
    with pytest.raises(ClaimError) as error:
        decide()
    assert message in str(error.value)
