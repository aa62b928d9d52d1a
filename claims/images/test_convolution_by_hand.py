"""Sections 10.6.1 and 12: what a convolution computes at each place, and how far kernels and pixels reach."""

import hypothesis.strategies as st
import pytest
import torch
from hypothesis import example, given
from scipy.signal import convolve2d, correlate2d
from torch import nn

from fitcore.models import convolve
from fitcore.seeding import seeded
from fitcore.testing import claim, replace
from fitcore.testing.strategies import tensors

SEEDS = st.integers(0, 2**32 - 1)
VERTICAL_EDGE = torch.tensor([[-1.0, 0, 1]] * 3, dtype=torch.float64)

conv2d = nn.functional.conv2d


def turned(images, weight, *others):
    """The convolution of mathematics, which turns the kernel round."""
    return conv2d(images, weight.flip(-2, -1), *others)


def without_the_last_row(images, weight, *others):
    return conv2d(images, torch.cat([weight[..., :-1, :], torch.zeros_like(weight[..., -1:, :])], -2), *others)


def mixed(images, weight, *others):
    return conv2d(images, weight.cumsum(0), *others)


def dilated(images, weight, bias, *others):
    return conv2d(images, weight, bias, padding=2, dilation=2)


def whole_numbers(*shape):
    return tensors(shape, torch.float64)


@st.composite
def layers(draw):
    """Images, kernels and biases, and a place in the maps: its map, row and column."""
    maps, channels, height, width, down, right = (draw(st.integers(1, 3)) for _ in range(6))
    images = draw(whole_numbers(1, channels, height + down, width + right))
    place = draw(st.tuples(st.integers(0, maps - 1), st.integers(0, down), st.integers(0, right)))
    return images, draw(whole_numbers(maps, channels, height, width)), draw(whole_numbers(maps)), place


@claim(
    "pytorch-notes/conv-is-multiply-and-add",
    finding="To the bit, on whole numbers: the sum over the patch, in all channels, and then the bias of the map.",
    controls=[
        replace("torch.nn.functional.conv2d", turned),
        replace("torch.nn.functional.conv2d", without_the_last_row),
    ],
)
@example(layer=(torch.eye(9).double()[None, None], VERTICAL_EDGE[None, None], torch.ones(1).double(), (0, 3, 4)))
@given(layer=layers())
def test_a_convolution_multiplies_each_patch_with_the_kernel_and_sums(layer):
    images, weight, bias, (which, row, column) = layer
    maps, (height, width) = nn.functional.conv2d(images, weight, bias), weight.shape[2:]
    patch = images[0, :, row : row + height, column : column + width]
    assert maps[0, which, row, column] == (patch * weight[which]).sum() + bias[which]
    assert torch.equal(maps, convolve(images, weight, bias))


@claim(
    "pytorch-notes/conv-is-multiply-and-add",
    finding="The kernel lies on the image as it is written: strictly a cross-correlation. The convolution of "
    "mathematics turns it round first, which for the document's kernel of vertical edges changes every sign.",
    controls=[replace("torch.nn.functional.conv2d", turned)],
)
@example(image=torch.eye(5).double(), kernel=VERTICAL_EDGE)
@given(image=whole_numbers(5, 5), kernel=whole_numbers(3, 3))
def test_the_kernel_is_not_turned_round(image, kernel):
    def convolved(kernel):
        return nn.functional.conv2d(image[None, None], kernel[None, None])[0, 0].numpy()

    assert (convolved(kernel) == correlate2d(image, kernel, mode="valid")).all()
    assert (convolved(kernel.flip(0, 1)) == convolve2d(image, kernel, mode="valid")).all()
    assert (convolved(VERTICAL_EDGE) == -convolve2d(image, VERTICAL_EDGE, mode="valid")).all()


@claim(
    "pytorch-notes/out-channels-is-number-of-kernels",
    finding="A kernel a map, with 3x3 weights for each channel of the input, and each map is what its own kernel alone "
    "makes of the image.",
    controls=[
        replace("torch.nn.functional.conv2d", mixed),
        replace("torch.nn.Conv2d", nn.ConvTranspose2d),
    ],
)
@pytest.mark.parametrize(("channels", "maps"), [(1, 16), (16, 32)])
@given(seed=SEEDS, data=st.data())
def test_every_map_has_a_kernel_of_its_own(channels, maps, seed, data):
    which = data.draw(st.integers(0, maps - 1))
    with seeded(seed):
        layer, images = nn.Conv2d(channels, maps, 3, padding=1).double(), torch.rand(1, channels, 8, 8).double()
    assert layer.weight.shape == (maps, channels, 3, 3)
    before = layer(images)
    alone = convolve(images, layer.weight[[which]], layer.bias[[which]], padding=1)
    torch.testing.assert_close(before[:, [which]], alone)
    with torch.no_grad():
        layer.weight[which] += 1
    assert (layer(images) != before).flatten(2).any(2).nonzero().tolist() == [[0, which]]


@claim(
    "pytorch-notes/conv-output-depends-only-on-local-patch",
    finding="All other values stay the same to the bit. At the edge of the image fewer than nine change.",
    controls=[replace("torch.nn.functional.conv2d", dilated)],
)
@example(row=10, column=12, seed=0)
@given(row=st.integers(0, 27), column=st.integers(0, 27), seed=SEEDS)
def test_a_pixel_reaches_the_3x3_outputs_around_it(row, column, seed, evidence):
    with seeded(seed):
        layer, image = nn.Conv2d(1, 16, 3, padding=1).double(), torch.rand(1, 1, 28, 28).double()
    other = image.clone()
    other[..., row, column] += 1
    changed = layer(other) != layer(image)
    evidence.image("outputs that change (white)", changed[0, 0].repeat_interleave(8, 0).repeat_interleave(8, 1).float())
    near = torch.zeros(28, 28, dtype=torch.bool)
    near[max(row - 1, 0) : row + 2, max(column - 1, 0) : column + 2] = True
    assert torch.equal(changed, near.expand(1, 16, 28, 28))
