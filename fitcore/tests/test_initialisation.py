from math import sqrt

import pytest
import torch
from torch import nn
from torch.testing import assert_close

from fitcore.models import initialise_weights
from fitcore.seeding import seeded


@pytest.mark.parametrize(
    ("layer", "std"),
    [
        (nn.Linear(300, 100), sqrt(2 / 400)),
        (nn.Conv1d(40, 80, 5), sqrt(2 / (80 * 5))),
        (nn.Conv2d(20, 60, 3), sqrt(2 / (60 * 9))),
        (nn.Conv3d(10, 30, 3), sqrt(2 / (30 * 27))),
    ],
    ids=["Linear", "Conv1d", "Conv2d", "Conv3d"],
)
def test_weights_have_the_standard_deviation_of_the_literature(layer, std):
    with seeded(0):
        initialise_weights(layer)
    assert_close(layer.weight.std().item(), std, rtol=0.05, atol=0.0)
    assert torch.equal(layer.bias, torch.zeros_like(layer.bias))


@pytest.mark.parametrize("kind", [nn.BatchNorm1d, nn.BatchNorm2d, nn.BatchNorm3d])
def test_normalisation_starts_as_it_is_made(kind):
    layer = kind(3)
    nn.init.constant_(layer.weight, 5)
    nn.init.constant_(layer.bias, 5)
    initialise_weights(layer)
    assert torch.equal(torch.stack([layer.weight, layer.bias]), torch.tensor([[1.0] * 3, [0.0] * 3]))


@pytest.mark.parametrize(
    "layer", [nn.Linear(2, 2, bias=False), nn.Conv2d(2, 2, 1, bias=False), nn.BatchNorm2d(2, affine=False), nn.ReLU()]
)
def test_layers_without_biases_or_parameters_are_no_problem(layer):
    nn.Sequential(layer).apply(initialise_weights)


def test_layers_of_other_kinds_keep_their_parameters():
    layer = nn.Embedding(2, 3)
    before = layer.weight.clone()
    initialise_weights(layer)
    assert torch.equal(layer.weight, before)
