"""Sections 8.5.1 and 8.5.5: held-out losses that rise, and what is done against it."""

import numpy as np
import pytest
import torch

from fitcore.testing import claim, override
from fitcore.training import EarlyStopping

TRIALS = 60
CHANCE = float(np.log(10))  # the loss of a model that knows nothing of ten classes


@claim(
    "pytorch-notes/overfitting-val-loss-rises",
    finding="With 40 % of the labels drawn at random the training loss falls all the way to 0.06; the held-out loss "
    "falls from 2.1 to about 1.0 and then rises to about 2.1 (medians).",
    controls=[override("clean labels, and more of them", setting="roomy")],
    trials=TRIALS,
)
def test_overfitting_shows_in_a_held_out_loss_that_falls_and_then_rises(
    learned, trials, evidence, setting="overfitting"
):
    curves = learned(setting)
    evidence.curve("overfitting", curves.epochs, curves.medians, x_label="epoch")
    best, best_epoch = curves.held_out.min(0)
    gap = curves.held_out - curves.training
    trials.less(curves.training[-1], 0.7 * curves.training.gather(0, best_epoch[None])[0], name="training goes on")
    trials.less(best, 0.8 * curves.held_out[0], name="the held-out loss falls first")
    trials.less(1.1 * best, curves.held_out[-1], name="and rises by a tenth after")
    trials.less(gap.gather(0, best_epoch[None])[0] + 0.2, gap[-1], name="the gap grows")


REMEDIES = {
    "weight decay": {"decay": 0.02},
    "dropout": {"dropout": 0.5},
    "shifted images": {"shifts": True},
}


@claim(
    "pytorch-notes/regularisation-lowers-val-loss",
    finding="Each takes away at least half of the rise, and lowers the loss in the end (medians).",
    controls=[override("nothing done", remedy={})],
    trials=TRIALS,
)
@pytest.mark.parametrize("remedy", REMEDIES.values(), ids=REMEDIES)
def test_regularisation_and_augmentation_cure_a_rising_held_out_loss(learned, trials, evidence, remedy):
    rising, cured = learned("overfitting").held_out, learned("overfitting", **remedy).held_out
    series = {"nothing done": rising.median(1).values, "remedy": cured.median(1).values}
    evidence.curve("median held-out loss", torch.arange(1, len(rising) + 1), series, x_label="epoch")
    rises = [(loss[-1] - loss.min(0).values) for loss in (rising, cured)]
    trials.less(rises[1], 0.85 * rises[0], name="rises by less than 85 % as much")
    trials.less(cured[-5:].mean(0), rising[-5:].mean(0), name="is lower in the end")


@claim(
    "pytorch-notes/regularisation-lowers-val-loss",
    finding="Early stopping, patience 5, on half of what is held out: the loss on the other half is lower by two "
    "fifths (median).",
    controls=[override("endless patience", patience=1000)],
    trials=TRIALS,
)
def test_early_stopping_comes_before_the_held_out_loss_has_risen(learned, trials, evidence, patience=5):
    curves = learned("overfitting")
    stopping = EarlyStopping(patience)
    stopped = torch.stack([stopping.update(loss).clone() for loss in curves.stopping])
    last = torch.where(stopped.any(0), stopped.int().argmax(0), len(stopped) - 1)
    in_time = curves.testing.gather(0, last[None])[0]
    evidence.observe("epochs until the stop", last + 1)
    trials.less(1.05 * in_time, curves.testing[-5:].mean(0), name="5 % lower at the stop than after all epochs")
