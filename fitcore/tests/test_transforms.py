"""Cutout, and images transformed together with their boxes or masks."""

import hypothesis.strategies as st
import pytest
import torch
from hypothesis import given
from torchvision.transforms.functional import to_pil_image

from fitcore.data.transforms import Cutout, DetectionTransform, SegmentationTransform
from fitcore.seeding import seeded
from fitcore.testing.strategies import tensors

seeds = st.integers(0, 2**32 - 1)
sizes = st.tuples(st.integers(2, 20), st.integers(2, 20))


@given(size=sizes, side=st.integers(1, 25), seed=seeds)
def test_cutout_erases_what_shows_of_a_square(size, side, seed):
    image = torch.ones(3, *size)
    with seeded(seed):
        erased = Cutout(side)(image) == 0
    assert image.all()
    assert torch.equal(erased, erased.any(1, keepdim=True) & erased.any(2, keepdim=True))
    assert (erased == erased[0]).all()
    heights, widths = erased[0].sum(0).unique()[-1], erased[0].sum(1).unique()[-1]
    assert 0 < heights <= side
    assert 0 < widths <= side
    assert heights >= min(side // 2, size[0])
    assert widths >= min(side // 2, size[1])


def test_cutout_reaches_every_pixel_and_writes_its_value():
    with seeded(0):
        erased = torch.stack([Cutout(3, value=0.5)(torch.zeros(1, 6, 5)) for _ in range(500)])
    assert (erased == 0.5).any(0).all()
    assert set(erased.unique().tolist()) == {0.0, 0.5}


def test_cutout_needs_a_square():
    with pytest.raises(ValueError, match="side must be at least 1, got 0"):
        Cutout(0)


@given(data=st.data(), size=sizes, seed=seeds, flip=st.sampled_from([0.0, 1.0]), pil=st.booleans())
def test_a_box_still_encloses_its_object(data, size, seed, flip, pil):
    height, width = size
    left, top = data.draw(st.integers(0, width - 1)), data.draw(st.integers(0, height - 1))
    right, bottom = data.draw(st.integers(left + 1, width)), data.draw(st.integers(top + 1, height))
    image = torch.zeros(3, height, width, dtype=torch.uint8)
    image[:, top:bottom, left:right] = 255
    box = torch.tensor([[left, top, right, bottom]])
    with seeded(seed):
        transform = DetectionTransform(flip, brightness=0, contrast=0)
        pixels, boxes = transform(to_pil_image(image) if pil else image, box)
    assert (pixels.dtype, pixels.shape) == (torch.float32, image.shape)
    assert type(pixels) is type(boxes) is torch.Tensor
    rows, columns = (pixels[0] > 0).nonzero().T
    found = torch.tensor([[columns.min(), rows.min(), columns.max() + 1, rows.max() + 1]])
    assert torch.equal(boxes, found)
    assert torch.equal(box, torch.tensor([[left, top, right, bottom]]))


def test_boxes_need_four_edges_each():
    with pytest.raises(ValueError, match=r"boxes must be \(n, 4\), got \(4,\)"):
        DetectionTransform()(torch.zeros(3, 5, 5), torch.zeros(4))


@given(mask=tensors(sizes, torch.uint8), seed=seeds, pil=st.booleans(), exposed=st.integers(0, 5))
def test_a_mask_moves_with_its_image(mask, seed, pil, exposed):
    image = (10 * mask + 5).expand(3, -1, -1).contiguous()
    pair = (to_pil_image(image), to_pil_image(mask)) if pil else (image, mask)
    with seeded(seed):
        pixels, labels = SegmentationTransform(degrees=30, exposed=exposed)(*pair)
    assert type(pixels) is type(labels) is torch.Tensor
    assert (labels.shape, labels.dtype) == (mask.shape, mask.dtype)
    shown = pixels[0] > 0
    assert torch.equal(10 * labels[shown] + 5, pixels[0][shown])
    assert (labels[~shown] == exposed).all()


def test_a_mask_is_as_large_as_its_image():
    with pytest.raises(ValueError, match=r"mask must be \(4, 5\) as the image, got \(5, 4\)"):
        SegmentationTransform()(torch.zeros(3, 4, 5), torch.zeros(5, 4))


def test_the_generator_is_drawn_from_and_never_seeded(monkeypatch):
    monkeypatch.setattr(torch, "manual_seed", None)
    with seeded(0):
        states = []
        for _ in range(5):
            SegmentationTransform()(torch.zeros(3, 4, 4), torch.zeros(4, 4))
            states.append(tuple(torch.get_rng_state().tolist()))
    assert len(set(states)) == 5
