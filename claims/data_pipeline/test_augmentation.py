"""Sections 6.4.3, 6.5.1 and 6.6.1: what the augmentation of training images does to accuracies.

The document trains nothing on them. Here networks with 64 hidden units learn from 300 images each, averaged over
squares of 4 x 4 or 8 x 8 pixels, in five passes over six draws of every image by Adam at 0.003. They recognise three
digits of five and a quarter of the photographs, and overfit as larger networks do.
"""

from dataclasses import dataclass
from functools import partial

import pytest
import torch
from torch import Tensor, nn
from torchvision.transforms import Compose, RandomCrop

from fitcore.data import cifar10, mnist
from fitcore.ensembles import Ensemble, cross_entropies, fit
from fitcore.models import MLP
from fitcore.testing import claim, override

TRIALS = 54
TRAINING, VALIDATION, DRAWS = 300, 700, 6


@dataclass(frozen=True)
class Accuracies:
    """Shares recognised, each (trials,): of the training images, and of others as they are and augmented."""

    training: Tensor
    validation: Tensor
    augmented_validation: Tensor

    @property
    def gap(self) -> Tensor:
        return self.training - self.validation


def unchanged(images):
    return images


def drawn(load, root, transform, side):
    """Images as they are, (n, pixels), in six draws of the transform, (6, n, pixels), and their labels."""
    data = load(root)[: TRAINING + VALIDATION]
    images = data.scaled

    def coarse(images):
        return nn.functional.avg_pool2d(images, side).flatten(1)

    def draw():
        order = torch.randperm(len(images))  # each draw serves twenty images, and always others
        return torch.cat([transform(images[some]) for some in order.split(20)])[order.argsort()]

    plain, draws = coarse(images), torch.stack([coarse(draw()) for _ in range(DRAWS)])
    mean, std = plain.mean(), plain.std()
    return (plain - mean) / std, (draws - mean) / std, data.labels


def trained(seeds, data):
    """Train a network a seed on draws of 300 images, and validate it on the others."""
    images, draws, labels = data
    rows = torch.stack([torch.randperm(len(images)) for _ in seeds])
    training, held_out = rows.split([TRAINING, VALIDATION], dim=1)
    ensemble = Ensemble(lambda: MLP([images.shape[1], 64, 10], nn.ReLU), seeds)
    samples = draws[:, training].transpose(0, 1).flatten(1, 2), labels[training].repeat(1, DRAWS)
    adam = partial(torch.optim.Adam, lr=0.003, fused=True)
    fit(ensemble, samples, epochs=5, batch_size=50, optimizer=adam, loss=cross_entropies)

    @torch.no_grad()
    def accuracy(inputs, rows):
        return (ensemble(inputs[rows]).argmax(-1) == labels[rows]).float().mean(1)

    augmented = torch.stack([accuracy(draw, held_out) for draw in draws]).mean(0)
    return Accuracies(accuracy(images, training), accuracy(images, held_out), augmented)


@pytest.fixture
def accuracies(shared, data_root):
    """``accuracies(load, transform, side)``, of networks trained once a session."""

    def of(load, transform, side):
        data = shared(drawn, load, data_root, transform, side)
        return shared(trained, tuple(shared.seeds(TRIALS).tolist()), data)

    return of


@claim(
    "pytorch-notes/augmentation-reduces-generalisation-gap",
    finding="From 41 to 14 points on photographs, because the training images are learnt less well: their accuracy "
    "falls from 69 % to 41 %. The validation accuracy, 26 to 28 % either way, does not rise in this short training: a "
    "narrower gap is not yet a better network.",
    controls=[override("nothing augmented", transform=unchanged)],
    trials=TRIALS,
)
def test_augmentation_narrows_the_gap(accuracies, printed, trials, evidence, transform=None):
    plain = accuracies(cifar10, unchanged, side=8)
    augmented = accuracies(cifar10, transform or printed.augmentation, side=8)
    arms = {"as they are": plain, "augmented": augmented}
    evidence.compare("training accuracy - validation accuracy", {name: arm.gap for name, arm in arms.items()})
    evidence.compare("training accuracy", {name: arm.training for name, arm in arms.items()})
    evidence.compare("validation accuracy", {name: arm.validation for name, arm in arms.items()})
    trials.less(augmented.gap, 0.8 * plain.gap, name="narrower by more than a fifth")


@pytest.fixture(scope="session")
def augmentation_of_digits(printed):
    """The printed one, but for the side of the crop."""
    return Compose([RandomCrop(28, padding=4), *printed.augmentation.transforms[1:]])


@claim(
    "pytorch-notes/augmented-validation-lowers-accuracy",
    finding="Validation through the training transform, as random_split leaves it, shows the lower figure: of digits "
    "48 to 50 % instead of 61 to 65 %; of coarse photographs, too hard for these networks to decide it, 25 or 26 % "
    "instead of 26 or 27 %. (To mirror digits, which the document does not, is bad advice: trained on them as they "
    "are, networks reach 82 %, measured once, apart.)",
    controls=[override("nothing augmented", transform=unchanged)],
    trials=TRIALS,
)
def test_augmented_images_are_recognised_less_often(
    *, accuracies, printed, augmentation_of_digits, trials, evidence, transform=None
):
    photographs = accuracies(cifar10, transform or printed.augmentation, side=8)
    digits = accuracies(mnist, transform or augmentation_of_digits, side=4)
    for name, validated in (("photographs", photographs), ("digits", digits)):
        by_transform = {"test transform": validated.validation, "training transform": validated.augmented_validation}
        evidence.compare(f"validation accuracy, {name}", by_transform)
    trials.less(digits.augmented_validation, digits.validation, by=0.02, name="digits: lower by more than two points")
