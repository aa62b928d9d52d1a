"""Digits and a noisy sine, learned well and badly: the learning curves that sections 8.3.2, 8.5.1 and 8.5.5 speak of.

The document trains nothing there, so the settings are ours: 8x8 digits, 200 for training and 200 held out unless said
otherwise, and tanh networks with one hidden layer; both losses are taken in evaluation after each epoch.
"""

from dataclasses import dataclass, replace
from functools import cache, partial

import pytest
import torch
from sklearn.datasets import load_digits
from torch import Tensor, nn

from fitcore.data import noisy_sine
from fitcore.ensembles import Ensemble, cross_entropies, fit
from fitcore.ensembles.batches import Batches
from fitcore.ensembles.gradients import gradients_of
from fitcore.models import MLP, Tanh
from fitcore.seeding import seeded

COPIES, SINE_COPIES = 60, 30
HELD_OUT = 200
SHIFTS = (1, 1), (0, 1), (2, 1), (1, 0), (1, 2)  # rows and columns skipped of an image with a margin of one


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


ROOMY = Setting(optimizer="Adam", lr=0.01)
SETTINGS = {
    "healthy": Setting(),
    "tiny rate": Setting(lr=1e-4),
    "large rate": Setting(lr=1.5),
    "roomy": ROOMY,
    "too simple": replace(ROOMY, hidden=1),
    "random labels": replace(ROOMY, wrong_labels=1.0),
    "images all alike": replace(ROOMY, constant_inputs=True),
    "overfitting": Setting(hidden=64, samples=100, optimizer="Adam", lr=0.02, batch=50, epochs=40, wrong_labels=0.4),
}


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

    @property
    def epochs(self):
        return torch.arange(1, len(self.training) + 1)

    @property
    def medians(self):
        """Over the trials, (epochs,)."""
        return {"training": self.training.median(1).values, "held out": self.held_out.median(1).values}

    @property
    def correlations(self):
        """Of the changes of the two losses from epoch to epoch, (trials,)."""
        changes = (curve.diff(dim=0) - curve.diff(dim=0).mean(0) for curve in (self.training, self.held_out))
        return nn.functional.cosine_similarity(*changes, dim=0)

    def with_partner(self, distance):
        """Each trial's training loss beside the held-out loss of the trial so far away."""
        return replace(self, held_out=self.held_out.roll(distance, dims=1))


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


@cache
def untrained(seeds, hidden, dropout):
    """A network a seed."""
    between = [Tanh(), nn.Dropout(dropout)] if dropout else [Tanh()]
    return Ensemble(lambda: nn.Sequential(nn.Linear(64, hidden), *between, nn.Linear(hidden, 10)), seeds)


def learning_curves(seeds, setting):
    """Train one network a seed. The seeds fix images and initial weights, whatever else the setting says."""
    with seeded(seeds[0]):
        images, labels = digits(seeds, setting)
        training = images[:, : setting.samples], labels[:, : setting.samples]
        held_out = images[:, setting.samples :], labels[:, setting.samples :]
        ensemble = untrained(seeds, setting.hidden, setting.dropout)[:]
        evaluation = gradients_of(ensemble, losses_and_accuracies, training[0])
        gradients = gradients_of(ensemble, cross_entropies, training[0])
        batches = Batches(training, seeds, setting.batch, lambda *batch: batch)
        make_optimizer = getattr(torch.optim, setting.optimizer)
        optimizer = make_optimizer([ensemble.flat], lr=setting.lr, weight_decay=setting.decay, fused=True)
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


SINES = {
    "healthy": Regression(),
    "tiny rate": Regression(lr=1e-5),
    "large rate": Regression(optimizer="SGD", lr=0.2),
    "too simple": Regression(hidden=()),
    "overfitting": Regression(samples=15, noise=0.58, epochs=600),
}


def sine_curves(seeds, setting, points=30):
    """Training and held-out losses (points, trials) of one network a seed, trained on all readings at once."""
    with seeded(seeds[0]):
        training, held_out = (noisy_sine(n, setting.noise, sets=(len(seeds),)) for n in (setting.samples, HELD_OUT))
    ensemble = Ensemble(lambda: MLP([1, *setting.hidden, 1]), seeds)
    optimizer = partial(getattr(torch.optim, setting.optimizer), lr=setting.lr, fused=True)
    every = setting.epochs // points
    curves = fit(
        ensemble, training, validation=held_out, epochs=setting.epochs, optimizer=optimizer, validate_every=every
    )
    shown = torch.arange(every, setting.epochs + 1, every) - 1
    return curves.losses[shown], curves.validation_losses[shown]


@pytest.fixture
def learned(shared):
    """``learned("healthy")`` or ``learned("healthy", lr=1.0)``: `Curves`, trained once a session."""
    seeds = tuple(shared.seeds(COPIES).tolist())
    return lambda name, **changes: shared(learning_curves, seeds, replace(SETTINGS[name], **changes))


@pytest.fixture
def regressed(shared):
    """``regressed("healthy")``: losses of training and of what is held out, trained once a session."""
    seeds = tuple(shared.seeds(SINE_COPIES).tolist())
    return lambda name: shared(sine_curves, seeds, SINES[name])
