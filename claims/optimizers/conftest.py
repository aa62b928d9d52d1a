"""Networks that learned 8x8 digits, each by some optimizer at some rate, trained once a session.

The document's section 16 trains nothing of the kind, so the setting is ours: layers of 64 and 10 neurons, 320 digits in
batches of 32, 30 epochs. Copy k has the same digits and initial weights whatever trains it.
"""

from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import cache, lru_cache, partial

import pytest
import torch
from sklearn.datasets import load_digits
from torch import Tensor, nn, optim

from fitcore.ensembles import Ensemble, LearningCurves, cross_entropies, fit
from fitcore.models import MLP
from fitcore.seeding import seeded

COPIES = 54  # of which two may miss
HELD_OUT = 997
OPTIMIZERS = {
    "SGD": partial(optim.SGD, fused=True),
    "momentum": partial(optim.SGD, momentum=0.9, fused=True),
    "Nesterov": partial(optim.SGD, momentum=0.9, nesterov=True, fused=True),
    "damped momentum": partial(optim.SGD, momentum=0.9, dampening=0.9, fused=True),
    "Adam": partial(optim.Adam, fused=True),
    "decayed Adam": partial(optim.Adam, weight_decay=0.02, fused=True),
    "AdamW": partial(optim.AdamW, fused=True),  # whose own weight decay is 0.01
    "strong AdamW": partial(optim.AdamW, weight_decay=1.0, fused=True),
    "Rprop": optim.Rprop,  # makes its own steps of the first one
}


@dataclass(frozen=True)
class Lesson:
    """What trains the networks, on how many digits, in what units; for the last third it may be something else."""

    optimizer: str
    lr: float
    late: tuple[str, float] | None = None
    epochs: int = 30
    samples: int = 320
    batch_size: int = 32
    wrong_labels: float = 0.0
    scale: float = 1.0


@dataclass(frozen=True)
class Learned:
    """Losses (epochs, copies) while it was trained, and what each copy can do in the end, (copies,)."""

    losses: Tensor
    accuracy: Tensor
    training_accuracy: Tensor
    memorised: Tensor

    @property
    def gap(self) -> Tensor:
        """Share of the training digits, with the labels given, less that of the test digits, (copies,)."""
        return self.training_accuracy - self.accuracy

    def loss_after(self, epochs: int) -> Tensor:
        """Mean loss of each copy over the batches of an epoch, (copies,)."""
        return self.losses[epochs - 1]


@lru_cache(maxsize=4)
def _data(seeds: tuple[int, ...], samples: int, wrong_labels: float, scale: float) -> tuple[Tensor, ...]:
    """Training digits, their labels as given and as they are, and the digits held out with theirs."""
    digits = load_digits()
    pixels, labels = torch.tensor(digits.data, dtype=torch.float32) / 16 * scale, torch.tensor(digits.target)
    with seeded(seeds[0]):
        rows = torch.stack([torch.randperm(len(labels)) for _ in seeds])
        taught, others = rows[:, HELD_OUT:][:, :samples], rows[:, :HELD_OUT]
        wrong = (labels[taught] + torch.randint(1, 10, taught.shape)) % 10
        given = torch.where(torch.rand(taught.shape) < wrong_labels, wrong, labels[taught])
    return pixels[taught], given, labels[taught], pixels[others], labels[others]


@cache
def _untaught(seeds: tuple[int, ...]) -> Ensemble:
    return Ensemble(lambda: MLP([64, 64, 10], nn.ReLU), seeds)


def taught(seeds: tuple[int, ...], lesson: Lesson) -> Learned:
    """Train a copy a seed."""
    x, given, true, test_x, test_y = _data(seeds, lesson.samples, lesson.wrong_labels, lesson.scale)
    ensemble = _untaught(seeds)[:]

    def train(optimizer: str, lr: float, epochs: int) -> LearningCurves:
        make = partial(OPTIMIZERS[optimizer], lr=lr)
        return fit(
            ensemble, (x, given), epochs=epochs, optimizer=make, loss=cross_entropies, batch_size=lesson.batch_size
        )

    late = lesson.epochs // 3 if lesson.late else 0
    losses = [train(lesson.optimizer, lesson.lr, lesson.epochs - late).losses]
    if lesson.late:
        losses.append(train(*lesson.late, late).losses)
    with torch.no_grad():
        answers, test_answers = ensemble(x).argmax(-1), ensemble(test_x).argmax(-1)
    learned_by_heart = ((answers == given) & (given != true)).sum(1) / (given != true).sum(1)
    return Learned(
        torch.cat(losses),
        (test_answers == test_y).float().mean(1),
        (answers == given).float().mean(1),
        learned_by_heart,
    )


@pytest.fixture
def learn(shared) -> Callable[..., Learned]:
    """``learn("Adam", 0.001, **settings of a Lesson)`` gives `Learned`, trained once a session.

    ``wrong_labels`` is the share of training digits that are given a wrong label; ``memorised`` the share of these that
    a copy answers as it was told, NaN where there are none.
    """
    seeds = tuple(shared.seeds(COPIES).tolist())
    return lambda optimizer, lr, **settings: shared(taught, seeds, replace(Lesson(optimizer, lr), **settings))


@pytest.fixture
def learn_noise(learn) -> Callable[..., Learned]:
    """The same of 140 digits, of which a fourth have wrong labels: much to learn by heart, and little time needed."""
    return partial(learn, samples=140, batch_size=28, epochs=60, wrong_labels=0.25)
