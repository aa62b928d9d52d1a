"""Section 18.2.2: the convolutional network with dropout before its linear layer, as printed and as it was meant."""

import hypothesis.strategies as st
import pytest
import torch
from hypothesis import given, settings
from torch import nn

from fitcore.testing import REFUTED, claim, error_of, override

SIDES = st.sampled_from([28, 14, 15, 31]) | st.integers(4, 40)


def pooled_once():
    """As printed: conv1, ReLU, conv2, ReLU, pooling."""
    convolutions = nn.Conv2d(1, 8, 3, padding=1), nn.ReLU(), nn.Conv2d(8, 16, 3, padding=1), nn.ReLU()
    return nn.Sequential(*convolutions, nn.MaxPool2d(2), nn.Flatten(), nn.Dropout(0.5), nn.Linear(16 * 7 * 7, 10))


def pooled_twice():
    """With pooling behind the first convolution too."""
    first, *others = pooled_once()
    return nn.Sequential(first, nn.MaxPool2d(2), *others)


@claim(
    "pytorch-notes/listing-cnn-dropout-runs-on-28",
    verdict=REFUTED,
    finding="It pools once, so that 28 x 28 images become 16 maps of 14 x 14, 3136 numbers, where the linear layer "
    "takes 784: a RuntimeError. As printed it takes images of 14 or 15 pixels a side; pooled after the first "
    "convolution too, those of 28 to 31.",
    controls=[override("pooled twice", network=pooled_twice)],
)
@settings(max_examples=15)
@given(batch=st.integers(1, 3), side=SIDES, network=st.just(pooled_once))
def test_the_cnn_takes_images_of_28_pixels_only_if_it_pools_twice(batch, side, network):
    with pytest.raises(RuntimeError, match=f"{batch}x3136 and 784x10"):
        network()(torch.zeros(batch, 1, 28, 28))
    images = torch.zeros(batch, 1, side, side)
    assert (error_of(pooled_once(), images) is None) == (side // 2 == 7)
    assert (error_of(pooled_twice(), images) is None) == (side // 4 == 7)
    assert pooled_twice()(torch.zeros(batch, 1, 28, 28)).shape == (batch, 10)
