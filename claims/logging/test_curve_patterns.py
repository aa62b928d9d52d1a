"""Sections 8.3.2, 8.5.1 and 8.5.5: what learning curves look like when training goes well, and when it does not.

The document trains nothing here, so the setting is ours: 8x8 digits, 200 for training and 200 held out unless said
otherwise, and tanh networks with one hidden layer; both losses are taken in evaluation after each epoch.
"""

from dataclasses import dataclass, replace
from functools import cache, partial

import numpy as np
import pytest
import torch
from sklearn.datasets import load_digits
from torch import Tensor, nn

from fitcore.data import noisy_sine
from fitcore.ensembles import Ensemble, cross_entropies, fit
from fitcore.ensembles.batches import Batches
from fitcore.ensembles.gradients import gradients_of
from fitcore.evaluation.diagnosis import Pattern, diagnose, roughness
from fitcore.evaluation.throughput import time_ratio
from fitcore.models import MLP, Tanh
from fitcore.seeding import seeded
from fitcore.testing import CONDITIONAL, REFUTED, claim, override
from fitcore.training import EarlyStopping

TRIALS = 40
HELD_OUT = 200
SHIFTS = (1, 1), (0, 1), (2, 1), (1, 0), (1, 2)  # rows and columns skipped of an image with a margin of one
CHANCE = float(np.log(10))  # the loss of a model that knows nothing of ten classes


@dataclass(frozen=True)
class Setting:
    """A network, how it is trained, what is wrong with its data, and what is done against overfitting."""

    hidden: int = 32
    samples: int = 200
    optimizer: str = "SGD"
    lr: float = 0.1
    batch: int = 25
    epochs: int = 20
    wrong_labels: float = 0.0
    constant_inputs: bool = False
    dropout: float = 0.0
    decay: float = 0.0
    shifts: bool = False


HEALTHY = Setting()
TINY_RATE, LARGE_RATE = replace(HEALTHY, lr=1e-4), replace(HEALTHY, lr=1.5)
ROOMY = replace(HEALTHY, optimizer="Adam", lr=0.01)
NARROW = replace(ROOMY, hidden=1)
RANDOM_LABELS, CONSTANT_INPUTS = replace(ROOMY, wrong_labels=1.0), replace(ROOMY, constant_inputs=True)
OVERFITTING = Setting(hidden=64, samples=100, optimizer="Adam", lr=0.02, batch=50, epochs=40, wrong_labels=0.4)


@dataclass(frozen=True)
class Curves:
    """Losses and accuracies (epochs, trials) after each epoch, and the loss of each batch (steps, trials).

    ``stopping`` and ``testing`` are the losses of the two halves of what is held out.
    """

    training: Tensor
    held_out: Tensor
    stopping: Tensor
    testing: Tensor
    training_accuracy: Tensor
    held_out_accuracy: Tensor
    batches: Tensor


@cache
def scanned_digits():
    return load_digits()


def digits(seeds, setting):
    """Images and labels of every trial, (trials, samples + HELD_OUT, ...); only training labels are ever wrong."""
    bunch = scanned_digits()
    order = torch.stack([torch.randperm(len(bunch.target)) for _ in seeds])[:, : setting.samples + HELD_OUT]
    images, labels = torch.from_numpy(bunch.data / 16).float()[order], torch.from_numpy(bunch.target)[order]
    wrong = torch.rand(labels.shape) < setting.wrong_labels
    wrong[:, setting.samples :] = False
    labels = torch.where(wrong, torch.randint(10, labels.shape), labels)
    return (torch.ones_like(images) if setting.constant_inputs else images), labels


def shifted(images):
    """Images (trials, samples, 64) moved by at most one pixel, each batch anew."""
    down, right = SHIFTS[torch.randint(len(SHIFTS), ())]
    padded = nn.functional.pad(images.unflatten(-1, (8, 8)), (1, 1, 1, 1))
    return padded[..., down : down + 8, right : right + 8].flatten(-2)


def losses_and_accuracies(logits, labels):
    """Cross-entropy and share of right answers of each trial, (2, trials)."""
    return torch.stack(
        [
            cross_entropies(logits, labels),
            (logits.gather(-1, labels[..., None])[..., 0] >= logits.amax(-1)).float().mean(1),
        ]
    )


def learning_curves(seeds, setting):
    """Train one network a seed. The seeds fix images and initial weights, whatever else the setting says."""
    with seeded(seeds[0]):
        images, labels = digits(seeds, setting)
        training = images[:, : setting.samples], labels[:, : setting.samples]
        held_out = images[:, setting.samples :], labels[:, setting.samples :]
        dropout = [nn.Dropout(setting.dropout)] if setting.dropout else []
        ensemble = Ensemble(
            lambda: nn.Sequential(nn.Linear(64, setting.hidden), Tanh(), *dropout, nn.Linear(setting.hidden, 10)),
            seeds,
        )
        evaluation = gradients_of(ensemble, losses_and_accuracies, training[0])
        gradients = gradients_of(ensemble, cross_entropies, training[0])
        batches = Batches(training, seeds, setting.batch, lambda *batch: batch)
        make_optimizer = getattr(torch.optim, setting.optimizer)
        optimizer = make_optimizer([ensemble.flat], lr=setting.lr, weight_decay=setting.decay)
        halves = [[part[:, half] for part in held_out] for half in (slice(HELD_OUT // 2), slice(HELD_OUT // 2, None))]
        sets = [evaluation.arrange(*data) for data in (training, *halves)]
        epochs, steps = [], []
        for _ in range(setting.epochs):
            for inputs, targets, _ in batches.epoch():
                seen = shifted(inputs) if setting.shifts else inputs
                steps.append(gradients(*gradients.arrange(seen, targets)))
                optimizer.step()
            epochs.append(torch.stack([evaluation.losses(*data) for data in sets]))
    losses, accuracies = torch.stack(epochs).permute(2, 1, 0, 3)
    return Curves(losses[0], losses[1:].mean(0), *losses[1:], accuracies[0], accuracies[1:].mean(0), torch.stack(steps))


@dataclass(frozen=True)
class Regression:
    """A tanh network for noisy readings of a sine, and how it is trained."""

    hidden: tuple[int, ...] = (16, 16)
    samples: int = 100
    noise: float = 0.3
    optimizer: str = "Adam"
    lr: float = 0.02
    epochs: int = 150


SINE_HEALTHY = Regression()
SINE_OVERFITTING = Regression(samples=15, noise=0.58, epochs=600)
SINE_LINE, SINE_TINY_RATE, SINE_LARGE_RATE = (
    Regression(hidden=()),
    Regression(lr=1e-5),
    Regression(optimizer="SGD", lr=0.2),
)
SINE_VARIANCE = 0.5 + 0.3**2


def sine_curves(seeds, setting, points=30):
    """Training and held-out losses (points, trials) of one network a seed, trained on all readings at once."""
    with seeded(seeds[0]):
        training, held_out = (noisy_sine(n, setting.noise, sets=(len(seeds),)) for n in (setting.samples, HELD_OUT))
    ensemble = Ensemble(lambda: MLP([1, *setting.hidden, 1]), seeds)
    optimizer = partial(getattr(torch.optim, setting.optimizer), lr=setting.lr)
    every = setting.epochs // points
    curves = fit(
        ensemble, training, validation=held_out, epochs=setting.epochs, optimizer=optimizer, validate_every=every
    )
    shown = torch.arange(every, setting.epochs + 1, every) - 1
    return curves.losses[shown], curves.validation_losses[shown]


@pytest.fixture
def learned(shared):
    """``learned(setting)``, trained once a session."""
    seeds = tuple(shared.seeds(TRIALS).tolist())
    return lambda setting: shared(learning_curves, seeds, setting)


@pytest.fixture
def regressed(shared):
    """``regressed(setting)``, trained once a session."""
    seeds = tuple(shared.seeds(TRIALS).tolist())
    return lambda setting: shared(sine_curves, seeds, setting)


def medians(**curves):
    """Median over the trials of curves (n, trials)."""
    return {name.replace("_", " "): curve.median(1).values for name, curve in curves.items()}


def roughnesses(curves):
    """Roughness of each trial's curve, (trials,)."""
    return np.array([roughness(curve) for curve in curves.T])


def correlations(a, b):
    """Correlation of the changes from epoch to epoch of two curves, of each trial, (trials,)."""
    changes = (curve.diff(dim=0) - curve.diff(dim=0).mean(0) for curve in (a, b))
    return nn.functional.cosine_similarity(*changes, dim=0)


def show(evidence, name, curves):
    epochs = torch.arange(1, len(curves.training) + 1)
    evidence.curve(name, epochs, medians(training=curves.training, held_out=curves.held_out), x_label="epoch")


@claim(
    "pytorch-notes/train-and-val-fall-together-healthy",
    finding="At a rate of 0.1 neither loss ever rises by more than 0.02; from 2.2 they fall to 0.5 and 0.6 in 20 "
    "epochs, by changes that correlate by 0.98 (medians). With Adam both level off: the last quarter of the epochs "
    "gains less than a tenth of the way.",
    controls=[override("far too large a rate", setting=LARGE_RATE), override("overfitting", levelling=OVERFITTING)],
    trials=TRIALS,
)
def test_in_healthy_training_both_losses_fall_together_and_level_off(
    learned, trials, evidence, setting=HEALTHY, levelling=ROOMY
):
    curves, levelled = learned(setting), learned(levelling)
    show(evidence, "SGD, lr 0.1", curves)
    show(evidence, "Adam, lr 0.01", levelled)
    trials.mostly((correlations(curves.training, curves.held_out) > 0.6).numpy(), 0.5, name="fall in step")
    for part in ("training", "held_out"):
        loss, level = getattr(curves, part), getattr(levelled, part)
        trials.less(loss[-1], 0.5 * loss[0], name=f"{part}: falls below half")
        trials.mostly((loss.diff(dim=0) < 0.02).all(0).numpy(), 0.5, name=f"{part}: does not rise")
        trials.less((level[-5] - level[-1]).abs(), 0.1 * (level[0] - level[-1]), name=f"{part}: levels off")


@claim(
    "pytorch-notes/train-and-val-accuracy-rise-together",
    finding="From 0.3 to 0.94 on the training digits and to 0.88 on others (medians); the accuracies of the epochs "
    "correlate by more than 0.95. With random labels only the training accuracy rises.",
    controls=[override("random labels", setting=RANDOM_LABELS)],
    trials=TRIALS,
)
def test_in_good_training_both_accuracies_rise_together(learned, trials, evidence, setting=HEALTHY):
    curves = learned(setting)
    accuracies = curves.training_accuracy, curves.held_out_accuracy
    named = medians(training=accuracies[0], held_out=accuracies[1])
    evidence.curve("median accuracy", torch.arange(1, setting.epochs + 1), named, x_label="epoch")
    together = nn.functional.cosine_similarity(*(curve - curve.mean(0) for curve in accuracies), dim=0)
    trials.less(accuracies[0][0] + 0.4, accuracies[0][-1], name="training: rises by 0.4")
    trials.less(accuracies[1][0] + 0.4, accuracies[1][-1], name="held out: rises by 0.4")
    trials.mostly((together > 0.8).numpy(), 0.5, name="they correlate by more than 0.8")


@claim(
    "pytorch-notes/loss-flat-when-lr-too-small",
    finding="At 1e-4 the training loss falls by less than 1 % in 20 epochs, at 0.1 by four fifths (medians).",
    controls=[override("the raised rate", tiny=HEALTHY), override("not raised", raised=TINY_RATE)],
    trials=TRIALS,
)
def test_a_tiny_rate_leaves_the_loss_where_it_is_and_a_larger_one_moves_it(
    learned, trials, evidence, tiny=TINY_RATE, raised=HEALTHY
):
    flat, falling = learned(tiny).training, learned(raised).training
    evidence.curve("median training loss", torch.arange(1, 21), medians(tiny=flat, raised=falling), x_label="epoch")
    trials.less(0.99 * flat[0], flat[-1], name="tiny: less than 1 % is gained")
    trials.less(falling[-1], 0.5 * falling[0], name="raised: more than half is gained")


@claim(
    "pytorch-notes/loss-flat-when-model-too-simple",
    finding="With one hidden neuron the training loss stays above 1.7, three quarters of what a guess costs; with 32, "
    "trained alike, it ends at 0.02.",
    controls=[override("no more capacity", larger=NARROW), override("enough capacity", simple=ROOMY)],
    trials=TRIALS,
)
def test_more_capacity_cures_the_high_loss_of_a_model_that_is_too_simple(
    learned, trials, evidence, simple=NARROW, larger=ROOMY
):
    high, low = learned(simple).training[-1], learned(larger).training[-1]
    evidence.compare("training loss in the end", {"1 neuron": high, "32 neurons": low}, limit=CHANCE)
    trials.less(np.full(TRIALS, 0.6 * CHANCE), high, name="one neuron: above 60 % of chance")
    trials.less(low, np.full(TRIALS, 0.1 * CHANCE), name="32 neurons: below 10 % of chance")


@claim(
    "pytorch-notes/faulty-data-keeps-loss-from-falling",
    verdict=CONDITIONAL,
    finding="It depends on the fault and on the loss. If all images are alike, neither loss falls below that of a "
    "guess, 2.3. With random labels the held-out loss never does, but the training loss falls (to 1.5 in 20 epochs) "
    "as the network learns them by heart.",
    controls=[override("clean data", constant=ROOMY), override("right labels", random=ROOMY)],
    trials=TRIALS,
)
def test_faulty_data_keep_the_held_out_loss_up_but_the_training_loss_may_fall(
    learned, trials, evidence, constant=CONSTANT_INPUTS, random=RANDOM_LABELS
):
    same, dealt = learned(constant), learned(random)
    show(evidence, "images all alike", same)
    show(evidence, "random labels", dealt)
    for name, losses in (("alike, training", same.training), ("alike", same.held_out), ("random", dealt.held_out)):
        trials.less(np.full(TRIALS, 0.8 * CHANCE), losses.min(0).values, name=f"{name}: stays at chance")
    trials.less(dealt.training[-1], np.full(TRIALS, 0.75 * CHANCE), name="random labels: the training loss falls")


@claim(
    "pytorch-notes/underfit-loss-basically-unchanged",
    verdict=CONDITIONAL,
    finding="So it is if the learning rate is far too small: 1e-4 moves neither loss by 1 %. Of a model that is too "
    "simple the losses fall by a quarter, and only then stall, too high.",
    controls=[override("a suitable rate", tiny=HEALTHY), override("not even simple", simple=TINY_RATE)],
    trials=TRIALS,
)
def test_an_underfitting_loss_is_flat_only_if_the_rate_is_too_small(
    learned, trials, evidence, tiny=TINY_RATE, simple=NARROW
):
    show(evidence, "far too small a rate", learned(tiny))
    show(evidence, "too simple a model", learned(simple))
    for part in ("training", "held_out"):
        flat, falling = getattr(learned(tiny), part), getattr(learned(simple), part)
        trials.less(0.99 * flat[0], flat.min(0).values, name=f"{part}: unchanged at a tiny rate")
        trials.less(falling[-1], 0.95 * falling[0], name=f"{part}: falls in a model that is too simple")


@claim(
    "pytorch-notes/underfit-both-losses-high-and-slow",
    finding="After 20 epochs both losses are above 1.7 with one hidden neuron and 2.3 at a tiny rate, against "
    "0.02 and 0.2; and in the first ten they fell by less than half as much.",
    controls=[override("neither", setting=ROOMY)],
    trials=TRIALS,
)
@pytest.mark.parametrize("setting", [NARROW, TINY_RATE], ids=["one neuron", "tiny rate"])
def test_underfitting_losses_are_high_and_fall_slowly(learned, trials, evidence, setting):
    under, healthy = learned(setting), learned(ROOMY)
    for part in ("training", "held_out"):
        loss, reference = getattr(under, part), getattr(healthy, part)
        evidence.compare(f"{part} loss in the end", {"underfitting": loss[-1], "healthy": reference[-1]})
        trials.less(2 * reference[-1], loss[-1], name=f"{part}: twice as high")
        trials.less(loss[0] - loss[10], 0.5 * (reference[0] - reference[10]), name=f"{part}: half as fast")


@claim(
    "pytorch-notes/loss-oscillates-when-lr-too-large",
    finding="At 1.5 the training loss goes back and forth over three times the distance between its extremes (median); "
    "at 0.1 it falls all the way.",
    controls=[override("a suitable rate", large=HEALTHY), override("not reduced", small=LARGE_RATE)],
    trials=TRIALS,
)
def test_too_large_a_rate_makes_the_loss_oscillate_and_a_smaller_one_ends_that(
    learned, trials, evidence, large=LARGE_RATE, small=HEALTHY
):
    rough, smooth = (learned(setting).training for setting in (large, small))
    series = {"lr 1.5": rough[:, 0], "lr 0.1": smooth[:, 0]}
    evidence.curve("training loss of one run", torch.arange(1, 21), series, x_label="epoch")
    evidence.compare("way over distance", {"lr 1.5": roughnesses(rough), "lr 0.1": roughnesses(smooth)})
    trials.mostly(roughnesses(rough) > 1.1, 0.5, name="lr 1.5: goes back and forth")
    trials.mostly(roughnesses(smooth) < 1.05, 0.5, name="lr 0.1: does not")


@claim(
    "pytorch-notes/val-oscillates-in-sync-with-train",
    finding="The changes of the two losses from epoch to epoch correlate by 0.98 (median).",
    controls=[override("the validation loss of another run", partner=1)],
    trials=TRIALS,
)
def test_the_held_out_loss_oscillates_in_step_with_the_training_loss(learned, trials, evidence, partner=0):
    curves = learned(LARGE_RATE)
    held_out = curves.held_out.roll(partner, dims=1)
    show(evidence, "lr 1.5", curves)
    together = correlations(curves.training, held_out)
    evidence.observe("correlation of the changes", together)
    trials.mostly(roughnesses(held_out) > 1.1, 0.5, name="the held-out loss oscillates too")
    trials.mostly((together > 0.5).numpy(), 0.5, name="in step")


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
    curves = learned(replace(HEALTHY, lr=lr))
    pair = curves.training, curves.held_out.roll(partner, dims=1)
    changes = [curve.diff(dim=0) for curve in pair]
    opposite = (changes[0] * changes[1] < 0).float().mean(0)
    evidence.observe("share of epochs with changes in opposite directions", opposite)
    trials.less(opposite, np.full(TRIALS, 0.5), name="opposite in less than half of the epochs")
    trials.mostly((correlations(*pair) > 0.5).numpy(), 0.5, name="the changes correlate by more than 0.5")


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
        curves = learned(replace(HEALTHY, lr=0.05, batch=batch, epochs=-(-30 * batch // HEALTHY.samples)))
        noise[f"batches of {batch}"] = batch_noise(curves)
        evidence.curve(f"one run, batches of {batch}", torch.arange(30), {"loss": curves.batches[:30, 0]}, "step")
    evidence.compare("noise of the batch loss", noise)
    trials.less(1.3 * noise[f"batches of {large}"], noise[f"batches of {small}"], name="noisier by 30 %")


@claim(
    "pytorch-notes/overfitting-val-loss-rises",
    finding="With 40 % of the labels drawn at random the training loss falls all the way to 0.05; the held-out loss "
    "falls from 2.2 to 1.0 and then rises to 1.9 (medians).",
    controls=[override("clean labels, and more of them", setting=ROOMY)],
    trials=TRIALS,
)
def test_overfitting_shows_in_a_held_out_loss_that_falls_and_then_rises(learned, trials, evidence, setting=OVERFITTING):
    curves = learned(setting)
    show(evidence, "overfitting", curves)
    best, best_epoch = curves.held_out.min(0)
    gap = curves.held_out - curves.training
    trials.less(curves.training[-1], 0.7 * curves.training.gather(0, best_epoch[None])[0], name="training goes on")
    trials.less(best, 0.8 * curves.held_out[0], name="the held-out loss falls first")
    trials.less(1.1 * best, curves.held_out[-1], name="and rises by a tenth after")
    trials.less(gap.gather(0, best_epoch[None])[0] + 0.2, gap[-1], name="the gap grows")


REMEDIES = {
    "weight decay": replace(OVERFITTING, decay=0.02),
    "dropout": replace(OVERFITTING, dropout=0.5),
    "shifted images": replace(OVERFITTING, shifts=True),
}


@claim(
    "pytorch-notes/regularisation-lowers-val-loss",
    finding="Each takes away at least half of the rise, and lowers the loss in the end (medians).",
    controls=[override("nothing done", setting=OVERFITTING)],
    trials=TRIALS,
)
@pytest.mark.parametrize("setting", REMEDIES.values(), ids=REMEDIES)
def test_regularisation_and_augmentation_cure_a_rising_held_out_loss(learned, trials, evidence, setting):
    rising, cured = learned(OVERFITTING).held_out, learned(setting).held_out
    epochs = torch.arange(1, setting.epochs + 1)
    evidence.curve("median held-out loss", epochs, medians(nothing_done=rising, remedy=cured), x_label="epoch")
    rises = [(loss[-1] - loss.min(0).values) for loss in (rising, cured)]
    trials.less(rises[1], 0.85 * rises[0], name="rises by less than 85 % as much")
    trials.less(cured[-5:].mean(0), rising[-5:].mean(0), name="is lower in the end")


@claim(
    "pytorch-notes/regularisation-lowers-val-loss",
    finding="Early stopping, patience 5, on half of what is held out: the loss on the other half is lower by a tenth.",
    controls=[override("endless patience", patience=1000)],
    trials=TRIALS,
)
def test_early_stopping_comes_before_the_held_out_loss_has_risen(learned, trials, evidence, patience=5):
    curves = learned(OVERFITTING)
    stopping = EarlyStopping(patience)
    stopped = torch.stack([stopping.update(loss).clone() for loss in curves.stopping])
    last = torch.where(stopped.any(0), stopped.int().argmax(0), len(stopped) - 1)
    in_time = curves.testing.gather(0, last[None])[0]
    evidence.observe("epochs until the stop", last + 1)
    trials.less(1.05 * in_time, curves.testing[-5:].mean(0), name="5 % lower at the stop than after all epochs")


def epochs_to(loss, target):
    """The first epoch, from 1, after which a curve (epochs, trials) is below ``target``; its length + 1 if never."""
    below = loss < target
    return torch.where(below.any(0), below.int().argmax(0), len(loss)) + 1


def step_of(*widths, lr=0.01):
    """A training step of an MLP on a batch of 64 random images."""
    model = MLP(widths, nn.ReLU)
    optimizer = torch.optim.SGD(model.parameters(), lr=lr)
    images, labels = torch.rand(64, widths[0]), torch.arange(64) % 10

    def step():
        optimizer.zero_grad()
        nn.functional.cross_entropy(model(images), labels).backward()
        optimizer.step()

    return step


@claim(
    "pytorch-notes/slow-training-lr-too-small",
    finding="A step takes as long at any rate; it is the number of steps that grows. To a loss of 2 it takes 3 epochs "
    "at 0.1, and at 0.001 20 are not enough.",
    controls=[override("the larger rate", small=0.1)],
    trials=TRIALS,
)
def test_a_small_rate_needs_more_steps_of_the_same_duration(learned, trials, evidence, small=0.001):
    needed = {lr: epochs_to(learned(replace(HEALTHY, lr=lr)).training, 2.0) for lr in (small, 0.1)}
    duration = time_ratio(step_of(64, 32, 10, lr=small), step_of(64, 32, 10, lr=0.1), rounds=15)
    evidence.observe("time of a step at the small rate over that at the large one", duration)
    evidence.compare("epochs to a loss of 2 (21: not within 20)", {f"lr {lr}": count for lr, count in needed.items()})
    trials.less(needed[0.1] + 5, needed[small], name="more epochs at the small rate")
    assert duration < 2


@claim(
    "pytorch-notes/slow-training-model-too-large",
    finding="784-2048-2048-10 has 450 times the weights of 784-16-16-10, and a step takes some 100 times as long.",
    controls=[override("the small model", width=16)],
)
def test_a_step_of_a_larger_model_takes_longer(evidence, width=2048):
    times_as_long = time_ratio(step_of(784, width, width, 10), step_of(784, 16, 16, 10), rounds=3)
    evidence.observe("time of a step, large over small", times_as_long)
    assert times_as_long > 5


CAUSES = {
    Pattern.HEALTHY: (HEALTHY, SINE_HEALTHY),
    Pattern.OVERFITTING: (OVERFITTING, SINE_OVERFITTING),
    Pattern.OSCILLATING: (LARGE_RATE, SINE_LARGE_RATE),
    Pattern.UNDERFITTING: (NARROW, SINE_LINE),
    "underfitting, tiny rate": (TINY_RATE, SINE_TINY_RATE),
}


@claim(
    "pytorch-notes/patterns-identify-causes",
    finding="400 runs with known causes, on digits and on a noisy sine: `fitcore.evaluation.diagnosis` names the cause "
    "from the two curves in 99 % of them, once it is told what a constant prediction would cost. Without that the "
    "straight line that underfits a sine looks healthy.",
    controls=[override("the training loss alone", blind=True)],
    trials=2 * TRIALS,
)
def test_the_patterns_tell_the_causes_apart(learned, regressed, trials, evidence, blind=False):
    rows, right = [], {}
    for cause, (classification, regression) in CAUSES.items():
        curves = learned(classification)
        runs = [(*pair, CHANCE) for pair in zip(curves.training.T, curves.held_out.T, strict=True)]
        runs += [(*pair, SINE_VARIANCE) for pair in zip(*(loss.T for loss in regressed(regression)), strict=True)]
        found = [diagnose(training, training if blind else held_out, base) for training, held_out, base in runs]
        rows.append({"cause": str(cause), **{str(pattern): found.count(pattern) for pattern in Pattern}})
        right[cause] = np.array([cause.startswith(pattern) for pattern in found])
    evidence.table("causes and what the curves are taken for", rows)
    for cause, mask in right.items():
        trials.mostly(mask, 0.5, name=f"{cause}: recognised")
    trials.mostly(np.concatenate(list(right.values())), 0.85, name="all causes: recognised")
