"""Sections 8.3.2, 8.5.1 and 8.5.5: losses that do not fall."""

import numpy as np
import pytest
import torch

from fitcore.testing import CONDITIONAL, claim, override

TRIALS = 60
CHANCE = float(np.log(10))  # the loss of a model that knows nothing of ten classes


@claim(
    "pytorch-notes/loss-flat-when-lr-too-small",
    finding="At 1e-4 the training loss falls by less than 1 % in 20 epochs, at 0.1 by seven tenths (medians).",
    controls=[override("the raised rate", tiny="healthy"), override("not raised", raised="tiny rate")],
    trials=TRIALS,
)
def test_a_tiny_rate_leaves_the_loss_where_it_is_and_a_larger_one_moves_it(
    learned, trials, evidence, tiny="tiny rate", raised="healthy"
):
    flat, falling = learned(tiny).training, learned(raised).training
    series = {"tiny": flat.median(1).values, "raised": falling.median(1).values}
    evidence.curve("median training loss", torch.arange(1, 21), series, x_label="epoch")
    trials.less(0.99 * flat[0], flat[-1], name="tiny: less than 1 % is gained")
    trials.less(falling[-1], 0.5 * falling[0], name="raised: more than half is gained")


@claim(
    "pytorch-notes/loss-flat-when-model-too-simple",
    finding="With one hidden neuron the training loss stays above 1.7, three quarters of what a guess costs; with 32, "
    "trained alike, it ends at 0.03 (medians).",
    controls=[override("no more capacity", larger="too simple"), override("enough capacity", simple="roomy")],
    trials=TRIALS,
)
def test_more_capacity_cures_the_high_loss_of_a_model_that_is_too_simple(
    learned, trials, evidence, simple="too simple", larger="roomy"
):
    high, low = learned(simple).training[-1], learned(larger).training[-1]
    evidence.compare("training loss in the end", {"1 neuron": high, "32 neurons": low}, limit=CHANCE)
    trials.less(np.full(TRIALS, 0.6 * CHANCE), high, name="one neuron: above 60 % of chance")
    trials.less(low, np.full(TRIALS, 0.1 * CHANCE), name="32 neurons: below 10 % of chance")


@claim(
    "pytorch-notes/faulty-data-keeps-loss-from-falling",
    finding="Images that are all alike keep both losses at that of a guess, 2.3; random labels only the held-out one: "
    "the training loss falls, to 1.5 in 20 epochs, as the network learns them by heart (medians).",
    controls=[override("clean data", constant="roomy"), override("right labels", random="roomy")],
    trials=TRIALS,
)
def test_faulty_data_keep_the_held_out_loss_up_but_the_training_loss_may_fall(
    learned, trials, evidence, constant="images all alike", random="random labels"
):
    same, dealt = learned(constant), learned(random)
    evidence.curve("images all alike", same.epochs, same.medians, x_label="epoch")
    evidence.curve("random labels", dealt.epochs, dealt.medians, x_label="epoch")
    for name, losses in (("alike, training", same.training), ("alike", same.held_out), ("random", dealt.held_out)):
        trials.less(np.full(TRIALS, 0.8 * CHANCE), losses.min(0).values, name=f"{name}: stays at chance")
    trials.less(dealt.training[-1], np.full(TRIALS, 0.75 * CHANCE), name="random labels: the training loss falls")


@claim(
    "pytorch-notes/underfit-loss-basically-unchanged",
    verdict=CONDITIONAL,
    finding="So it is if the learning rate is far too small: 1e-4 moves neither loss by 1 %. Of a model that is too "
    "simple the training loss falls by a quarter and the held-out one by a fifth, and only then do they stall, too "
    "high.",
    controls=[override("a suitable rate", tiny="healthy"), override("not even simple", simple="tiny rate")],
    trials=TRIALS,
)
def test_an_underfitting_loss_is_flat_only_if_the_rate_is_too_small(
    learned, trials, evidence, tiny="tiny rate", simple="too simple"
):
    flats, falls = learned(tiny), learned(simple)
    evidence.curve("far too small a rate", flats.epochs, flats.medians, x_label="epoch")
    evidence.curve("too simple a model", falls.epochs, falls.medians, x_label="epoch")
    for part in ("training", "held_out"):
        flat, falling = getattr(flats, part), getattr(falls, part)
        trials.less(0.99 * flat[0], flat.min(0).values, name=f"{part}: unchanged at a tiny rate")
        trials.less(falling[-1], 0.95 * falling[0], name=f"{part}: falls in a model that is too simple")


@claim(
    "pytorch-notes/underfit-both-losses-high-and-slow",
    finding="After 20 epochs both losses are above 1.7 with one hidden neuron and 2.3 at a tiny rate, against "
    "0.03 and 0.2; and in the first ten they fell by less than half as much.",
    controls=[override("neither", setting="roomy")],
    trials=TRIALS,
)
@pytest.mark.parametrize("setting", ["too simple", "tiny rate"])
def test_underfitting_losses_are_high_and_fall_slowly(learned, trials, evidence, setting):
    under, healthy = learned(setting), learned("roomy")
    for part in ("training", "held_out"):
        loss, reference = getattr(under, part), getattr(healthy, part)
        evidence.compare(f"{part} loss in the end", {"underfitting": loss[-1], "healthy": reference[-1]})
        trials.less(2 * reference[-1], loss[-1], name=f"{part}: twice as high")
        trials.less(loss[0] - loss[10], 0.5 * (reference[0] - reference[10]), name=f"{part}: half as fast")
