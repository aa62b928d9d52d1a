"""Sections 10.2 and 12.1: what the network for digits makes of its images, step by step, and which images it takes."""

from itertools import accumulate

import hypothesis.strategies as st
import pytest
import torch
from hypothesis import assume, example, given, settings
from torch import nn
from torch.nn.functional import cross_entropy, nll_loss
from torch.testing import assert_close

from fitcore.data import mnist
from fitcore.evaluation.memory import shares_storage
from fitcore.models import CNN, number_of_parameters
from fitcore.seeding import seeded
from fitcore.testing import CONDITIONAL, claim, error_of, override, replace
from fitcore.testing.strategies import numbered, shapes

SEEDS = st.integers(0, 2**32 - 1)

conv2d, max_pool2d, Conv2d = nn.functional.conv2d, nn.functional.max_pool2d, nn.Conv2d


def without_padding(images, weight, bias, stride, padding, *others):
    return conv2d(images, weight, bias, stride, 0, *others)


def one_at_a_time(images, kernel, stride, *window, **options):
    return max_pool2d(images, kernel, 1, *window, **options)


def without_bias(*arguments, **options):
    return Conv2d(*arguments, **options, bias=False)


def rows(features):
    return features.view(features.size(0), -1)


class Printed(nn.Module):
    """The document's network: it flattens by view, and doesn't check the size of its images."""

    def __init__(self, *last, pool=nn.Identity, flatten=rows):
        super().__init__()
        network = CNN(widths=(16, 32), hidden=None)
        self.features, self.classifier = network.features.append(pool()), network.classifier.extend(last)
        self.flatten = flatten

    def forward(self, images):
        return self.classifier(self.flatten(self.features(images)))


@claim(
    "pytorch-notes/conv1-keeps-28",
    "pytorch-notes/conv2-pool-7x7-1568",
    "pytorch-notes/mnist-cnn-shapes-28-14-7-10",
    finding="On real digits, for a batch of any size. A last layer for any other number of inputs refuses the 1568.",
    controls=[
        replace("torch.nn.functional.conv2d", without_padding),
        replace("torch.nn.functional.max_pool2d", one_at_a_time),
    ],
)
@given(n=st.integers(1, 5), other=st.integers(1, 2000))
def test_the_maps_are_of_28_then_14_then_7_pixels(n, other, evidence):
    assume(other != 1568)
    model = Printed()
    steps = list(accumulate(model.features, lambda maps, layer: layer(maps), initial=mnist()[:n].scaled))
    assert {len(maps) for maps in steps} == {n}
    measured = [tuple(steps[step].shape[1:]) for step in (0, 1, 3, 4, 6)]
    reported = [(1, 28, 28), (16, 28, 28), (16, 14, 14), (32, 14, 14), (32, 7, 7)]
    assert evidence.figure("channels, height and width", reported=reported, measured=measured, tolerance=0)
    assert rows(steps[-1]).shape == (n, 32 * 7 * 7) == (n, 1568)
    assert error_of(model, steps[0]) is None
    assert model(steps[0]).shape == (n, 10)
    with pytest.raises(RuntimeError, match=f"{n}x1568 and {other}x10"):
        nn.Linear(other, 10)(rows(steps[-1]))


@claim(
    "pytorch-notes/padding1-keeps-size-for-3x3",
    finding="Of any height and width. It is the padding for this kernel and stride 1: a 5x5 kernel takes 2 rows and "
    "columns away with it, and wants padding 2; stride 2 halves the size.",
    controls=[replace("torch.nn.functional.conv2d", without_padding)],
)
@pytest.mark.parametrize(("channels", "maps"), [(1, 16), (16, 32)])
@given(height=st.integers(3, 32), width=st.integers(3, 32))
def test_padding_one_keeps_the_size_under_a_3x3_kernel(channels, maps, height, width):
    images = torch.zeros(1, channels, height, width)
    assert nn.Conv2d(channels, maps, 3, padding=1)(images).shape == (1, maps, height, width)
    assert nn.Conv2d(channels, maps, 5, padding=1)(images).shape == (1, maps, height - 2, width - 2)
    assert nn.Conv2d(channels, maps, 5, padding=2)(images).shape == (1, maps, height, width)
    assert nn.Conv2d(channels, maps, 3, 2, padding=1)(images).shape[2:] == ((height + 1) // 2, (width + 1) // 2)


@claim(
    "pytorch-notes/cnn-params-20490",
    "pytorch-notes/mnist-cnn-has-20490-parameters",
    finding="As torchinfo counts too. 77 % of them are in the last layer.",
    controls=[replace("torch.nn.Conv2d", without_bias)],
)
def test_the_network_has_20490_parameters(evidence, torchinfo):
    model = Printed()
    parts = {"conv1": model.features[0], "conv2": model.features[3], "fc": model.classifier}
    parameters = {name: number_of_parameters(part) for name, part in parts.items()}
    evidence.table("parameters", [parameters | {"all": number_of_parameters(model)}])
    assert parameters == {"conv1": 160, "conv2": 4_640, "fc": 15_690}
    assert parameters == {"conv1": 16 * (9 + 1), "conv2": 32 * (16 * 9 + 1), "fc": 10 * (1568 + 1)}
    assert number_of_parameters(model) == torchinfo.summary(model, (1, 1, 28, 28), verbose=0).total_params == 20_490


@claim(
    "pytorch-notes/cnn-output-logits-no-softmax",
    finding="They are the last layer's own values: a number added to its bias appears in each of them, where softmax "
    "would not change. CrossEntropyLoss does the softmax: it is NLLLoss of its logarithm.",
    controls=[
        override("softmax", last=[nn.Softmax(1)]),
        override("log_softmax", last=[nn.LogSoftmax(1)]),
    ],
)
@given(n=st.integers(1, 5), seed=SEEDS, more=st.integers(1, 9), last=st.just([]))
def test_the_network_returns_logits(n, seed, more, last):
    digits = mnist()[:n]
    with seeded(seed):
        model = Printed(*last)
    logits = model(digits.scaled)
    assert logits.shape == (n, 10)
    with torch.no_grad():
        model.classifier[0].bias += more
    assert_close(model(digits.scaled), logits + more)
    assert not torch.allclose((logits + more).sum(1), torch.ones(n))
    assert_close(cross_entropy(logits, digits.labels), nll_loss(logits.softmax(1).log(), digits.labels))


def channels_last_rows(features):
    return features.movedim(1, -1).flatten(1)


@claim(
    "pytorch-notes/view-equals-flatten",
    finding="The same numbers in the same order, and neither copies anything. They differ for an empty batch, of which "
    "Flatten makes 0 rows of 1568, and view an error, since -1 could be any number.",
    controls=[override("channels last", flatten=channels_last_rows)],
)
@example(features=torch.arange(4 * 1568).view(4, 32, 7, 7), flatten=nn.Flatten())
@given(features=numbered(shapes(min_dims=2)), flatten=st.just(nn.Flatten()))
def test_view_to_rows_is_what_flatten_does(features, flatten):
    assert torch.equal(rows(features), flatten(features))
    assert shares_storage(rows(features), features)
    assert shares_storage(flatten(features), features)
    pooled = Printed().features(mnist()[:4].scaled)
    assert pooled.shape == (4, 32, 7, 7)
    assert torch.equal(rows(pooled), flatten(pooled))
    assert flatten(pooled[:0]).shape == (0, 1568)
    assert "ambiguous" in str(error_of(rows, pooled[:0]))


LAYOUTS = {
    "contiguous": lambda images: images,
    "transposed images": lambda images: images.mT.contiguous().mT,
    "the batch last": lambda images: images.permute(1, 2, 3, 0).contiguous().permute(3, 0, 1, 2),
    "every second image": lambda images: images.repeat_interleave(2, 0)[::2],
    "an expanded image": lambda images: images[:1].expand_as(images),
}


def flattened(features):
    return features.flatten(1)


def channels_last(model, images):
    return model, images.to(memory_format=torch.channels_last)


def weights_channels_last(model, images):
    return model.to(memory_format=torch.channels_last), images


def arrays(model, images):
    return model, images.permute(0, 2, 3, 1).clone(memory_format=torch.contiguous_format).permute(0, 3, 1, 2)


def maps_channels_last(*arguments):
    return conv2d(*arguments).to(memory_format=torch.channels_last)


@claim(
    "pytorch-notes/view-in-forward-works-for-any-memory-format",
    verdict=CONDITIONAL,
    finding="It does for a strided input that isn't channels_last: whatever its layout, the convolution writes "
    "contiguous maps.",
    controls=[replace("torch.nn.functional.conv2d", maps_channels_last)],
)
@pytest.mark.parametrize("layout", LAYOUTS)
@settings(max_examples=5)
@given(n=st.integers(2, 5), seed=SEEDS)
def test_images_in_other_layouts_can_be_flattened_by_view(layout, n, seed):
    with seeded(seed):
        images, model = LAYOUTS[layout](mnist()[:n].scaled), Printed()
    assert images.is_contiguous() == (layout == "contiguous")
    assert error_of(model, images) is None
    assert_close(model(images), model(images.contiguous()))


@claim(
    "pytorch-notes/view-in-forward-works-for-any-memory-format",
    verdict=CONDITIONAL,
    finding="With images or weights in channels_last the maps are so too, and view raises a RuntimeError; flatten(1) "
    "copies them, and gives the same as ever. Arrays (n, 28, 28, 1) permuted to (n, 1, 28, 28) count as channels_last, "
    "although is_contiguous() says True.",
    controls=[override("flatten(1)", flatten=flattened)],
)
@pytest.mark.parametrize("prepare", [channels_last, weights_channels_last, arrays])
@settings(max_examples=5)
@given(n=st.integers(2, 5), seed=SEEDS, flatten=st.just(rows))
def test_maps_in_channels_last_cannot_be_flattened_by_view(prepare, n, seed, flatten):
    with seeded(seed):
        images, model = mnist()[:n].scaled, Printed(flatten=flattened)
    expected = model(images)
    model, images = prepare(model, images)
    assert images.is_contiguous()
    assert_close(model(images), expected)
    model.flatten = flatten
    with pytest.raises(RuntimeError, match="view size is not compatible"):
        model(images)


def adaptive():
    return nn.AdaptiveMaxPool2d(7)


@claim(
    "pytorch-notes/mnist-cnn-requires-28x28-images",
    verdict=CONDITIONAL,
    finding="Squares of 4 to 27 pixels and from 32 on are refused by the last layer: 32x32 makes 2048 inputs. "
    "But pooling rounds down, so that every height and width from 28 to 31 makes maps of 7x7 and is taken without a "
    "word. So is 4x196, which makes 1x49. With adaptive pooling to 7x7 before the last layer all of these will do.",
    controls=[override("adaptive pooling", pool=adaptive)],
)
@example(n=4, taken=(31, 31), refused=32, pool=nn.Identity)
@given(
    n=st.integers(2, 4),
    taken=st.tuples(st.integers(28, 31), st.integers(28, 31)) | st.sampled_from([(4, 196), (199, 7)]),
    refused=st.integers(4, 27) | st.integers(32, 64),
    pool=st.just(nn.Identity),
)
def test_squares_of_28_to_31_pixels_are_taken(n, taken, refused, pool):
    model = Printed(pool=pool)
    assert error_of(model, torch.zeros(n, 1, *taken)) is None
    with pytest.raises(RuntimeError, match=f"{n}x{32 * (refused // 4) ** 2} and 1568x10"):
        model(torch.zeros(n, 1, refused, refused))
    assert error_of(Printed(pool=adaptive), torch.zeros(n, 1, refused, refused)) is None
