"""Case 2's flowers: Flowers102 as the listing loads it, and its networks, trained on a stand-in for the photographs.

No photographs of flowers come with the suite, so the networks learn five classes of real CIFAR-10 images instead, and
flowers where ``--data-root`` has them. Unless said otherwise, everything is half as wide as printed, and learns 125
images of 22x22 pixels, the fewest that the deeper network takes; it is tested on up to 1,000 others.
"""

from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path
from unittest.mock import patch

import numpy as np
import pytest
import torch
from PIL import Image
from scipy.io import savemat
from torch import Tensor, nn
from torch.nn.functional import cross_entropy
from torch.optim.lr_scheduler import StepLR
from torchvision import datasets, transforms

from fitcore.data import cifar10
from fitcore.data.transforms import IMAGENET_MEAN, IMAGENET_STD
from fitcore.seeding import seeded
from fitcore.testing.shared import Shared
from fitcore.training import Comparison, compare, fit

CLASSES = 5
SPLITS = {"train": "trnid", "val": "valid", "test": "tstid"}


def flower_network(
    *,
    deep: bool = True,
    batch_norm: bool = True,
    dropout: float = 0.3,
    side: int = 64,
    narrowed: int = 1,
    classes: int = CLASSES,
    padding: int = 0,
) -> nn.Sequential:
    """The improved network as printed, or with other settings; ``deep=False`` is the initial one, but for the rest."""
    channels, hidden = ((32, 64, 128), 256) if deep else ((16, 32), 64)
    features, before = nn.Sequential(), 3
    for width in (number // narrowed for number in channels):
        features.append(nn.Conv2d(before, width, 3, padding=padding))
        features.extend([nn.BatchNorm2d(width)] if batch_norm else [])
        features.extend([nn.MaxPool2d(2), nn.ReLU()])  # what the other order gives, for a quarter of the ReLUs
        before, side = width, (side - 2) // 2
    classifier = nn.Sequential(nn.Linear(before * side**2, hidden // narrowed))
    classifier.extend([nn.BatchNorm1d(hidden // narrowed)] if batch_norm else [])
    classifier.extend([nn.ReLU(), nn.Dropout(dropout), nn.Linear(hidden // narrowed, classes), nn.LogSoftmax(dim=1)])
    return nn.Sequential(features, nn.Flatten(), classifier)


@dataclass(frozen=True)
class Setting:
    """A network and its training; by default the initial network, but smaller, for as long as the improved one."""

    deep: bool = False
    batch_norm: bool = False
    dropout: float = 0.0
    decay: bool = False
    epochs: int = 15
    batch_size: int = 32
    samples: int = 125
    others: int = 200
    side: int = 22
    narrowed: int = 2

    @property
    def stops(self) -> list[int]:
        """After how many epochs it is scored: in the end, and the initial network after the document's ten as well."""
        return [self.epochs] if self.deep or self.epochs <= 10 else [10, self.epochs]


@cache
def photographs(root: Path | None) -> tuple[Tensor, Tensor, str]:
    """Images of five classes, (n, 3, height, width) in [0, 1], their labels, and which data these are."""
    if root is None or not (root / "flowers-102").is_dir():
        parts = [cifar10(train=train) for train in (True, False)]
        images, labels = torch.cat([part.scaled for part in parts]), torch.cat([part.labels for part in parts])
        few = labels < CLASSES
        return images[few], labels[few], f"{', '.join(parts[0].classes[:CLASSES])} of {parts[0].source}"
    prepare = transforms.Compose([transforms.Resize((64, 64)), transforms.ToTensor()])
    parts = [datasets.Flowers102(root, split=split) for split in SPLITS]
    few = [(part, n, label) for part in parts for n, label in enumerate(part._labels) if label < CLASSES]
    images = torch.stack([prepare(part[n][0]) for part, n, _ in few])
    return images, torch.tensor([label for *_, label in few]), "five classes of Flowers102"


@cache
def prepared(root: Path | None, side: int) -> tuple[Tensor, Tensor]:
    """The same images, side² pixels of each, as the network takes them, and their labels."""
    images, labels, _ = photographs(root)
    prepare = transforms.Compose([transforms.Resize([side] * 2), transforms.Normalize(IMAGENET_MEAN, IMAGENET_STD)])
    return prepare(images), labels


def drawn(root: Path | None, setting: Setting) -> tuple[tuple[Tensor, Tensor], tuple[Tensor, Tensor]]:
    """As many images of each class at random for training, and up to ``others`` more of each."""
    images, labels = prepared(root, setting.side)
    order, each = torch.randperm(len(labels)), setting.samples // CLASSES
    of_class = [order[labels[order] == label] for label in range(CLASSES)]
    rows = torch.cat([of[:each] for of in of_class]), torch.cat([of[each : each + setting.others] for of in of_class])
    training, test = ((images[row], labels[row]) for row in rows)
    return training, test


@torch.no_grad()
def loss_and_accuracy(model: nn.Module, x: Tensor, y: Tensor) -> tuple[float, float]:
    scores = torch.cat([model(batch) for batch in x.split(100)])
    return float(cross_entropy(scores, y)), float((scores.argmax(1) == y).float().mean())


def trained(seed: int, root: Path | None, setting: Setting) -> dict[int, dict[str, float]]:
    """Train by Adam at 0.001, and score in evaluation, by epoch. A seed fixes images and order."""
    losses: list[float] = []
    scores: dict[int, dict[str, float]] = {}
    with seeded(seed):
        training, test = drawn(root, setting)
        model = flower_network(
            deep=setting.deep,
            batch_norm=setting.batch_norm,
            dropout=setting.dropout,
            side=setting.side,
            narrowed=setting.narrowed,
        )
        model = model.to(memory_format=torch.channels_last)  # faster on a CPU
        adam = torch.optim.Adam(model.parameters(), lr=1e-3, fused=True)
        decay = StepLR(adam, step_size=5, gamma=0.1) if setting.decay else None
        for stop in setting.stops:
            history = fit(
                model,
                training,
                batch_size=setting.batch_size,
                epochs=stop - len(losses),
                optimizer=adam,
                loss=nn.functional.nll_loss,
                scheduler=decay,
            )
            losses += history.losses.tolist()
            running = {f"running loss of epoch {epoch}": loss for epoch, loss in enumerate(losses, start=1)}
            reached = [*loss_and_accuracy(model, *training), *loss_and_accuracy(model, *test)]
            names = ["training loss", "training accuracy", "test loss", "test accuracy"]
            scores[stop] = running | dict(zip(names, reached, strict=True))
    return scores


class Greenhouse:
    """Networks of case 2, each trained once a session."""

    def __init__(self, shared: Shared, root: Path | None) -> None:
        self._shared, self._root = shared, root

    def scores(self, copies: int = 4, **settings: float | bool) -> dict[str, np.ndarray]:
        """Scores (copies,) by name, of a network with such settings a seed."""
        setting = whole = Setting(**settings)
        if setting.epochs == 10 and not setting.deep:
            whole = replace(setting, epochs=15)  # which others ask for: ten epochs are its first ten
        seeds = self._shared.seeds(copies).tolist()
        runs = [run[setting.epochs] for run in self._shared.each(trained, seeds, self._root, whole)]
        return {name: np.array([run[name] for run in runs]) for name in runs[0]}

    def compare(self, changes: dict[str, dict], copies: int = 4, **baseline: float | bool) -> Comparison:
        """What changes of the initial network, or of another baseline, do to the scores."""
        return compare(self.scores, changes, {"copies": copies, **baseline})

    @property
    def source(self) -> str:
        """Which images these are."""
        return photographs(self._root)[2]


@pytest.fixture
def greenhouse(shared, data_root) -> Greenhouse:
    return Greenhouse(shared, data_root)


def plant(root: Path) -> None:
    """A folder in the layout of Flowers102: one small image of noise of each of the 102 kinds for each split."""
    folder = root / "flowers-102"
    (folder / "jpg").mkdir(parents=True)
    labels = np.tile(np.arange(1, 103), len(SPLITS))
    ids = np.arange(1, len(labels) + 1)
    rng = np.random.default_rng(0)
    for number in ids:
        pixels = rng.integers(256, size=(*rng.integers(20, 40, size=2), 3), dtype=np.uint8)
        Image.fromarray(pixels).save(folder / "jpg" / f"image_{number:05d}.jpg")
    savemat(folder / "imagelabels.mat", {"labels": labels})
    savemat(folder / "setid.mat", dict(zip(SPLITS.values(), np.split(ids, len(SPLITS)), strict=True)))


@pytest.fixture(scope="session")
def flowers(data_root, tmp_path_factory):
    """``flowers(split)``: Flowers102 as the listing loads it, on noise of 102 kinds where there are no photographs."""
    root = data_root
    if root is None or not (root / "flowers-102").is_dir():
        root = tmp_path_factory.mktemp("flowers")
        plant(root)

    def load(split: str) -> datasets.Flowers102:
        prepare = transforms.Compose(
            [transforms.Resize((64, 64)), transforms.ToTensor(), transforms.Normalize(IMAGENET_MEAN, IMAGENET_STD)]
        )
        checked = patch("torchvision.datasets.flowers102.check_integrity", lambda path, md5: Path(path).exists())
        with checked:  # of which it has the checksums
            return datasets.Flowers102(root, split=split, transform=prepare)

    return load


@pytest.fixture
def all_flowers(data_root):
    """The labels of each split of the real Flowers102."""
    if data_root is None or not (data_root / "flowers-102").is_dir():
        pytest.skip("needs the photographs of Flowers102: --data-root")
    return {split: np.array(datasets.Flowers102(data_root, split=split)._labels) for split in SPLITS}


@pytest.fixture(scope="session")
def network():
    """``network(**settings)``: the improved network as printed, unless told otherwise."""
    return flower_network
