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

from fitcore.data import LabelledImages, mnist
from fitcore.models import CNN
from fitcore.seeding import seeded
from fitcore.training import Comparison, compare, fit


@dataclass(frozen=True)
class Lesson:
    """How many digits are learned for how long, by which network; batches of 64 and Adam, as printed."""

    digits: int
    epochs: int
    widths: tuple[int, int] = (8, 16)
    lr: float = 0.003
    copies: int = 3


# With all of MNIST the printed network learns at the printed rate; a quarter of its channels needs a tenth of the time.
SMALL = {"few": Lesson(500, 20), "many": Lesson(2000, 5)}
PRINTED = {"few": Lesson(1000, 20, (32, 64), 0.001), "many": Lesson(60_000, 5, (32, 64), 0.001)}

CHANGES = {"dropout": {"dropout": 0.5}, "weight decay": {"weight_decay": 1e-4}}


def normalised(digits: LabelledImages) -> Tensor:
    return ((digits.scaled - 0.1307) / 0.3081).to(memory_format=torch.channels_last)


@torch.no_grad()
def outputs(model: nn.Module, images: Tensor) -> Tensor:
    return torch.cat([model(batch) for batch in images.split(100)])  # whose maps the cache holds


def judged(logits: Tensor, labels: Tensor) -> tuple[float, float]:
    """Accuracy in per cent, and mean loss."""
    hits = (logits.argmax(1) == labels).double().mean()
    return 100 * hits.item(), nn.functional.cross_entropy(logits, labels).item()


def learned(
    seeds: tuple[int, ...], root: Path | None, lesson: Lesson, dropout: float = 0.0, weight_decay: float = 0.0
) -> dict[str, np.ndarray]:
    """Train a copy a seed, on digits of its own, and measure each: (copies,) for each metric."""
    digits, test = mnist(root), mnist(root, train=False)
    test_x, scores = normalised(test), []
    for seed in seeds:
        with seeded(seed):
            chosen = digits[torch.randperm(len(digits))[: lesson.digits]]
            model = CNN(widths=lesson.widths, padding=0, hidden=128, dropout=dropout)
            model.to(memory_format=torch.channels_last)
            x, adam = normalised(chosen), partial(torch.optim.Adam, lr=lesson.lr, fused=True)
            fit(
                model,
                (x, chosen.labels),
                epochs=lesson.epochs,
                batch_size=64,
                optimizer=adam(model.parameters(), weight_decay=weight_decay),
                loss=nn.functional.cross_entropy,
            )
            scores.append(measured(model, (x, chosen.labels), (test_x, test.labels)))
    return {metric: np.array([of_copy[metric] for of_copy in scores]) for metric in scores[0]}


def measured(model: nn.Module, training: tuple[Tensor, Tensor], test: tuple[Tensor, Tensor]) -> dict[str, float]:
    x, labels = test
    logits, still_training = outputs(model.eval(), x), outputs(model.train(), x[:1000])
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
        "in eval mode": judged(logits[:1000], labels[:1000])[0],
        "in train mode": judged(still_training, labels[:1000])[0],
    }


@pytest.fixture
def recipes(shared, data_root) -> Callable[[str], Comparison]:
    """``recipes("few")``: the base network, dropout, weight decay, and the two together, on digits to be overfitted.

    ``recipes("many")``: four times as many digits for five epochs, and of the four networks the first and the last.
    """
    lessons = SMALL if data_root is None else PRINTED

    def of(digits: str) -> Comparison:
        lesson = lessons[digits]
        train = partial(shared, learned, tuple(shared.seeds(lesson.copies).tolist()), data_root, lesson)
        if digits == "few":
            return compare(train, CHANGES)
        return Comparison({"baseline": train(), "together": train(dropout=0.5, weight_decay=1e-4)})

    return of
