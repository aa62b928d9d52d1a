"""Case 3: early stopping by validation rows that are trained on, as printed, and by rows that are held out."""

import io

import hypothesis.strategies as st
import numpy as np
import pytest
import torch
from hypothesis import given
from torch import nn

from fitcore.testing import CONDITIONAL, REFUTED, claim, override
from fitcore.training import EarlyStopping

NOISY = {"hidden": (64, 32), "weight_decay": 1e-5, "noise": 130.0, "validation_share": 0.25, "lr": 3e-3, "epochs": 30}


@pytest.fixture
def on_noisy_data(initial):
    """Regressors without BatchNorm that learned noisy targets, each its own, without the validation rows."""
    return lambda: initial(repaired=True, own_data=True, **NOISY)


def optimism(learned, watching):
    """By how much the test MAE exceeds the best MAE on the rows watched, (S,)."""
    stopped = learned.stopped(watching=watching)
    return stopped.test - stopped.watched


@claim(
    "tuning-cases/case3-leaked-validation-is-optimistic",
    finding="As printed the best validation MAE is about 0.023 below the test MAE of that epoch, 0.078; with the "
    "loader repaired it is right to about 0.002 on average (15 epochs). On noisy prices (noise=130, no BatchNorm, Adam "
    "at 0.003) rows that are trained on promise over 0.2 less than the test has; rows held out are right to 0.02.",
    controls=[override("rows held out instead", leaked="validation")],
    trials=48,
)
def test_rows_that_are_trained_on_promise_too_much(improved, on_noisy_data, trials, evidence, leaked="rehearsed"):
    printed, repaired, noisy = improved(), improved(repaired=True, epochs=15), on_noisy_data()
    as_printed = optimism(printed, "validation")
    of_repaired, of_noisy = (
        {"trained on": optimism(each, leaked), "held out": optimism(each, "validation")} for each in (repaired, noisy)
    )
    evidence.compare("test MAE - best validation MAE, 1000 rows", {"as printed": as_printed} | of_repaired)
    evidence.compare("test MAE - best validation MAE, noisy targets", of_noisy)
    trials.mostly(as_printed > 0, at_least=0.5, name="as printed: too low")
    trials.mostly(of_repaired["trained on"] > 0, at_least=0.5, name="loader repaired, trained on: too low")
    trials.mostly(of_noisy["trained on"] > 0.1, at_least=0.5, name="noisy, trained on: too low by 0.1")
    assert abs(of_repaired["held out"].mean()) < 0.01
    assert abs(of_noisy["held out"].mean()) < 0.05


@claim(
    "tuning-cases/case3-leak-makes-early-stopping-late",
    finding="On noisy prices (noise=130, no BatchNorm, Adam at 0.003) it stops after 10 epochs on average by rows "
    "held out; by as many rows that are trained on hardly ever within 30.",
    controls=[override("rows held out instead", leaked="validation")],
    trials=48,
)
def test_watching_rows_that_are_trained_on_stops_late(on_noisy_data, trials, evidence, leaked="rehearsed"):
    noisy = on_noisy_data()
    late, early = noisy.stopped(watching=leaked).epochs, noisy.stopped().epochs
    curves = {"trained on": getattr(noisy, leaked), "held out": noisy.validation, "test": noisy.test}
    means = {name: maes.mean(1) for name, maes in curves.items()}
    evidence.curve("MAE, mean over seeds", range(1, len(noisy.test) + 1), means, x_label="epoch")
    evidence.compare("epochs trained", {"trained on": late, "held out": early})
    trials.less(early, late, name="stops later")


@claim(
    "tuning-cases/case3-early-stopping-triggers",
    finding="In nearly every run, after some 10 to 49 epochs: not because the error has stopped falling, but because "
    "BatchNorm makes it fluctuate. Without BatchNorm it triggers in about a quarter of the runs.",
    controls=[override("no BatchNorm", batch_norm=False)],
    trials=48,
)
def test_early_stopping_triggers_before_epoch_50(improved, trials, evidence, batch_norm=True):
    epochs = improved(batch_norm=batch_norm).stopped().epochs
    evidence.observe("epochs trained", epochs, limit=50)
    trials.mostly(epochs < 50, at_least=0.5)


@claim(
    "tuning-cases/case3-early-stopping-lowers-error",
    verdict=CONDITIONAL,
    finding="As printed it doesn't: 0.078 where it stops and 0.072 after all 50 epochs (means), for the test MAE is "
    "still falling. On noisy prices (noise=130, no BatchNorm, Adam at 0.003), by rows held out, it does: about 0.49 "
    "instead of 0.55 after 30 epochs.",
    controls=[
        override("an end before overtraining", end=4),
        override("noisy prices instead of the printed ones", prices="noisy"),
    ],
    trials=48,
)
def test_early_stopping_helps_against_noise_and_not_as_printed(
    improved, on_noisy_data, trials, evidence, *, end=30, prices="printed"
):
    printed, noisy = {"printed": improved, "noisy": on_noisy_data}[prices](), on_noisy_data()
    stopped, noisy_stopped = printed.stopped().test, noisy.stopped().test
    evidence.compare("test MAE, as printed", {"stopped": stopped, "50 epochs": printed.test[-1]})
    evidence.compare("test MAE, noisy targets", {"stopped": noisy_stopped, f"{end} epochs": noisy.test[end - 1]})
    assert (stopped - printed.test[-5:].mean(0)).mean() > -0.002
    trials.less(printed.test[40:].mean(0), printed.test[10:20].mean(0), name="as printed: still falling")
    trials.less(noisy_stopped, noisy.test[end - 1], name="noisy targets: lower")


class AgainstTheLast(EarlyStopping):
    """Counts epochs in which the loss was no lower than in the one before."""

    def update(self, loss):
        """Compare with the last loss instead of the best."""
        stopped = super().update(loss)
        self.best = loss
        return stopped


def last_five(maes, epochs):
    """The changes of the MAE from epoch to epoch in the five before the stop, (S, 5); maes is (E, S)."""
    return np.stack([np.diff(curve)[end - 6 : end - 1] for curve, end in zip(maes.T.numpy(), epochs, strict=True)])


@claim(
    "tuning-cases/case3-early-stop-message-no-decrease",
    verdict=REFUTED,
    finding="In nearly every run the MAE fell at least once within the five, from one epoch to the next: the "
    "counter compares with the best so far, and that is what none of the five came below.",
    controls=[override("compared with the last epoch", rule=AgainstTheLast)],
    trials=48,
)
def test_the_mae_falls_within_the_five_epochs_but_not_below_the_best(improved, trials, evidence, rule=EarlyStopping):
    printed = improved()
    stopped = printed.stopped(rule=rule)
    changes = last_five(printed.validation, stopped.epochs.tolist())
    evidence.observe("falls among the last five epochs", (changes < 0).sum(1))
    trials.mostly((changes < 0).any(1) & (stopped.epochs < 50).numpy(), at_least=0.5, name="falls, and yet it stops")
    after_the_best = 1 + changes.cumsum(1) / stopped.watched.numpy()[:, None]
    trials.always((after_the_best > 1 - 1e-5).all(1) | (stopped.epochs == 50).numpy(), name="none below the best")


def saved(model):
    """A file with the weights, read again after the training."""
    file = io.BytesIO()
    torch.save(model.state_dict(), file)
    return lambda: torch.load(io.BytesIO(file.getvalue()))


def referred_to(model):
    """The weights themselves, which the training goes on to change."""
    weights = model.state_dict()
    return lambda: weights


@claim(
    "tuning-cases/best-checkpoint-is-restored",
    finding="A file does; a state_dict kept in memory without copying it would be the last weights.",
    controls=[override("a reference instead of a file", keep=referred_to)],
)
@given(maes=st.lists(st.floats(0, 1), min_size=1, max_size=8).map(lambda maes: [*maes, 2.0]), keep=st.just(saved))
def test_what_is_loaded_in_the_end_are_the_weights_of_the_first_best_epoch(maes, keep):
    model, best = nn.BatchNorm1d(3), torch.inf
    for epoch, mae in enumerate(maes):
        with torch.no_grad():
            for values in model.state_dict().values():
                values.fill_(epoch)
        if mae < best:
            best, kept = mae, keep(model)
    model.load_state_dict(kept())
    assert all((values == maes.index(min(maes))).all() for values in model.state_dict().values())
