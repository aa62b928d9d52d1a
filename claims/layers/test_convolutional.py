"""Section 5.2.2: the convolutional network for digits, its maps, its parameters, and what flattening makes of them."""

from itertools import accumulate, pairwise

import hypothesis.strategies as st
import pytest
import torch
from hypothesis import assume, example, given
from torch import nn

from fitcore.data import mnist
from fitcore.models import CNN, number_of_parameters
from fitcore.seeding import seeded
from fitcore.testing import REFUTED, claim, error_of, override, replace

SEEDS = st.integers(0, 2**32 - 1)

conv2d, max_pool2d, Conv2d = nn.functional.conv2d, nn.functional.max_pool2d, nn.Conv2d


def without_padding(x, weight, bias, *settings):
    return conv2d(x, weight, bias)


def rounding_up(x, *window, **options):
    return max_pool2d(x, *window, **options | {"ceil_mode": True})


def padding_before_stride(channels, maps, kernel, stride, padding):
    return nn.Conv2d(channels, maps, kernel, padding, stride)


def maps_before_channels(channels, maps, kernel, stride, padding):
    return nn.Conv2d(maps, channels, kernel, stride, padding)


@claim(
    "pytorch-notes/conv2d-positional-order",
    finding="Weights are (out, in, kernel, kernel), and a side of s becomes ⌊(s + 2 padding - kernel) / stride⌋ + 1.",
    controls=[
        override("padding before stride", layer=padding_before_stride),
        override("output before input channels", layer=maps_before_channels),
    ],
)
@example(arguments=(1, 32, 3, 2, 1), size=28, layer=nn.Conv2d)
@given(
    arguments=st.tuples(*[st.integers(1, 4)] * 2, st.integers(1, 5), st.integers(1, 4), st.integers(0, 2)),
    size=st.integers(5, 32),
    layer=st.just(nn.Conv2d),
)
def test_conv2d_takes_channels_maps_kernel_stride_and_padding_in_this_order(arguments, size, layer):
    channels, maps, kernel, stride, padding = arguments
    convolution = layer(*arguments)
    assert convolution.weight.shape == (maps, channels, kernel, kernel)
    side = (size + 2 * padding - kernel) // stride + 1
    assert convolution(torch.zeros(channels, size, size)).shape == (maps, side, side)


def map_shapes(model, images):
    """Shapes of what each pooling leaves, without the batch dimension."""
    steps = accumulate(model.features, lambda maps, layer: layer(maps), initial=images)
    return [tuple(maps.shape[1:]) for maps in list(steps)[3::3]]


maps_of_another_size = [
    replace("torch.nn.functional.conv2d", without_padding),
    replace("torch.nn.functional.max_pool2d", rounding_up),
]


@claim(
    "pytorch-notes/cnn-feature-maps-28-14-7-3",
    finding="Padding 1 keeps the size under a 3x3 kernel, and each pooling halves it, rounding down: 28, 14, 7, 3. So "
    "for all sizes and widths.",
    controls=maps_of_another_size,
)
@given(
    n=st.integers(1, 4), size=st.integers(8, 64), widths=st.lists(st.integers(1, 8), min_size=1, max_size=3).map(tuple)
)
def test_every_block_halves_the_maps_rounding_down(n, size, widths, evidence):
    measured = map_shapes(CNN(), torch.zeros(n, 1, 28, 28))
    reported = [(32, 14, 14), (64, 7, 7), (128, 3, 3)]
    assert evidence.figure("channels, height and width of the maps", reported=reported, measured=measured, tolerance=0)
    sides = [size // 2**block for block in range(1, len(widths) + 1)]
    shapes = map_shapes(CNN(size, widths=widths), torch.zeros(n, 1, size, size))
    assert shapes == [(width, side, side) for width, side in zip(widths, sides, strict=True)]


@claim(
    "pytorch-notes/cnn-flatten-size-1152",
    finding="A first linear layer of any other size is refused, and the message names both sizes.",
    controls=maps_of_another_size,
)
@given(n=st.integers(2, 4), wrong=st.integers(1, 2000))
def test_the_features_of_a_28x28_image_are_1152(n, wrong):
    assume(wrong != 1152)
    model, images = CNN(), torch.zeros(n, 1, 28, 28)
    features = model.features(images).flatten(1)
    assert features.shape == (n, 128 * 3 * 3) == (n, 1152)
    assert error_of(model.classifier, features) is None
    with pytest.raises(RuntimeError, match=f"{n}x1152 and {wrong}x256"):
        nn.Linear(wrong, 256)(features)


@claim(
    "pytorch-notes/cnn-runs-on-28x28",
    finding="On real digits, in training and in evaluation, and for a batch of one too: there is no BatchNorm. Every "
    "parameter gets a gradient.",
    controls=maps_of_another_size,
)
@given(n=st.integers(1, 5))
def test_the_convolutional_network_gives_ten_values_for_each_digit(n):
    model, digits = CNN(), mnist()[:n]
    assert error_of(model, digits.scaled) is None
    assert model.eval()(digits.scaled).shape == (n, 10)
    nn.functional.cross_entropy(model.train()(digits.scaled), digits.labels).backward()
    assert all(parameter.grad is not None for parameter in model.parameters())


def without_bias(*arguments, **options):
    return Conv2d(*arguments, **options, bias=False)


@claim(
    "pytorch-notes/cnn-has-390410-parameters",
    finding="As torchinfo counts too. The convolutions hold 92,672 and the two linear layers 297,738: three quarters "
    "of all are in the one that takes the 1152 features.",
    controls=[replace("torch.nn.Conv2d", without_bias)],
)
@given(
    channels=st.integers(1, 3),
    classes=st.integers(1, 10),
    widths=st.lists(st.integers(1, 8), max_size=3),
    hidden=st.integers(1, 9),
)
def test_parameters_are_those_of_the_kernels_and_of_two_linear_layers(
    *, channels, classes, widths, hidden, evidence, torchinfo
):
    model = CNN()
    assert evidence.figure("parameters", reported=390_410, measured=number_of_parameters(model), tolerance=0)
    assert torchinfo.summary(model, (1, 1, 28, 28), verbose=0).total_params == 390_410
    maps = [channels, *widths]
    kernels = sum((9 * fan_in + 1) * fan_out for fan_in, fan_out in pairwise(maps))
    features = maps[-1] * (20 // 2 ** len(widths)) ** 2
    other = CNN(20, channels, classes, widths, hidden=hidden)
    assert number_of_parameters(other) == kernels + (features + 1) * hidden + (hidden + 1) * classes


@claim(
    "pytorch-notes/cnn-last-pool-discards-a-row-and-column",
    verdict=REFUTED,
    finding="The last row and column are left over, 13 of 49 values (27 %): whatever stands there, the 3x3 map is the "
    "same. So with every odd size. ceil_mode=True uses all, and makes 4x4 of it.",
    controls=[replace("torch.nn.functional.max_pool2d", rounding_up)],
)
@given(half=st.integers(1, 6), seed=SEEDS)
def test_pooling_an_odd_map_leaves_out_its_last_row_and_column(half, seed):
    pool, all_of_it = nn.MaxPool2d(2, 2), nn.MaxPool2d(2, 2, ceil_mode=True)
    with seeded(seed):
        maps, other = torch.rand(2, 1, 4, 2 * half + 1, 2 * half + 1)
    other[..., :-1, :-1] = maps[..., :-1, :-1]
    assert torch.equal(pool(maps), pool(other))
    assert not torch.equal(all_of_it(maps), all_of_it(other))


@claim(
    "pytorch-notes/cnn-last-pool-discards-a-row-and-column",
    verdict=REFUTED,
    finding="Of the 7x7 map 36 values are used. What an image shows at its edge is not lost thereby: the convolutions "
    "before carry it inwards.",
    controls=[replace("torch.nn.functional.max_pool2d", rounding_up)],
    trials=10,
)
def test_the_last_pooling_uses_36_of_49_values_and_yet_sees_the_edge_of_the_image(trials, evidence):
    pooled = nn.MaxPool2d(2, 2)(torch.eye(49).view(49, 1, 7, 7))
    used = pooled.flatten(1).amax(1).view(7, 7)
    evidence.image("which of the 7x7 values are used (white)", used.repeat_interleave(16, 0).repeat_interleave(16, 1))
    assert used.sum() == 36
    assert used[:-1, :-1].all()

    def change_by_the_edge(seed):
        blank, edge = torch.zeros(1, 1, 28, 28), torch.zeros(1, 1, 28, 28).index_fill(-1, torch.tensor(27), 1.0)
        features = CNN().features
        return (features(edge) - features(blank)).abs().max()

    trials.always(trials.map(change_by_the_edge) > 0, name="the last column of pixels reaches the features")


def as_1152(features):
    return features.view(-1, 1152)


def image_by_image(features):
    return features.flatten(1)


@claim(
    "pytorch-notes/cnn-flatten-keeps-one-row-per-image",
    verdict=REFUTED,
    finding="view(-1, 1152) fails only where the numbers of a batch don't divide by 1152. Else it cuts rows out of "
    "images, or across them. flatten(1) keeps a row an image, and the linear layer then refuses what is not 1152.",
    controls=[override("flatten(1)", flatten=image_by_image)],
)
@given(
    dividing=st.tuples(st.integers(1, 9), st.sampled_from([3, 6])) | st.tuples(st.just(9), st.integers(1, 7)),
    other=st.tuples(st.integers(1, 8), st.sampled_from([1, 2, 4, 5, 7])),
    flatten=st.just(as_1152),
)
def test_view_makes_as_many_rows_as_the_numbers_of_a_batch_divide_into(dividing, other, flatten):
    n, side = dividing
    assert flatten(torch.zeros(n, 128, side, side)).shape == (n * side**2 // 9, 1152)
    n, side = other
    with pytest.raises(RuntimeError, match=rf"'\[-1, 1152\]' is invalid for input of size {n * 128 * side**2}"):
        flatten(torch.zeros(n, 128, side, side))


@claim(
    "pytorch-notes/cnn-flatten-keeps-one-row-per-image",
    verdict=REFUTED,
    finding="Without an error the network gives four outputs for each image of 48x48 pixels, and one for nine images "
    "of 8x8.",
    controls=[override("flatten(1)", flatten=image_by_image)],
)
@pytest.mark.parametrize(("n", "size", "rows"), [(2, 48, 8), (9, 8, 1)])
def test_the_network_gives_outputs_that_belong_to_no_image(n, size, rows, flatten=as_1152):
    model = CNN()
    features = model.features(torch.zeros(n, 1, size, size))
    assert flatten(features).shape == (rows, 1152)
    assert model.classifier(flatten(features)).shape == (rows, 10)
    with pytest.raises(RuntimeError, match=f"{n}x{features[0].numel()} and 1152x256"):
        model.classifier(image_by_image(features))
