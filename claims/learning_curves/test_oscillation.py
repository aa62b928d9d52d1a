"""Sections 8.3.2, 8.5.1 and 8.5.5: losses that go up and down."""

import numpy as np
import pytest
import torch

from fitcore.evaluation.diagnosis import roughness
from fitcore.testing import REFUTED, claim, override

TRIALS = 60
CHANCE = float(np.log(10))  # the loss of a model that knows nothing of ten classes


def roughnesses(curves):
    """Roughness of each trial's curve, (trials,)."""
    return np.array([roughness(curve) for curve in curves.T])


@claim(
    "pytorch-notes/loss-oscillates-when-lr-too-large",
    finding="At 1.5 the training loss goes back and forth over some two and a half times the distance between its "
    "extremes (median); at 0.1 it falls all the way.",
    controls=[override("a suitable rate", large="healthy"), override("not reduced", small="large rate")],
    trials=TRIALS,
)
def test_too_large_a_rate_makes_the_loss_oscillate_and_a_smaller_one_ends_that(
    learned, trials, evidence, large="large rate", small="healthy"
):
    rough, smooth = (learned(setting).training for setting in (large, small))
    series = {"lr 1.5": rough[:, 0], "lr 0.1": smooth[:, 0]}
    evidence.curve("training loss of one run", torch.arange(1, 21), series, x_label="epoch")
    evidence.compare("way over distance", {"lr 1.5": roughnesses(rough), "lr 0.1": roughnesses(smooth)})
    trials.mostly(roughnesses(rough) > 1.1, 0.5, name="lr 1.5: goes back and forth")
    trials.mostly(roughnesses(smooth) < 1.05, 0.5, name="lr 0.1: does not")


@claim(
    "pytorch-notes/val-oscillates-in-sync-with-train",
    finding="The changes of the two losses from epoch to epoch correlate by 0.97 (median).",
    controls=[override("the validation loss of another run", partner=1)],
    trials=TRIALS,
)
def test_the_held_out_loss_oscillates_in_step_with_the_training_loss(learned, trials, evidence, partner=0):
    curves = learned("large rate").with_partner(partner)
    evidence.curve("lr 1.5", curves.epochs, curves.medians, x_label="epoch")
    evidence.observe("correlation of the changes", curves.correlations)
    trials.mostly(roughnesses(curves.held_out) > 1.1, 0.5, name="the held-out loss oscillates too")
    trials.mostly((curves.correlations > 0.5).numpy(), 0.5, name="in step")


@claim(
    "pytorch-notes/val-arrows-opposite-phase",
    verdict=REFUTED,
    finding="They rise and fall together in nine epochs of ten; opposite arrows are the exception. The words beside "
    "the arrows, that both oscillate in sync, are right.",
    controls=[override("the validation loss of another run", partner=1)],
    trials=TRIALS,
)
@pytest.mark.parametrize("lr", [1.5, 2.0])
def test_the_held_out_loss_seldom_falls_when_the_training_loss_rises(learned, trials, evidence, lr, partner=0):
    curves = learned("healthy", lr=lr).with_partner(partner)
    changes = [curve.diff(dim=0) for curve in (curves.training, curves.held_out)]
    opposite = (changes[0] * changes[1] < 0).float().mean(0)
    evidence.observe("share of epochs with changes in opposite directions", opposite)
    trials.less(opposite, np.full(TRIALS, 0.5), name="opposite in less than half of the epochs")
    trials.mostly((curves.correlations > 0.5).numpy(), 0.5, name="the changes correlate by more than 0.5")


def batch_noise(curves, steps=30):
    """How far a batch's loss is from the mean of its neighbours', root mean square, (trials,)."""
    losses = curves.batches[:steps]
    return (losses[1:-1] - (losses[:-2] + losses[2:]) / 2).square().mean(0).sqrt()


@claim(
    "pytorch-notes/small-batch-noisier-loss",
    finding="Over the first 30 steps at the same rate the loss of a batch of 5 strays four times as far from its "
    "neighbours as that of a batch of 50; by the root of 10 if images are drawn independently.",
    controls=[override("equal sizes", large=5)],
    trials=TRIALS,
)
def test_the_loss_of_small_batches_is_noisier(learned, trials, evidence, small=5, large=50):
    noise = {}
    for batch in (small, large):
        curves = learned("healthy", lr=0.05, batch=batch, epochs=-(-30 * batch // 200))
        noise[f"batches of {batch}"] = batch_noise(curves)
        evidence.curve(f"one run, batches of {batch}", torch.arange(30), {"loss": curves.batches[:30, 0]}, "step")
    evidence.compare("noise of the batch loss", noise)
    trials.less(1.3 * noise[f"batches of {large}"], noise[f"batches of {small}"], name="noisier by 30 %")
