"""What several files here read: the transforms of section 6.6.1, and embedded images as torchvision serves them."""

from types import SimpleNamespace

import numpy as np
import pytest
from torchvision import datasets, transforms

from fitcore import data

MEAN, STD = (0.4914, 0.4822, 0.4465), (0.247, 0.243, 0.261)


class EmbeddedCIFAR10(datasets.CIFAR10):
    """Embedded images; how one is read is torchvision's."""

    def __init__(self, images, transform=None):
        self.data, self.targets = np.ascontiguousarray(images.images.permute(0, 2, 3, 1)), images.labels.tolist()
        self.classes, self.transform, self.target_transform = list(images.classes), transform, None


class EmbeddedMNIST(datasets.MNIST):
    """Likewise digits."""

    def __init__(self, images, transform=None):
        self.data, self.targets = images.images[:, 0], images.labels
        self.transform, self.target_transform = transform, None


@pytest.fixture(scope="session")
def torchvision_dataset(shared):
    """``torchvision_dataset(name, transform, train=True, count=None)``: by default PIL images, with an int each."""
    kinds = {"CIFAR10": (EmbeddedCIFAR10, data.cifar10), "MNIST": (EmbeddedMNIST, data.mnist)}

    def make(name, transform=None, train=True, count=None):
        kind, load = kinds[name]
        return kind(shared(load, train=train)[slice(count)], transform)

    return make


@pytest.fixture(scope="session")
def printed():
    """The transforms as printed: ``plain``, which makes a normalised tensor, and ``training``, augmentation before it.

    ``augmentation`` and ``normalise`` are their parts, for images that are tensors already.
    """
    augmentation = [
        transforms.RandomCrop(32, padding=4),
        transforms.RandomHorizontalFlip(),
        transforms.RandomRotation(15),
        transforms.ColorJitter(brightness=0.2, contrast=0.2),
    ]
    plain = [transforms.ToTensor(), transforms.Normalize(MEAN, STD)]
    return SimpleNamespace(
        training=transforms.Compose([*augmentation, *plain]),
        plain=transforms.Compose(plain),
        augmentation=transforms.Compose(augmentation),
        normalise=plain[1],
    )
