"""Section 6.4.3: transforms for classification, for images with boxes, and for images with masks."""

from unittest.mock import patch

import hypothesis.strategies as st
import numpy as np
import pytest
import torch
from hypothesis import example, given, settings
from PIL import Image
from torchvision import transforms
from torchvision.transforms.functional import hflip, pil_to_tensor, to_pil_image

from fitcore.data.transforms import IMAGENET_MEAN, IMAGENET_STD, DetectionTransform, SegmentationTransform
from fitcore.seeding import seeded
from fitcore.testing import REFUTED, claim, error_of, override
from fitcore.testing.strategies import tensors

seeds = st.integers(0, 2**32 - 1)


def classification(crop):
    """The document's pipeline for classification."""
    return transforms.Compose(
        [
            crop,
            transforms.RandomHorizontalFlip(p=0.5),
            transforms.ColorJitter(brightness=0.2, contrast=0.2, saturation=0.2, hue=0.1),
            transforms.RandomRotation(10),
            transforms.RandomAffine(degrees=0, translate=(0.1, 0.1), scale=(0.9, 1.1)),
            transforms.ToTensor(),
            transforms.Normalize(IMAGENET_MEAN, IMAGENET_STD),
        ]
    )


def leave_as_it_is(image, *_, **__):
    return image


@claim("pytorch-notes/classification-transform-shape", controls=[override("without the crop", crop=leave_as_it_is)])
@settings(max_examples=8)
@example(size=(32, 32), seed=0, crop=transforms.RandomResizedCrop(224))
@example(size=(640, 480), seed=0, crop=transforms.RandomResizedCrop(224))
@given(
    size=st.tuples(st.integers(1, 300), st.integers(1, 300)),
    seed=seeds,
    crop=st.just(transforms.RandomResizedCrop(224)),
)
def test_rgb_images_of_any_size_become_3_224_224(size, seed, crop):
    with seeded(seed):
        assert classification(crop)(Image.new("RGB", size)).shape == (3, 224, 224)


def in_rgb(mode, size):
    return Image.new(mode, size).convert("RGB")


@claim(
    "pytorch-notes/classification-transform-takes-any-mode",
    verdict=REFUTED,
    finding="ColorJitter or Normalize refuses gray, indexed, CMYK and alpha images. (Those in YCbCr or HSV pass, their "
    "channels taken for colours.) convert('RGB') lets all of them through.",
    controls=[override("converted", make=in_rgb)],
)
@pytest.mark.parametrize("mode", ["L", "RGBA", "P", "1", "LA", "CMYK", "I", "F"])
def test_gray_indexed_and_alpha_images_are_refused(mode, make=Image.new):
    pipeline = classification(transforms.RandomResizedCrop(224))
    assert isinstance(error_of(pipeline, make(mode, (40, 30))), RuntimeError | ValueError)
    assert error_of(pipeline, in_rgb(mode, (40, 30))) is None
    assert error_of(pipeline, Image.new("YCbCr", (40, 30))) is None


def flipped(boxes, width):
    """Boxes (n, 4) of left, top, right and bottom edges after a horizontal flip, as the document has it."""
    left, top, right, bottom = boxes.unbind(1)
    return torch.stack([width - right, top, width - left, bottom], dim=1)


def each_edge_mirrored(boxes, width):
    left, top, right, bottom = boxes.unbind(1)
    return torch.stack([width - left, top, width - right, bottom], dim=1)


class ListedDetection:
    """The document's: flips the image and its boxes, and then jitters and normalises the image."""

    def __init__(self, flip_boxes=flipped):
        self.flip_boxes = flip_boxes
        normalise = transforms.Normalize(IMAGENET_MEAN, IMAGENET_STD)
        self.transform = transforms.Compose([transforms.ColorJitter(0.2, 0.2), transforms.ToTensor(), normalise])

    def __call__(self, image, boxes):
        if torch.rand(()) > 0.5:
            image = hflip(image)
            boxes = self.flip_boxes(boxes, image.width)
        return self.transform(image), boxes


def spans(length):
    return st.lists(st.integers(0, length), min_size=2, max_size=2, unique=True).map(sorted)


@st.composite
def boxes_and_sizes(draw):
    """One to three boxes (n, 4) within an image, and its (height, width)."""
    height, width = draw(st.integers(1, 60)), draw(st.integers(1, 100))
    pairs = draw(st.lists(st.tuples(spans(width), spans(height)), min_size=1, max_size=3))
    return torch.tensor([[left, top, right, bottom] for (left, right), (top, bottom) in pairs]), (height, width)


def bright_rectangle(box, size):
    left, top, right, bottom = box.tolist()
    image = torch.zeros(3, *size, dtype=torch.uint8)
    image[:, top:bottom, left:right] = 255
    return to_pil_image(image)


def edges_of_what_is_bright(normalised):
    # Jitter of 20 % darkens white to 163 at most, and lightens black to 61.
    rows, columns = (normalised[0] * IMAGENET_STD[0] + IMAGENET_MEAN[0] > 0.45).nonzero().T
    return torch.stack([columns.min(), rows.min(), columns.max() + 1, rows.max() + 1])


OFF_CENTRE = torch.tensor([[2, 1, 5, 4]]), (6, 20)
HEADS, TAILS = 0.9, 0.1


@claim(
    "pytorch-notes/detection-flip-boxes-correct",
    finding="Of boxes given by their edges (left, top, right, bottom; a pixel is 1 wide); flipping twice gives them "
    "back. Where right and bottom are the last pixels inside, as some data sets have it, flipped boxes come out one "
    "pixel too far right.",
    controls=[
        override("boxes stay", transform=ListedDetection(lambda boxes, width: boxes)),
        override("left stays left", transform=ListedDetection(each_edge_mirrored)),
    ],
)
@example(case=OFF_CENTRE, coin=HEADS, seed=0, transform=ListedDetection())
@given(case=boxes_and_sizes(), coin=st.sampled_from([HEADS, TAILS]), seed=seeds, transform=st.just(ListedDetection()))
def test_a_flipped_box_encloses_its_flipped_object(case, coin, seed, transform):
    boxes, (height, width) = case
    with seeded(seed), patch("torch.rand", lambda *_: torch.tensor(coin)):
        image, moved = transform(bright_rectangle(boxes[0], (height, width)), boxes)
    assert torch.equal(moved[0], edges_of_what_is_bright(image))
    assert torch.equal(flipped(flipped(boxes, width), width), boxes)
    last_inside = torch.tensor([0, 0, 1, 1])
    assert (flipped(boxes - last_inside, width) - (flipped(boxes, width) - last_inside)).tolist() == [
        [1, 0, 1, 0] for _ in boxes
    ]


@claim(
    "pytorch-notes/detection-accepts-tensor-images",
    verdict=REFUTED,
    finding="Never: flipped, they have no width (AttributeError); not flipped, ToTensor refuses them (TypeError). With "
    "torchvision.transforms.v2, as in fitcore's DetectionTransform, tensors pass as PIL images do.",
    controls=[override("PIL images", given_as=lambda image: image)],
)
@given(
    case=boxes_and_sizes(),
    coin=st.sampled_from([(HEADS, AttributeError, "width"), (TAILS, TypeError, "should be PIL Image or ndarray")]),
    seed=seeds,
    given_as=st.just(pil_to_tensor),
)
def test_tensor_images_are_refused(case, coin, seed, given_as):
    (boxes, size), (toss, error_type, said) = case, coin
    image = bright_rectangle(boxes[0], size)
    with seeded(seed):
        pixels, moved = DetectionTransform()(pil_to_tensor(image), boxes)
        with patch("torch.rand", lambda *_: torch.tensor(toss)):
            error = error_of(ListedDetection(), given_as(image), boxes)
    assert isinstance(error, error_type)
    assert said in str(error)
    assert torch.equal(moved[0], edges_of_what_is_bright(pixels))


class ListedSegmentation:
    """The document's: seeds the generator with a number drawn from it, for the image and again for the mask."""

    transform = transforms.Compose([transforms.RandomHorizontalFlip(p=0.5), transforms.RandomRotation(10)])

    def __call__(self, image, mask):
        seed = int(torch.randint(100_000, ()))
        return self.under(seed, image), self.under(seed, mask)

    def under(self, seed, image):
        torch.manual_seed(seed)
        return self.transform(image)


LISTED = ListedSegmentation()


class Unseeded(ListedSegmentation):
    def under(self, seed, image):
        return self.transform(image)


class Forked(ListedSegmentation):
    def under(self, seed, image):
        with torch.random.fork_rng():
            return super().under(seed, image)


@claim(
    "pytorch-notes/segmentation-same-seed-aligns-mask",
    finding="To the pixel: each draws the same numbers in the same order, whatever is in the image.",
    controls=[override("not seeded", transform=Unseeded())],
    trials=30,
)
def test_the_mask_stays_aligned_with_its_image(trials, evidence, transform=LISTED):
    def pair(seed):
        labels = torch.randint(6, (20, 30), dtype=torch.uint8)
        parts = transform(to_pil_image((50 * labels).expand(3, -1, -1)), to_pil_image(labels))
        return torch.cat([pil_to_tensor(part) for part in parts])

    pairs = trials.map(pair)
    evidence.image("image beside mask", np.concatenate([pairs[0, 0], 50 * pairs[0, 3]], axis=1))
    trials.always((pairs[:, :3] == 50 * pairs[:, 3:]).all((1, 2, 3)))


def calls_until_a_state_returns(transform, most=800):
    """Return how many calls bring the global generator to a state that it has been in, and after how many it was that.

    (most, most) where none of so many does. What is drawn counts, so that nothing is rotated.
    """
    seen, blank = {}, torch.zeros(1, 1, 1)
    spared = {"hflip": leave_as_it_is, "rotate": leave_as_it_is}
    with (
        patch.multiple(transforms.functional, **spared),
        patch("torch.manual_seed", torch.default_generator.manual_seed),
    ):
        for calls in range(most):
            state = torch.get_rng_state().numpy().tobytes()
            if state in seen:
                return calls, seen[state]
            seen[state] = calls
            transform(blank, blank)
    return most, most


@claim(
    "pytorch-notes/segmentation-reseeding-keeps-augmentation-random",
    verdict=REFUTED,
    finding="Each call seeds the generator that the next one draws its seed from, so each seed follows from the one "
    "before. From each of the 100,000 the draws repeat within 783 calls (322 on average), in a cycle of 177 at most, "
    "mostly of 36 (all 100,000 followed once, apart). torchvision.transforms.v2, as in fitcore's "
    "SegmentationTransform, draws once for both, unseeded.",
    controls=[override("not seeded", transform=Unseeded())],
    trials=4,
)
def test_the_draws_soon_run_in_a_cycle(trials, evidence, transform=LISTED):
    until, first = trials.map(lambda _: torch.tensor(calls_until_a_state_returns(transform))).T
    evidence.observe("calls until a state of the generator returns", until)
    evidence.observe("length of the cycle", until - first)
    trials.always(until <= 784, name="after 784 calls at most")
    trials.always(until - first <= 177, name="in a cycle of at most 177")
    pair, repaired = (torch.zeros(1, 1, 1), torch.zeros(1, 1)), SegmentationTransform()
    with seeded(int(trials.seeds[0])):
        assert calls_until_a_state_returns(lambda *_: repaired(*pair)) == (800, 800)


@claim(
    "pytorch-notes/segmentation-clobbers-global-rng",
    finding="Whatever was drawn before, what is drawn next has one of 100,000 courses: that of manual_seed(seed), "
    "after the flip's draw and the angle's.",
    controls=[override("within fork_rng", transform=Forked())],
)
@given(seed=seeds, mask=tensors((4, 4), torch.uint8), transform=st.just(LISTED))
def test_the_call_leaves_the_generator_where_its_seed_leads(seed, mask, transform):
    image = to_pil_image(mask)
    with seeded(seed):
        drawn = int(torch.randint(100_000, ()))
    with seeded(seed):
        transform(image, image)
        after = torch.get_rng_state()
    with seeded(drawn):
        torch.rand(1), torch.empty(1).uniform_()
        assert torch.equal(after, torch.get_rng_state())


BILINEAR = {"interpolation": transforms.InterpolationMode.BILINEAR}


@claim(
    "pytorch-notes/segmentation-rotation-preserves-labels",
    finding="RandomRotation takes the nearest pixel unless told otherwise; fill= sets another label for the corners.",
    controls=[override("bilinear", options=BILINEAR), override("filled with 3", options={"fill": 3})],
)
@example(labels=torch.tensor([[0, 200], [90, 0]], dtype=torch.uint8), angle=5.0, options={})
@given(
    labels=tensors((2, 2), torch.uint8, st.integers(0, 255)),
    angle=st.floats(3, 10) | st.floats(-10, -3),
    options=st.just({}),
)
def test_rotating_a_mask_makes_no_new_label_but_0_in_the_corners(labels, angle, options):
    def labels_rotated(mask):
        rotate = transforms.RandomRotation((angle, angle), **options)
        return pil_to_tensor(rotate(to_pil_image(mask)))[0]

    blocks = labels.repeat_interleave(32, 0).repeat_interleave(32, 1)
    assert set(labels_rotated(blocks).unique().tolist()) <= {0, *labels.unique().tolist()}
    threes = labels_rotated(torch.full((64, 64), 3, dtype=torch.uint8))
    assert threes.unique().tolist() == [0, 3]
    assert not threes[[0, 0, -1, -1], [0, -1, 0, -1]].any()
