import math

import hypothesis.strategies as st
import pytest
import torch
from hypothesis import given
from torch import tensor

from fitcore.training import EarlyStopping

losses_of_a_run = st.lists(st.integers(0, 9).map(float) | st.just(math.nan), min_size=1, max_size=12)


def stopped_after(losses, patience, min_delta=0.0):
    """Number of checks that one run makes, by the book: Goodfellow et al., algorithm 7.1."""
    best, waited = math.inf, 0
    for count, loss in enumerate(losses, start=1):
        best, waited = (loss, 0) if loss < best - min_delta else (best, waited + 1)
        if waited == patience:
            return count
    return None


def checks_of(losses, patience, min_delta=0.0):
    stopping = EarlyStopping(patience, min_delta)
    return next((count for count, loss in enumerate(losses, start=1) if stopping.update(loss)), None)


@given(losses=losses_of_a_run, patience=st.integers(1, 4), min_delta=st.sampled_from([0.0, 1.0, 2.5]))
def test_stops_when_patience_has_run_out(losses, patience, min_delta):
    assert checks_of(losses, patience, min_delta) == stopped_after(losses, patience, min_delta)


@given(
    runs=st.integers(1, 4).flatmap(
        lambda runs: st.lists(st.lists(st.integers(0, 9).map(float), min_size=runs, max_size=runs), min_size=1)
    ),
    patience=st.integers(1, 3),
)
def test_every_run_has_its_own_patience(runs, patience):
    stopping = EarlyStopping(patience)
    history = torch.stack([stopping.update(tensor(losses)).clone() for losses in runs])
    assert (history[1:] >= history[:-1]).all(), "what has stopped stays so"
    for run, stops in enumerate(history.T):
        expected = stopped_after([losses[run] for losses in runs], patience)
        assert int(stops.sum()) == (0 if expected is None else len(runs) - expected + 1)
        counted = [losses[run] for losses in runs][:expected]
        assert stopping.best[run] == min(counted)


def test_an_improvement_must_exceed_min_delta():
    stopping = EarlyStopping(patience=1, min_delta=0.5)
    stopping.update(tensor(2.0))
    assert stopping.improved
    assert stopping.update(tensor(1.5))
    assert not stopping.improved
    assert stopping.best == 2.0


def test_nan_is_no_improvement_and_never_the_best():
    stopping = EarlyStopping(patience=2)
    assert not stopping.update(math.nan)
    assert stopping.best == math.inf
    assert not stopping.update(1.0)
    assert not stopping.update(math.nan)
    assert stopping.update(math.nan)
    assert stopping.best == 1.0


def test_a_stopped_run_improves_no_more():
    stopping = EarlyStopping(patience=1)
    stopping.update(tensor([1.0, 2.0]))
    stopping.update(tensor([1.0, 1.0]))
    stopping.update(tensor([0.0, 0.0]))
    assert stopping.stopped.tolist() == [True, False]
    assert stopping.improved.tolist() == [False, True]
    assert stopping.best.tolist() == [1.0, 0.0]


def test_without_any_loss_nothing_has_improved_or_stopped():
    state = EarlyStopping(1).state_dict()
    assert {name: value.item() for name, value in state.items()} == {
        "best": math.inf,
        "improved": False,
        "stopped": False,
        "waited": 0,
    }


def test_keeps_no_graph():
    stopping = EarlyStopping(patience=1)
    stopping.update(tensor(1.0, requires_grad=True))
    assert not stopping.best.requires_grad


@pytest.mark.parametrize(
    ("settings", "says"),
    [
        ({"patience": 0}, "patience must be at least 1, got 0"),
        ({"patience": 1, "min_delta": -0.1}, "min_delta must not be negative, got -0.1"),
    ],
)
def test_settings_that_make_no_sense_are_refused(settings, says):
    with pytest.raises(ValueError, match=says):
        EarlyStopping(**settings)
