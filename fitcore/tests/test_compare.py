"""Ablations."""

import numpy as np
import pytest
import scipy.stats

from fitcore.training import compare

CHANGES = {"a": {"a": 1.0}, "b": {"b": 2.0}, "both c and d": {"c": 3.0, "d": 4.0}}


def additive(a=0.0, b=0.0, c=0.0, d=0.0, offset=0.0):
    """A study whose changes add up, on top of what the seed makes."""
    return {"sum": np.random.default_rng(0).normal(size=5) + a + b + c + d + offset}


def test_each_change_is_measured_alone_together_and_left_out():
    comparison = compare(additive, CHANGES)
    differences = {variant: comparison.difference("sum", variant).mean for variant in comparison.scores}
    assert differences == pytest.approx(
        {
            "baseline": 0,
            "a": 1,
            "b": 2,
            "both c and d": 7,
            "together": 10,
            "without a": 9,
            "without b": 8,
            "without both c and d": 3,
        }
    )


@pytest.mark.parametrize(("names", "variants"), [(["a"], "baseline a"), (["a", "b"], "baseline a b together")])
def test_variants_that_would_repeat_others_are_left_out(names, variants):
    comparison = compare(additive, {name: CHANGES[name] for name in names})
    assert list(comparison.scores) == variants.split()


def test_a_change_overrides_the_baseline():
    comparison = compare(additive, {"a": {"a": 1.0}}, baseline={"a": 5.0, "offset": 1.0})
    assert comparison.difference("sum", "a").mean == pytest.approx(-4)
    np.testing.assert_allclose(comparison.scores["baseline"]["sum"], additive(a=5.0, offset=1.0)["sum"])


def test_the_interval_of_a_paired_difference_covers_the_truth_as_often_as_stated():
    rng = np.random.default_rng(0)

    def noisy(effect=0.0):
        return {"score": rng.normal(size=8) + effect}

    covered = [
        difference.low < 1 < difference.high
        for difference in (compare(noisy, {"it": {"effect": 1.0}}).difference("score", "it") for _ in range(2000))
    ]
    assert np.mean(covered) == pytest.approx(0.95, abs=0.02)


def test_what_seeds_have_in_common_cancels():
    difference = compare(additive, {"a": {"a": 1.0}}).difference("sum", "a")
    assert difference.low == pytest.approx(1) == difference.high
    assert abs(difference.standard_errors) > 1e6


def test_standard_errors_are_those_of_the_mean():
    values = {0.0: [0.0, 0.0, 0.0, 0.0], 1.0: [1.0, 2.0, 3.0, 4.0]}
    difference = compare(lambda a=0.0: {"score": values[a]}, {"a": {"a": 1.0}}).difference("score", "a")
    assert difference.standard_errors == pytest.approx(2.5 / (np.std([1, 2, 3, 4], ddof=1) / 2))


def differing(values):
    """The difference of ``values`` to zeros."""
    comparison = compare(lambda a=0.0: {"score": np.multiply(a, values)}, {"a": {"a": 1.0}})
    return comparison.difference("score", "a", confidence=0.9)


def test_the_interval_is_that_of_students_t():
    difference = differing([1.0, 2.0, 4.0, 8.0])
    expected = scipy.stats.ttest_1samp([1.0, 2.0, 4.0, 8.0], 0.0).confidence_interval(0.9)
    assert (difference.low, difference.high) == pytest.approx(tuple(expected))


@pytest.mark.parametrize("value", [2.0, -2.0])
def test_one_difference_under_every_seed_is_infinitely_many_standard_errors(value):
    assert differing([value] * 3).standard_errors == np.copysign(np.inf, value)


def test_identical_variants_are_no_standard_errors_apart():
    difference = compare(additive, {"a": {"a": 0.0}}).difference("sum", "a")
    assert difference.standard_errors == 0


def test_rows_say_what_each_variant_gave():
    assert compare(additive, {"a": {"a": 1.0}}).rows("sum")[1] == pytest.approx(
        {"variant": "a", "sum": additive(a=1.0)["sum"].mean(), "difference": 1.0, "from": 1.0, "to": 1.0}
    )


@pytest.mark.parametrize(
    ("study", "changes", "message"),
    [
        (additive, {}, "needs at least one change"),
        (additive, {"a": {"a": 1}, "A": {"a": 2}}, "two changes of a"),
        (additive, {"together": {"a": 1}}, "no change may be called 'together'"),
        (lambda a=0: {"sum": [1.0] * (2 + a)}, {"a": {"a": 1}}, "can't be paired: got [2, 3] of them"),
        (
            lambda a=0: {"sum": [1.0]},
            {"a": {"a": 1}},
            "'sum' of 'baseline' must be one number for each of",
        ),
    ],
)
def test_what_cannot_be_compared_is_refused(study, changes, message):
    with pytest.raises(ValueError, match=message.replace("[", r"\[")):
        compare(study, changes)


def test_a_misspelt_name_is_told_with_those_there_are():
    comparison = compare(additive, {"a": {"a": 1.0}})
    with pytest.raises(KeyError, match="no variant 'c' among 'baseline', 'a'"):
        comparison.difference("sum", "c")
    with pytest.raises(KeyError, match="no metric 'mean' among 'sum'"):
        comparison.difference("mean", "a")
