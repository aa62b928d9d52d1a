"""Real images that come with the library, so that a fresh machine needs no download."""

import hashlib
import io
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

_FILES = Path(__file__).parent / "files"
_SHA256 = {
    "mnist-10k.npz": "f1a23f2fb1a1c97bb00a811807ddd50a888dbcdcdead94147993273c22ee3f37",
    "cifar10-3k.npz": "5df5b4b9f8c1c7e6c05f1aa5bb92197cacf6aee56d5a2cfaafaba89198f9afad",
}


@dataclass(frozen=True)
class LabelledImages:
    """n images with their classes.

    Attributes:
        images: (n, channels, height, width), uint8.
        labels: (n,), int64, each an index into ``classes``.
        classes: names of the classes.
        source: which data these are, for a report to say.
    """

    images: Tensor
    labels: Tensor
    classes: tuple[str, ...]
    source: str

    def __len__(self) -> int:
        """Return the number of images."""
        return len(self.labels)

    def __getitem__(self, index: slice | Tensor) -> "LabelledImages":
        """Return some of the images, as ``images[:100]`` or by their indices."""
        return LabelledImages(self.images[index], self.labels[index], self.classes, self.source)

    @property
    def scaled(self) -> Tensor:
        """The images as float32 in [0, 1], shaped like ``images``: what torchvision's ``ToTensor`` makes of them."""
        return self.images.float() / 255


def mnist(root: Path | None = None, *, train: bool = True) -> LabelledImages:
    """Handwritten digits, (n, 1, 28, 28): 8,000 embedded ones for training and 2,000 for testing, in random order.

    Args:
        root: folder of the full data set in torchvision's layout (60,000 and 10,000 digits), which are read instead.
        train: which of the two parts.

    Raises:
        RuntimeError: the full data set is not under ``root``, or an embedded file is damaged.

    Source: Y. LeCun, C. Cortes, C. Burges, "The MNIST database of handwritten digits"; CC BY-SA 3.0.
    """
    if root is None:
        images, labels = _arrays("mnist-10k.npz", "images", "labels")
        part = slice(8000) if train else slice(8000, None)
        return LabelledImages(images[part, None], labels[part], tuple("0123456789"), "10,000 embedded MNIST digits")
    from torchvision.datasets import MNIST  # noqa: PLC0415 - takes seconds, and few need it

    full = MNIST(root, train=train)
    return LabelledImages(full.data[:, None], full.targets, tuple("0123456789"), "full MNIST")


def cifar10(root: Path | None = None, *, train: bool = True) -> LabelledImages:
    """Small photographs of ten classes, (n, 3, 32, 32): 2,400 embedded ones for training and 600 for testing, balanced.

    Args:
        root: folder of the full data set in torchvision's layout (50,000 and 10,000 images), which are read instead.
        train: which of the two parts.

    Raises:
        RuntimeError: the full data set is not under ``root``, or an embedded file is damaged.

    Source: A. Krizhevsky, "Learning Multiple Layers of Features from Tiny Images", 2009.
    """
    if root is None:
        part = "train" if train else "test"
        images, labels = _arrays("cifar10-3k.npz", f"{part}_images", f"{part}_labels")
        names = tuple(_arrays_of("cifar10-3k.npz")["classes"].tolist())
        return LabelledImages(images.permute(0, 3, 1, 2).contiguous(), labels, names, "3,000 embedded CIFAR-10 images")
    from torchvision.datasets import CIFAR10  # noqa: PLC0415 - likewise

    full = CIFAR10(str(root), train=train)
    images = torch.from_numpy(full.data).permute(0, 3, 1, 2).contiguous()
    return LabelledImages(images, torch.tensor(full.targets), tuple(full.classes), "full CIFAR-10")


@cache
def _arrays_of(name: str) -> dict[str, np.ndarray]:
    path = _FILES / name
    content = path.read_bytes()
    # A flipped bit would be another picture, or another label, and nobody would see it.
    if hashlib.sha256(content).hexdigest() != _SHA256[name]:
        raise RuntimeError(f"{path} is damaged (its SHA-256 is not the one it was embedded with): install fitcore anew")
    with np.load(io.BytesIO(content)) as archive:
        return dict(archive)


def _arrays(name: str, images: str, labels: str) -> tuple[Tensor, Tensor]:
    """Return copies, which callers may change, of the embedded images and labels."""
    arrays = _arrays_of(name)
    return torch.tensor(arrays[images]), torch.tensor(arrays[labels], dtype=torch.int64)
