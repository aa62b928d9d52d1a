"""Section 3.3: the rule of the early stopper, as properties of any sequence of validation losses."""

import hypothesis.strategies as st
import torch
from hypothesis import example, given

from fitcore import training
from fitcore.testing import CONDITIONAL, claim, replace

PATIENCE = 20

patiences = st.integers(1, 30)
falls = st.lists(st.floats(1e-3, 1.0), min_size=1, max_size=20)


class OneEpochTooLate(training.EarlyStopping):
    """Counts one more than its patience."""

    def __init__(self, patience, min_delta=0.0):
        super().__init__(patience + 1, min_delta)


class WithoutReset:
    """Counts all epochs without improvement, in a row or not."""

    def __init__(self, patience, min_delta=0.0):
        self.patience, self.min_delta, self.best, self.counter = patience, min_delta, torch.inf, 0

    def improves(self, loss):
        return loss < self.best - self.min_delta

    def update(self, loss):
        if self.improves(loss):
            self.best = loss
        else:
            self.counter += 1
        return self.counter >= self.patience


class AgainstTheLastLoss(WithoutReset):
    """Compares each loss with the one before it, not with the best that counted."""

    def update(self, loss):
        self.counter = 0 if self.improves(loss) else self.counter + 1
        self.best = loss
        return self.counter >= self.patience


class UnlessNoLower(WithoutReset):
    """Takes for an improvement whatever is not at least the best so far, as NaN never is."""

    def improves(self, loss):
        return not loss >= self.best - self.min_delta


def epoch_of_the_stop(losses, patience, min_delta=0.0):
    """The epoch, from 1, after which the stopper says so; None if it never does."""
    stopping = training.EarlyStopping(patience, min_delta)
    told = (bool(stopping.update(loss)) for loss in torch.tensor(losses, dtype=torch.float64))
    return next((epoch for epoch, stop in enumerate(told, 1) if stop), None)


def falling(steps):
    """Losses from 100 down, by each of the steps."""
    return (100 - torch.tensor(steps, dtype=torch.float64).cumsum(0)).tolist()


@claim(
    "generalization/early-stopper-fires-after-patience",
    controls=[replace("fitcore.training.EarlyStopping", OneEpochTooLate)],
)
@example(steps=[1.0], above=[0.0] * 40, patience=10)
@given(steps=falls, above=st.lists(st.floats(0.0, 10.0), min_size=30, max_size=40), patience=patiences)
def test_the_stopper_fires_at_the_last_of_patience_epochs_without_improvement(steps, above, patience):
    losses = falling(steps)
    stale = [losses[-1] + excess for excess in above]
    assert epoch_of_the_stop(losses + stale[: patience - 1], patience) is None
    assert epoch_of_the_stop(losses + stale, patience) == len(losses) + patience


@claim(
    "generalization/early-stopper-resets-on-improvement",
    finding="With the default min_delta = 0, even by the last bit of a double; with another, by more than min_delta.",
    controls=[replace("fitcore.training.EarlyStopping", WithoutReset)],
)
@given(best=st.floats(0.1, 100.0), patience=st.integers(2, 30), min_delta=st.sampled_from([0.0, 0.01]))
def test_an_improvement_however_small_resets_the_counter(best, patience, min_delta):
    improved = torch.nextafter(torch.tensor(best - min_delta, dtype=torch.float64), torch.tensor(0.0).double()).item()
    waiting = [best] * patience
    losses = waiting + [improved] * patience
    assert epoch_of_the_stop(losses, patience, min_delta) is None
    assert epoch_of_the_stop([*losses, improved], patience, min_delta) == 2 * patience + 1


@claim(
    "generalization/early-stopper-min-delta-ignores-small-gains",
    verdict=CONDITIONAL,
    finding="Small gains add up: a loss is compared with the last that counted as an improvement, not with "
    "the one before. So a steady gain stops training only below min_delta / patience = 0.0005 an "
    "epoch; anything between that and min_delta goes on for ever.",
    controls=[replace("fitcore.training.EarlyStopping", AgainstTheLastLoss)],
)
@example(share=0.5, min_delta=0.01, patience=PATIENCE)
@given(share=st.floats(0.01, 0.95), min_delta=st.floats(1e-3, 1.0), patience=st.integers(2, 30))
def test_steady_gains_below_min_delta_stop_only_if_patience_epochs_of_them_are_too(share, min_delta, patience):
    enough = min_delta / patience
    gains = share * enough, 1.05 * enough + share * (min_delta - 1.05 * enough)
    slow, fast = (falling([gain] * (5 * patience)) for gain in gains)
    assert epoch_of_the_stop(slow, patience, min_delta) == patience + 1
    assert epoch_of_the_stop(fast, patience, min_delta) is None


@claim(
    "generalization/early-stopper-stops-on-nan",
    finding="NaN is below nothing, so it counts as no improvement: the stop comes patience epochs after the "
    "start, or after the last finite improvement.",
    controls=[replace("fitcore.training.EarlyStopping", UnlessNoLower)],
)
@example(steps=[], patience=PATIENCE)
@given(steps=st.lists(st.floats(1e-3, 1.0), max_size=10), patience=patiences)
def test_a_loss_that_is_nan_runs_out_of_patience(steps, patience):
    losses = falling(steps) + [torch.nan] * 40
    assert epoch_of_the_stop(losses, patience) == len(steps) + patience
