"""Section 8.5.1: what the curves of healthy training look like."""

import numpy as np
from torch import nn

from fitcore.testing import claim, override

TRIALS = 60
CHANCE = float(np.log(10))  # the loss of a model that knows nothing of ten classes


@claim(
    "pytorch-notes/train-and-val-fall-together-healthy",
    finding="At a rate of 0.1 they fall from 2.2 to 0.6 and 0.8 in 20 epochs, by changes that correlate by 0.98 "
    "(medians). With Adam both level off: the last quarter of the epochs gains less than a tenth of the way.",
    controls=[override("far too large a rate", setting="large rate"), override("overfitting", levelling="overfitting")],
    trials=TRIALS,
)
def test_in_healthy_training_both_losses_fall_together_and_level_off(
    learned, trials, evidence, setting="healthy", levelling="roomy"
):
    curves, levelled = learned(setting), learned(levelling)
    evidence.curve("SGD, lr 0.1", curves.epochs, curves.medians, x_label="epoch")
    evidence.curve("Adam, lr 0.01", levelled.epochs, levelled.medians, x_label="epoch")
    evidence.observe("correlation of the changes, SGD", curves.correlations)
    trials.mostly((curves.correlations > 0.6).numpy(), 0.5, name="fall in step")
    for part in ("training", "held_out"):
        loss, level = getattr(curves, part), getattr(levelled, part)
        trials.less(loss[-1], 0.5 * loss[0], name=f"{part}: falls below half")
        trials.mostly((loss.diff(dim=0) < 0.02).all(0).numpy(), 0.5, name=f"{part}: does not rise")
        trials.less((level[-5] - level[-1]).abs(), 0.1 * (level[0] - level[-1]), name=f"{part}: levels off")


@claim(
    "pytorch-notes/val-loss-falls-then-flat-or-rises-slightly",
    finding="From 1.1 after the first epoch it falls to a quarter or so, and in the end it has risen by 0.02 to 0.03, "
    "while the training loss falls on to 0.0013 (medians).",
    controls=[override("overfitting", setting="overfitting", lr=0.02, epochs=40)],
    trials=TRIALS,
)
def test_in_good_training_the_held_out_loss_falls_and_then_hardly_rises(
    *, learned, trials, evidence, setting="roomy", lr=0.06, epochs=25
):
    curves = learned(setting, lr=lr, epochs=epochs)
    evidence.curve("losses", curves.epochs, curves.medians, x_label="epoch")
    best, best_epoch = curves.held_out.min(0)
    rise = curves.held_out[-1] - best
    evidence.observe("rise after the best epoch", rise)
    trials.less(best, np.full(TRIALS, 0.5 * CHANCE), name="falls below half of a guess's")
    trials.less(rise, 0.15 * (CHANCE - best), name="and rises by less than 15 % of that")
    trials.mostly((rise > 0).numpy(), 0.5, name="mostly it does rise")
    trials.less(curves.training[-1], curves.training.gather(0, best_epoch[None])[0] + 1e-6, name="training goes on")


@claim(
    "pytorch-notes/train-and-val-accuracy-rise-together",
    finding="From a quarter to 0.92 on the training digits and from a fifth to 0.86 on others (medians); the "
    "accuracies of the epochs correlate by more than 0.95. With random labels only the training accuracy rises.",
    controls=[override("random labels", setting="random labels")],
    trials=TRIALS,
)
def test_in_good_training_both_accuracies_rise_together(learned, trials, evidence, setting="healthy"):
    curves = learned(setting)
    accuracies = curves.training_accuracy, curves.held_out_accuracy
    named = {"training": accuracies[0].median(1).values, "held out": accuracies[1].median(1).values}
    evidence.curve("median accuracy", curves.epochs, named, x_label="epoch")
    together = nn.functional.cosine_similarity(*(curve - curve.mean(0) for curve in accuracies), dim=0)
    trials.less(accuracies[0][0] + 0.4, accuracies[0][-1], name="training: rises by 0.4")
    trials.less(accuracies[1][0] + 0.4, accuracies[1][-1], name="held out: rises by 0.4")
    trials.mostly((together > 0.8).numpy(), 0.5, name="they correlate by more than 0.8")
