"""Networks that learned real digits, trained once a session for all claims about images."""

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property, partial
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

from fitcore.data import mnist
from fitcore.ensembles import Ensemble, LearningCurves, cross_entropies, fit
from fitcore.models import CNN
from fitcore.seeding import seeded


def document_cnn() -> nn.Module:
    """The network of sections 10 and 12: `features` are conv1, ReLU, pooling, conv2, ReLU, pooling."""
    return CNN(widths=(16, 32), hidden=None)


def small_cnn() -> nn.Module:
    """The same for 12x12 pixels."""
    return CNN(12, widths=(16, 32), hidden=None)


def unchanged(images: Tensor) -> Tensor:
    return images


def shrunk(images: Tensor) -> Tensor:
    """Their middle 24x24 pixels, in which the digits lie, as 12x12."""
    return nn.functional.avg_pool2d(images[..., 2:-2, 2:-2], 2)


@dataclass(frozen=True)
class Learned:
    """Copies of a network before and after training, each on digits of its own, and the digits held out for all."""

    fresh: Ensemble
    ensemble: Ensemble
    curves: LearningCurves
    x: Tensor
    y: Tensor
    test_x: Tensor
    test_y: Tensor

    @property
    def networks(self) -> list[nn.Module]:
        """The copies as plain modules, which evaluate many images faster than all at once would."""
        return [self.ensemble.module(copy) for copy in range(len(self.ensemble))]

    def accuracies(self, images: Tensor | None = None) -> Tensor:
        """Share of the test digits, or of other images of them (m, ...), that each copy recognises, (copies,)."""
        if images is None:
            return self._test_accuracies
        return torch.stack([_accuracy(network, images, self.test_y[: len(images)]) for network in self.networks])

    @cached_property
    def _test_accuracies(self) -> Tensor:
        return self.accuracies(self.test_x)

    @cached_property
    def training_accuracies(self) -> Tensor:
        """Share of its own training digits that each copy recognises, (copies,)."""
        return torch.stack([_accuracy(*of_copy) for of_copy in zip(self.networks, self.x, self.y, strict=True)])


@torch.no_grad()
def _accuracy(network: nn.Module, images: Tensor, labels: Tensor) -> Tensor:
    logits = torch.cat([network(batch) for batch in images.split(100)])  # whose maps the cache holds
    return (logits.argmax(-1) == labels).float().mean()


@dataclass(frozen=True)
class Lesson:
    """What learns how: ``prepare`` makes inputs of images (n, 1, 28, 28); each copy has digits of its own.

    ``scrambled_by`` is the seed of an order into which the pixels of all images are put, by default their own.
    """

    network: Callable[[], nn.Module] = document_cnn
    prepare: Callable[[Tensor], Tensor] = unchanged
    digits: int = 1000
    epochs: int = 3
    lr: float = 0.003
    batch_size: int = 32
    scrambled_by: int | None = None

    def inputs(self, images: Tensor) -> Tensor:
        """What a network sees of images (n, 1, 28, 28)."""
        images = self.prepare(images)
        if self.scrambled_by is None:
            return images
        with seeded(self.scrambled_by):
            order = torch.randperm(images[0].numel())
        return images.flatten(1)[:, order].view_as(images)


def channels_last(images: Tensor) -> Tensor:
    """The images laid out so that a CPU convolves and pools them in half the time."""
    return torch.empty_like(images, memory_format=torch.channels_last).copy_(images)


def learned(seeds: tuple[int, ...], root: Path | None, lesson: Lesson) -> Learned:
    """Train a copy a seed by Adam; a seed draws the same digits in every lesson."""
    training, test = mnist(root), mnist(root, train=False)[:1000]
    draws = [torch.Generator().manual_seed(seed) for seed in seeds]
    rows = torch.stack([torch.randperm(len(training), generator=draw)[: lesson.digits] for draw in draws])
    x = lesson.inputs(training[rows.flatten()].scaled).unflatten(0, rows.shape)
    fresh, ensemble = Ensemble(lesson.network, seeds), Ensemble(lesson.network, seeds)
    curves = fit(
        ensemble,
        (x, training.labels[rows]),
        epochs=lesson.epochs,
        optimizer=partial(torch.optim.Adam, lr=lesson.lr, fused=True),
        loss=cross_entropies,
        batch_size=lesson.batch_size,
    )
    ensemble.eval()
    x, test_x = channels_last(x.flatten(0, 1)).view_as(x), channels_last(lesson.inputs(test.scaled))
    return Learned(fresh, ensemble, curves, x, training.labels[rows], test_x, test.labels)


@pytest.fixture
def learn(shared, data_root):
    """``learn(copies=6, **settings of a `Lesson`)`` gives `Learned`, trained once a session: what you share is free.

    As it stands, six copies of the document's network with a thousand digits each and three epochs, it takes some
    five seconds, and 90 % of the test digits are recognised. The document's own rate and batches, 0.001 and 64, take
    longer for the same.
    """

    def train(copies: int = 6, **settings) -> Learned:
        return shared(learned, tuple(shared.seeds(copies).tolist()), data_root, Lesson(**settings))

    return train


@pytest.fixture
def learn_by_heart(learn):
    """``learn_by_heart(network, copies=10, **settings)``: 300 digits of 12x12 pixels, 20 epochs, `small_cnn`."""

    def train(network: Callable[[], nn.Module] | None = None, copies: int = 10, **settings) -> Learned:
        by_heart = {"prepare": shrunk, "digits": 300, "epochs": 20}
        return learn(copies, network=network or small_cnn, **by_heart | settings)

    return train
