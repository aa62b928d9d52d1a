"""Tests of ``fitcore.testing.trials``: seeds, runs under them, and assertions over what they gave."""

import random

import numpy as np
import pytest
import torch

from fitcore.testing import ClaimError
from fitcore.testing.evidence import Evidence
from fitcore.testing.statistics import ALPHA, DEFAULT_TRIALS
from fitcore.testing.trials import Trials, trial_seeds


def begun(count: int | None = None, base_seed: int = 0, scale: float = 1.0, key: str = "a") -> Trials:
    trials = Trials(Evidence(), base_seed, scale)
    trials.begin(key, count)
    return trials


@pytest.fixture
def trials() -> Trials:
    return begun(40)


@pytest.mark.parametrize("other", [{"base_seed": 1}, {"key": "b"}])
def test_seeds_depend_on_the_base_seed_and_the_claim(other):
    assert (begun(40).seeds == begun(40).seeds).all()
    assert not set(begun(40).seeds) & set(begun(40, **other).seeds)


def test_more_trials_go_on_where_fewer_ended():
    assert (begun(40, scale=2).seeds[:40] == begun(40).seeds).all()


def test_seeds_are_what_every_generator_accepts():
    seeds = trial_seeds(2**70, "a", 10_000)
    assert seeds.min() >= 0
    assert seeds.max() < 2**32
    assert len(set(seeds)) > 9_990


@pytest.mark.parametrize(
    ("count", "scale", "expected"), [(None, 1, DEFAULT_TRIALS), (10, 1, 10), (10, 0.25, 2), (10, 0.01, 1), (10, 3, 30)]
)
def test_the_number_of_trials_is_what_the_claim_declares_times_the_scale(count, scale, expected):
    trials = begun(count, scale=scale)
    assert trials.count == len(trials.seeds) == expected


def test_trials_count_as_used_once_somebody_takes_their_seeds(trials):
    assert trials.used is None
    trials.map(float)
    assert trials.used == trials.count


def test_decisions_on_other_trials_count_them_and_name_no_seeds_that_they_did_not_run_under(trials):
    with pytest.raises(AssertionError, match=r"seen in 0 of 40 trials, p = 1 > 0\.0001$"):
        trials.mostly(np.zeros(40, dtype=bool), at_least=0.5)
    assert trials.used == 40


def test_each_run_gets_its_seed_in_every_generator(trials):
    drawn = trials.map(lambda seed: [random.random(), np.random.random(), torch.rand(()).item()])  # noqa: NPY002
    again = trials.map(lambda seed: [random.random(), np.random.random(), torch.rand(()).item()])  # noqa: NPY002
    assert drawn.shape == (40, 3)
    assert len(np.unique(drawn)) == 120
    np.testing.assert_array_equal(drawn, again)


@pytest.mark.parametrize("kind", [float, torch.tensor, lambda seed: torch.tensor(1.0, requires_grad=True) * seed])
def test_runs_return_numbers_arrays_or_tensors(kind, trials):
    np.testing.assert_allclose(trials.map(kind), trials.seeds, rtol=1e-6)


def test_a_trial_that_is_not_finite_is_named_by_its_seed(trials):
    seed = trials.seeds[7]
    with pytest.raises(ClaimError, match=f"trial 7 under seed {seed} is not finite: nan"):
        trials.map(lambda given: float("nan") if given == seed else 0.0)


def test_a_claim_may_predict_what_is_not_finite(trials):
    assert np.isnan(trials.map(lambda seed: float("nan"), finite=False)).all()


MISTAKES = {
    "shapes": (lambda t: t.map(lambda seed: [0] * (seed % 2)), "trials return different shapes: (0,), (1,)"),
    "nothing": (lambda t: t.map(lambda seed: None), "trials return no numbers, e.g. array(None, dtype=object)"),
    "no pairs": (lambda t: t.less(0, 1), "paired values must be one number a trial, got shape ()"),
    "an infinite side": (lambda t: t.less(np.zeros(40), np.full(40, np.inf)), "is not finite: inf"),
    "too few": (lambda t: t.mostly([True] * 40), "mostly(at_least=0.9) needs at least 88 trials to decide, got 40"),
}


@pytest.mark.parametrize(("use", "message"), MISTAKES.values(), ids=MISTAKES)
def test_a_mistake_says_what_is_wrong(use, message, trials):
    with pytest.raises(ClaimError) as error:
        use(trials)
    assert message in str(error.value)


# An assertion -> one that holds, one that doesn't, and what the failure says of it.
ASSERTIONS = {
    "always": (
        lambda t: t.always(np.ones(40, dtype=bool)),
        lambda t: t.always(np.arange(40) != 7),
        "in every trial: seen in 39 of 40 trials; against it e.g. seeds {seeds[7]}",
    ),
    "mostly": (
        lambda t: t.mostly(np.arange(40) > 2, at_least=0.5),
        lambda t: t.mostly(np.arange(40) > 19, at_least=0.5),
        "in more than 50% of trials: seen in 20 of 40 trials, p = 0.56 > 0.0001; against it e.g. seeds {seeds[0]}, ",
    ),
    "less": (
        lambda t: t.less(np.zeros(40), np.ones(40), by=0.5),
        lambda t: t.less(np.zeros(40), np.ones(40), by=1.5),
        "less by 1.5 in more than 50% of trials: seen in 0 of 40 trials, p = 1 > 0.0001; against it e.g. seeds",
    ),
    "equivalent": (
        lambda t: t.equivalent(np.zeros(40), np.full(40, 0.1), within=0.2),
        lambda t: t.equivalent(np.zeros(40), np.full(40, 0.3), within=0.2),
        "median difference within ±0.2: seen in 0 of 40 trials, p = 1 > 0.0001; against it e.g. seeds",
    ),
}


@pytest.mark.parametrize(("holds", "fails", "message"), ASSERTIONS.values(), ids=ASSERTIONS)
def test_what_is_not_confirmed_is_an_assertion_error_that_names_seeds(holds, fails, message, trials):
    seeds = trials.seeds
    holds(trials)
    with pytest.raises(AssertionError) as error:
        fails(trials)
    assert message.format(seeds=seeds) in str(error.value)


@pytest.mark.parametrize("rule", ASSERTIONS)
def test_every_decision_is_evidence_confirmed_or_not(rule):
    evidence = Evidence()
    trials = Trials(evidence, 0, 1.0)
    trials.begin("a", 40)
    holds, fails, _ = ASSERTIONS[rule]
    holds(trials)
    assert [(record["rule"], record["trials"], record["alpha"]) for record in evidence.records] == [(rule, 40, ALPHA)]
    assert evidence.records[-1]["confirmed"]
    with pytest.raises(AssertionError):
        fails(trials)
    assert not evidence.records[-1]["confirmed"]


def test_a_decision_has_the_name_that_the_claim_gives_it():
    evidence = Evidence()
    Trials(evidence, 0, 1.0).always([True], name="the loss falls")
    assert evidence.records[0]["name"] == "the loss falls"
