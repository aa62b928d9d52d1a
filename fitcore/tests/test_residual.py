import hypothesis.strategies as st
import pytest
import torch
from hypothesis import given, settings
from torch import nn
from torch.testing import assert_close

from fitcore.models import ResidualBlock, ResidualNetwork, number_of_parameters
from fitcore.seeding import seeded


@pytest.mark.parametrize(("in_channels", "stride"), [(3, 1), (3, 2), (2, 1)])
def test_the_block_adds_its_branch_to_its_shortcut(in_channels, stride):
    with seeded(0):
        block, x = ResidualBlock(in_channels, 3, stride).eval(), torch.randn(2, in_channels, 5, 5)
    branch = nn.Sequential(block.conv1, block.bn1, nn.ReLU(), block.conv2, block.bn2)
    assert_close(block(x), (branch(x) + block.shortcut(x)).relu(), rtol=0, atol=0)


@given(groups=st.integers(1, 3), stride=st.integers(1, 2), width=st.integers(1, 3))
def test_groups_are_blocks_side_by_side(groups, stride, width):
    with seeded(0):
        block = ResidualBlock(groups * width, groups * width, stride, groups=groups)
        x, replaced = torch.randn(2, 2, groups * width, 4, 4)
    replaced[:, :width] = x[:, :width]
    assert_close(block(replaced)[:, :width], block(x)[:, :width])
    assert block.conv1.weight.shape == (groups * width, width, 3, 3)


@settings(max_examples=10)
@given(
    channels=st.integers(1, 3),
    classes=st.integers(1, 5),
    widths=st.lists(st.integers(1, 4), min_size=1, max_size=3),
    blocks=st.integers(1, 2),
    bias=st.booleans(),
)
def test_images_become_a_value_for_each_class(channels, classes, widths, blocks, bias):
    network = ResidualNetwork(channels, classes, widths, blocks, bias=bias)
    assert network(torch.ones(2, channels, 33, 20)).shape == (2, classes)
    assert sum(isinstance(layer, ResidualBlock) for layer in network.modules()) == blocks * len(widths)
    assert {layer.bias is not None for layer in network.modules() if isinstance(layer, nn.Conv2d)} == {bias}


def test_the_default_has_2787594_parameters():
    assert number_of_parameters(ResidualNetwork()) == 2_787_594


@pytest.mark.parametrize("sizes", [(0, 1), (1, 0), (1, 1, 0)])
def test_a_block_of_nothing_is_refused(sizes):
    with pytest.raises(ValueError, match="in_channels, out_channels, stride and groups must be at least 1, got"):
        ResidualBlock(*sizes)


def test_groups_must_divide_the_channels():
    with pytest.raises(ValueError, match="divisible by groups"):
        ResidualBlock(3, 3, groups=2)


@pytest.mark.parametrize("sizes", [{"widths": []}, {"widths": [4, 0]}, {"blocks": 0}, {"classes": 0}, {"channels": 0}])
def test_a_network_of_nothing_is_refused(sizes):
    with pytest.raises(ValueError, match="widths one positive integer a stage, got"):
        ResidualNetwork(**sizes)
