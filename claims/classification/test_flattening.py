"""Section 9.2.1: why images are flattened before a linear layer, and what the layer takes."""

import hypothesis.strategies as st
import pytest
import torch
from hypothesis import example, given
from torch import nn
from torch.testing import assert_close

from fitcore.evaluation.memory import shares_storage
from fitcore.seeding import seeded
from fitcore.testing import CONDITIONAL, REFUTED, claim, error_of, override
from fitcore.testing.strategies import numbered, shapes

SEEDS = st.integers(0, 2**32 - 1)
batches = st.integers(1, 6)


def flattened(images):
    return images.view(images.size(0), -1)


def as_they_are(images):
    return images


def without_the_batch(images):
    return images.view(-1)


def a_column_an_image(images):
    return images.view(-1, images.size(0))


@claim(
    "pytorch-notes/flatten-keeps-batch-784",
    finding="Row i holds the pixels of image i in reading order, in the memory of the images.",
    controls=[
        override("the batch flattened too", flatten=without_the_batch),
        override("the batch last", flatten=a_column_an_image),
    ],
)
@example(shape=(5, 1, 28, 28), flatten=flattened)
@given(shape=shapes(min_dims=3, max_dims=4, min_side=2), flatten=st.just(flattened))
def test_view_keeps_the_batch_and_makes_a_row_of_each_image(shape, flatten):
    images = torch.arange(torch.Size(shape).numel()).view(shape)
    rows = flatten(images)
    assert rows.shape == (shape[0], images[0].numel())
    assert torch.equal(rows, torch.stack([image.flatten() for image in images]))
    assert shares_storage(rows, images)


@claim(
    "pytorch-notes/unflattened-mnist-into-linear-784-raises",
    finding="The layer takes the 28 pixels of a line for the features: 140 lines of 28 don't go with 784 weights.",
    controls=[override("flattened", prepare=flattened)],
)
@example(batch=5, neurons=256, prepare=as_they_are)
@given(batch=batches, neurons=st.integers(1, 300), prepare=st.just(as_they_are))
def test_a_layer_for_784_pixels_refuses_images_of_28_by_28(batch, neurons, prepare):
    layer, images = nn.Linear(784, neurons), torch.zeros(batch, 1, 28, 28)
    with pytest.raises(RuntimeError, match=rf"\({28 * batch}x28 and 784x{neurons}\)"):
        layer(prepare(images))
    assert layer(flattened(images)).shape == (batch, neurons)


class OneDimensional(nn.Linear):
    """A linear layer that is what the statement says."""

    def forward(self, x):
        if x.ndim > 1:
            raise RuntimeError(f"expected one dimension, got {x.ndim}")
        return super().forward(x)


@claim(
    "pytorch-notes/linear-only-1d-input",
    verdict=REFUTED,
    finding="It takes any number of dimensions, a batch of flattened images being two already, and maps the last one: "
    "only the size of that must be in_features. Linear(28, n) takes images as they are, and treats each line of pixels "
    "by itself. They are flattened so that a neuron sees all pixels.",
    controls=[override("one dimension only", layer=OneDimensional)],
)
@example(leading=(5, 1, 28), features=28, seed=0, layer=nn.Linear)
@given(
    leading=shapes(min_dims=0, max_dims=4, max_side=3),
    features=st.integers(1, 5),
    seed=SEEDS,
    layer=st.just(nn.Linear),
)
def test_a_linear_layer_maps_the_last_dimension_whatever_comes_before_it(leading, features, seed, layer):
    with seeded(seed):
        linear, x = layer(features, 3).double(), torch.randn(*leading, features).double()
    assert error_of(linear, torch.zeros(2, 2, features).double()) is None
    rows = [linear(row) for row in x.view(-1, features)]
    assert_close(linear(x), torch.stack(rows).view(*leading, 3))
    with pytest.raises(RuntimeError, match=rf"{features + 1}.* and {features}x3|size mismatch"):
        linear(torch.zeros(2, features + 1).double())


def channels_last(images):
    return images.contiguous(memory_format=torch.channels_last)


LAYOUTS = {
    "channels last": channels_last,
    "turned": lambda images: images.transpose(2, 3),
    "cropped": lambda images: images[..., 1:, 1:],
}


def copied(images):
    return images.contiguous()


@claim(
    "pytorch-notes/view-works-for-any-input",
    verdict=CONDITIONAL,
    finding="For images whose pixels lie in reading order, as a DataLoader gives them. Those in channels_last, "
    "transposed or cropped raise a RuntimeError. flatten(1) takes them all, by a copy where it must.",
    controls=[override("copied in reading order", arrange=copied)],
)
@pytest.mark.parametrize("layout", LAYOUTS)
@given(batch=batches, channels=st.integers(2, 4), side=st.integers(3, 6), arrange=st.just(as_they_are))
def test_view_flattens_images_in_reading_order_and_refuses_others(layout, batch, channels, side, arrange):
    plain = torch.arange(batch * channels * side**2).view(batch, channels, side, side)
    laid_out = arrange(LAYOUTS[layout](plain))
    assert torch.equal(flattened(plain), plain.flatten(1))
    with pytest.raises(RuntimeError, match="view size is not compatible"):
        flattened(laid_out)
    assert torch.equal(laid_out.flatten(1), flattened(laid_out.contiguous()))


def with_two_more(images):
    return torch.cat([images, images.new_zeros(2, *images.shape[1:])])


@claim(
    "pytorch-notes/view-works-for-any-input",
    verdict=CONDITIONAL,
    finding="An empty batch, for which -1 could be anything, is refused too; flatten(1) takes it.",
    controls=[override("two images more", batch_of=with_two_more)],
)
@given(images=numbered(shapes(min_dims=4)), batch_of=st.just(as_they_are))
def test_view_refuses_an_empty_batch(images, batch_of):
    with pytest.raises(RuntimeError, match="ambiguous"):
        flattened(batch_of(images[:0]))
    assert images[:0].flatten(1).shape == (0, images[0].numel())
