"""Copies of the repaired network of case 1, trained as its two models are: once a session for all claims."""

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np
import pytest
import torch
from sklearn.metrics import f1_score
from torch import Tensor, nn
from torchvision.transforms.functional import center_crop

from fitcore.data import LabelledImages, mnist
from fitcore.evaluation.scores import calibration
from fitcore.models import CNN
from fitcore.seeding import seeded
from fitcore.training import Comparison, fit


@dataclass(frozen=True)
class Lesson:
    """How many digits are learned for how long, by which network; batches of 64 and Adam, as printed."""

    digits: int
    epochs: int
    side: int = 22
    widths: tuple[int, int] = (8, 16)
    lr: float = 0.003
    copies: int = 3


# With all of MNIST the printed network learns as printed. A quarter of its channels, on digits without the three pixels
# around them, which are almost all black, takes a fifth of the time.
SMALL = {"few": Lesson(120, 40, copies=14), "many": Lesson(1000, 5)}
PRINTED = {"few": Lesson(1000, 20, 28, (32, 64), 0.001, copies=8), "many": Lesson(60_000, 5, 28, (32, 64), 0.001)}

ARMS = {
    "baseline": {},
    "dropout": {"dropout": 0.5},
    "weight decay": {"weight_decay": 1e-4},
    "together": {"dropout": 0.5, "weight_decay": 1e-4},
}


def normalised(digits: LabelledImages, side: int) -> Tensor:
    """The middle of each image, side² pixels of it, as the network takes it."""
    return center_crop((digits.scaled - 0.1307) / 0.3081, [side, side]).contiguous(memory_format=torch.channels_last)


@torch.no_grad()
def outputs(model: nn.Module, images: Tensor) -> Tensor:
    return torch.cat([model(batch) for batch in images.split(100)])  # whose maps the cache holds


def judged(logits: Tensor, labels: Tensor) -> tuple[float, float]:
    """Accuracy in per cent, and mean loss."""
    hits = (logits.argmax(1) == labels).double().mean()
    return 100 * hits.item(), nn.functional.cross_entropy(logits, labels).item()


@dataclass(frozen=True)
class Copy:
    """A trained copy: its score for each metric, and the test digits as it sees them, (n, 10) and (n,)."""

    scores: dict[str, float]
    logits: Tensor
    labels: Tensor


def learned(seed: int, root: Path | None, lesson: Lesson, dropout: float = 0.0, weight_decay: float = 0.0) -> Copy:
    """Train a copy on digits of its own."""
    digits, test = mnist(root), mnist(root, train=False)
    test_x = normalised(test, lesson.side)
    with seeded(seed):
        chosen = digits[torch.randperm(len(digits))[: lesson.digits]]
        model = CNN(lesson.side, widths=lesson.widths, padding=0, hidden=128, dropout=dropout)
        model.to(memory_format=torch.channels_last)
        x, adam = normalised(chosen, lesson.side), partial(torch.optim.Adam, lr=lesson.lr, fused=True)
        fit(
            model,
            (x, chosen.labels),
            epochs=lesson.epochs,
            batch_size=64,
            optimizer=adam(model.parameters(), weight_decay=weight_decay),
            loss=nn.functional.cross_entropy,
        )
        logits = outputs(model.eval(), test_x)
        return Copy(measured(model, (x, chosen.labels), (test_x, test.labels), logits), logits, test.labels)


def measured(
    model: nn.Module, training: tuple[Tensor, Tensor], test: tuple[Tensor, Tensor], logits: Tensor
) -> dict[str, float]:
    x, labels = test
    still_training = outputs(model.train(), x[:1000])
    accuracy, loss = judged(outputs(model.eval(), training[0]), training[1])
    test_accuracy, test_loss = judged(logits, labels)
    return {
        "training accuracy": accuracy,
        "test accuracy": test_accuracy,
        "gap": accuracy - test_accuracy,
        "macro F1": 100 * f1_score(labels, logits.argmax(1), average="macro"),
        "test loss": test_loss,
        "log of test loss": np.log(test_loss),
        "gap of losses": test_loss - loss,
        "calibration error": 100 * calibration(logits, labels).error,
        "in eval mode": judged(logits[:1000], labels[:1000])[0],
        "in train mode": judged(still_training, labels[:1000])[0],
    }


def scores_of(copies: list[Copy]) -> dict[str, np.ndarray]:
    """Scores of all copies, (copies,) for each metric."""
    return {metric: np.array([copy.scores[metric] for copy in copies]) for metric in copies[0].scores}


@pytest.fixture
def copies(shared, data_root) -> Callable[..., list[Copy]]:
    """``copies("few", "together")``: trained copies of an arm, after the lesson of that name; ``most`` of them."""
    lessons = SMALL if data_root is None else PRINTED

    def of(digits: str, arm: str = "baseline", most: int | None = None) -> list[Copy]:
        lesson = lessons[digits]
        seeds = shared.seeds(lesson.copies)[:most].tolist()
        return shared.each(learned, seeds, data_root, lesson, **ARMS[arm])

    return of


@pytest.fixture
def recipes(copies) -> Callable[..., Comparison]:
    """``recipes("few", "together")``: the base network and further arms by name, on digits to be overfitted.

    ``recipes("many")``: on more for five epochs. ``most`` copies of each.
    """

    def of(digits: str, *further: str, most: int | None = None) -> Comparison:
        return Comparison({arm: scores_of(copies(digits, arm, most)) for arm in ("baseline", *further)})

    return of
