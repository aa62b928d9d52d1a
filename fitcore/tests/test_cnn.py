import hypothesis.strategies as st
import pytest
import torch
from hypothesis import given
from torch import nn

from fitcore.models import CNN, CifarCNN, number_of_parameters

networks = pytest.mark.parametrize("network", [CNN, CifarCNN])


@networks
@given(
    image_size=st.integers(22, 40),
    channels=st.integers(1, 3),
    classes=st.integers(1, 4),
    widths=st.lists(st.integers(1, 4), max_size=3),
    padding=st.integers(0, 1),
    batch_norm=st.booleans(),
)
def test_images_of_any_size_that_is_large_enough_become_logits(
    *, network, image_size, channels, classes, widths, padding, batch_norm
):
    model = network(image_size, channels, classes, widths, padding=padding, batch_norm=batch_norm, hidden=5)
    images = torch.ones(2, channels, image_size, image_size)
    assert model(images).shape == (2, classes)
    assert model.features(images).flatten(1).shape == (2, model.flattened_size)
    assert sum(isinstance(layer, nn.Conv2d) for layer in model.modules()) == len(widths)
    assert sum(isinstance(layer, nn.BatchNorm2d) for layer in model.modules()) == batch_norm * len(widths)


@pytest.mark.parametrize(
    ("network", "parameters", "features"), [(CNN, 390_410, 128 * 3 * 3), (CifarCNN, 227_594, 128 * 2 * 2)]
)
def test_the_defaults_are_the_networks_of_three_blocks(network, parameters, features):
    model = network()
    assert number_of_parameters(model) == parameters
    assert model.flattened_size == features


def test_without_a_hidden_layer_the_logits_are_of_the_features_at_once():
    model = CNN(widths=(16, 32), hidden=None)
    assert number_of_parameters(model) == 160 + 4_640 + 15_690
    images = torch.rand(2, 1, 28, 28)
    assert torch.equal(model(images), model.classifier[0](model.features(images).flatten(1)))


def test_dropout_is_for_training():
    model, image = CNN(8, widths=(2,), dropout=0.5).eval(), torch.ones(1, 1, 8, 8)
    assert torch.equal(model(image), model(image))


@networks
@pytest.mark.parametrize("setting", [{"channels": 0}, {"classes": 0}, {"widths": (2, 0)}, {"hidden": 0}], ids=str)
def test_sizes_must_be_positive(network, setting):
    with pytest.raises(ValueError, match=f"{next(iter(setting))} must be at least 1, got 0"):
        network(**setting)


def test_padding_is_zero_or_one():
    with pytest.raises(ValueError, match="padding must be 0 or 1, got 2"):
        CNN(padding=2)


@pytest.mark.parametrize(
    ("network", "blocks", "smallest"),
    [(CNN, 1, 2), (CNN, 3, 8), (CifarCNN, 1, 4), (CifarCNN, 2, 10), (CifarCNN, 3, 22), (CifarCNN, 4, 46)],
)
def test_an_image_must_be_large_enough_for_the_blocks(network, blocks, smallest):
    assert network(smallest, widths=[2] * blocks).flattened_size == 2
    with pytest.raises(ValueError, match=f"at least {smallest} for {blocks} blocks, got {smallest - 1}"):
        network(smallest - 1, widths=[2] * blocks)


def test_images_of_another_size_are_refused():
    model = CNN(28, widths=(2, 3))
    with pytest.raises(ValueError, match=r"images must be 28x28 to give 147 features each, got \(4, 1, 56, 28\) with"):
        model(torch.ones(4, 1, 56, 28))
