"""Section 6.3.2: a collate function that pads images of different sizes."""

import hypothesis.strategies as st
import torch
from hypothesis import given
from torch import nn
from torch.utils.data import default_collate

from fitcore.data import cifar10, pad_to_largest
from fitcore.testing import claim, override, replace

SIDES = st.integers(1, 6)


pad = nn.functional.pad


def on_all_sides(image, margins):
    _, right, _, bottom = margins
    return pad(image, (right // 2, right - right // 2, bottom // 2, bottom - bottom // 2))


def one_pixel_more(image, margins):
    _, right, _, bottom = margins
    return pad(image, (0, right + 1, 0, bottom + 1))


@st.composite
def samples(draw):
    """Images of 3 x height x width, full of numbers above zero, with labels: the document's two sizes, or any."""
    sizes = draw(st.just([(20, 30), (25, 10)]) | st.lists(st.tuples(SIDES, SIDES), min_size=1, max_size=5))
    return [(torch.full((3, *size), number + 1.0), number) for number, size in enumerate(sizes)]


@claim(
    "pytorch-notes/collate-pads-to-batch-maximum",
    finding="(3, 20, 30) and (3, 25, 10) become (2, 3, 25, 30): the largest height and the largest width, even where "
    "no image has both.",
    controls=[
        replace("fitcore.data.collate.pad", on_all_sides),
        replace("fitcore.data.collate.pad", one_pixel_more),
    ],
)
@given(batch=samples())
def test_images_are_padded_at_right_and_bottom_to_the_largest(batch):
    images, labels = pad_to_largest(batch)
    heights, widths = torch.tensor([image.shape[1:] for image, _ in batch]).T
    inside = (torch.arange(heights.max()) < heights[:, None])[:, :, None] & (
        torch.arange(widths.max()) < widths[:, None]
    )[:, None]
    assert torch.equal(labels, torch.arange(len(batch)))
    assert torch.equal(images, ((labels + 1)[:, None, None] * inside)[:, None].expand(-1, 3, -1, -1).float())


@claim(
    "pytorch-notes/collate-equals-default-on-equal-sizes",
    finding="Images and integer labels, bit by bit. Labels that are Python floats come out as float32, not float64.",
    controls=[
        replace("fitcore.data.collate.pad", one_pixel_more),
        override("labels of floating point", label=float),
    ],
)
@given(
    indices=st.lists(st.integers(0, 599), min_size=1, max_size=8),
    label=st.sampled_from([int, torch.tensor]),
)
def test_images_of_one_size_are_collated_as_by_default(indices, label):
    images = cifar10(train=False)
    batch = [(images.images[index], label(images.labels[index].item())) for index in indices]
    collated, expected = pad_to_largest(batch), default_collate(batch)
    assert [values.dtype for values in collated] == [values.dtype for values in expected]
    assert all(map(torch.equal, collated, expected))
