"""Sections 6.2.2 and 6.4.1: what the random transforms draw, and how often.

Each decision is a test (exact, chi-squared or Kolmogorov-Smirnov) of all draws against the stated law, which a true law
fails once in 1e9 runs.
"""

from unittest.mock import patch

import numpy as np
import torch
from PIL import Image
from scipy.stats import binomtest, chisquare, kstest
from torchvision import transforms
from torchvision.transforms.functional import pad, to_pil_image

from fitcore.data import cifar10
from fitcore.testing import claim, override, replace

SIGNIFICANCE = 1e-9
RED, GREEN = (255, 0, 0), (0, 255, 0)


def leave_as_it_is(image, *_):
    return image


def never(transform, image):
    return image


def always(transform, image):
    return transforms.functional.hflip(image)


def example_image(side=256):
    """The document's image, its green square nearer to the upper left corner; or the same with fewer pixels."""
    image = Image.new("RGB", (side, side), RED)
    image.paste(GREEN, (50 * side // 256,) * 2 + (200 * side // 256,) * 2)
    return image


def without_the_last_position(image, output_size):
    """As RandomCrop draws, were its upper limit left out."""
    height, width = transforms.functional.get_dimensions(image)[1:]
    rows, columns = output_size
    return (*(int(torch.randint(room, ())) for room in (height - rows, width - columns)), rows, columns)


@claim(
    "pytorch-notes/randomcrop32-padding4-81-positions",
    finding="Nine offsets in each direction, all 81 equally often (3,240 crops); the image itself is one of them.",
    controls=[
        override("padded by 3", padding=3),
        replace("torchvision.transforms.RandomCrop.get_params", staticmethod(without_the_last_position)),
    ],
    trials=20,
)
def test_a_crop_takes_each_of_81_positions_equally_often(trials, evidence, padding=4):
    numbers = torch.arange(32 * 32, dtype=torch.int32).reshape(1, 32, 32)
    crop = transforms.RandomCrop(32, padding=padding)
    centre = int(numbers[0, 16, 16])
    # The offset shows in the pixel that comes to the centre, which is never one of the padding.
    drawn = trials.map(lambda _: torch.stack([crop(numbers)[0, 16, 16] for _ in range(162)])) - centre
    rows, columns = np.divmod(drawn.ravel() + 16 * 33, 32)
    counts = np.histogram2d(rows, columns, bins=[np.arange(12, 22), np.arange(12, 22)])[0]
    evidence.image("how often each offset was drawn (white: most)", counts / counts.max())
    evidence.observe("unshifted crops, of 3,240", counts[4, 4], limit=3240 / 81)
    assert counts.sum() == drawn.size
    assert chisquare(counts.ravel()).pvalue > SIGNIFICANCE


@claim(
    "pytorch-notes/randomcrop32-padding4-81-positions",
    finding="A crop is a window of the photograph with four black pixels around it.",
    controls=[override("padded by reflection", padding_mode="reflect")],
    trials=20,
)
def test_a_crop_is_a_window_of_the_padded_photograph(trials, padding_mode="constant"):
    photograph = cifar10().images[0]
    windows = pad(photograph, 4).unfold(1, 32, 1).unfold(2, 32, 1)  # (3, 9, 9, 32, 32)
    crop = transforms.RandomCrop(32, padding=4, padding_mode=padding_mode)
    found = trials.map(lambda _: (windows == crop(photograph)[:, None, None]).all((0, -2, -1)).any())
    trials.always(found)


@claim(
    "pytorch-notes/horizontal-flip-default-half",
    finding="2,000 calls on a photograph: half of them return it mirrored, the others as it is.",
    controls=[
        override("p = 0.3", flip=transforms.RandomHorizontalFlip(0.3)),
        replace("torchvision.transforms.RandomHorizontalFlip.forward", always),
    ],
    trials=20,
)
def test_half_of_the_calls_mirror_the_image(trials, evidence, flip=transforms.RandomHorizontalFlip()):  # noqa: B008
    photograph = to_pil_image(cifar10().images[0])
    mirrored = photograph.transpose(Image.Transpose.FLIP_LEFT_RIGHT)
    results = trials.map(
        lambda _: torch.tensor([(r == photograph, r == mirrored) for r in map(flip, [photograph] * 100)])
    )
    evidence.observe("mirrored, of 100 calls", results[..., 1].sum(1), limit=50)
    assert (results.sum(2) == 1).all()
    assert binomtest(results[..., 1].sum(), results[..., 1].size, 0.5).pvalue > SIGNIFICANCE


@claim(
    "pytorch-notes/two-flips-four-states",
    finding="The square is at each of four places in a quarter of 1,600 calls.",
    controls=[
        replace("torchvision.transforms.RandomVerticalFlip.forward", never),
        replace("torchvision.transforms.RandomVerticalFlip.forward", always),
    ],
    trials=20,
)
def test_two_flips_leave_the_square_at_four_places_equally_often(trials, evidence):
    image = example_image()
    flips = transforms.Compose([transforms.RandomHorizontalFlip(p=0.5), transforms.RandomVerticalFlip(p=0.5)])
    # The square spans pixels 50 to 199, and 56 to 205 once flipped.
    places = trials.map(lambda _: torch.tensor([place_of_the_square(flips(image)) for _ in range(80)]))
    counts = np.bincount(places.ravel(), minlength=4)
    named = zip(("as it was", "flipped left to right", "upside down", "both"), counts, strict=True)
    evidence.table("places", [{"the square is": place, "of 1,600 calls": int(count)} for place, count in named])
    assert chisquare(counts).pvalue > SIGNIFICANCE


def place_of_the_square(image):
    """Return 0 to 3: whether it is flipped left to right, and twice whether it is upside down."""
    return int(image.getpixel((52, 128)) == RED) + 2 * int(image.getpixel((128, 52)) == RED)


def values_handed_on(transform, image, functions, calls):
    """What each call hands, beside the image, to functions of torchvision.transforms.functional, (calls, functions)."""
    handed = {name: [] for name in functions}

    def spy(name):
        return lambda image, value, *_, **__: handed[name].append(value) or image

    with patch.multiple(transforms.functional, **{name: spy(name) for name in functions}):
        for _ in range(calls):
            transform(image)
    return torch.tensor(list(handed.values())).T


draw_factors = transforms.ColorJitter.get_params


def from_half_of_each_range(*ranges):
    return draw_factors(*((low, (low + high) / 2) for low, high in ranges))


RANGES = {"brightness": (0.5, 1.5), "contrast": (0.5, 1.5), "saturation": (0.5, 1.5), "hue": (-0.1, 0.1)}


@claim(
    "pytorch-notes/colorjitter-ranges",
    finding="Uniformly, each by itself, in 1,000 calls.",
    controls=[
        replace("torchvision.transforms.ColorJitter.get_params", staticmethod(from_half_of_each_range), "half of each"),
        override("hue one way only", hue=(0.0, 0.1)),
    ],
    trials=10,
)
def test_jitter_draws_its_factors_uniformly(trials, evidence, hue=0.1):
    jitter, image = transforms.ColorJitter(brightness=0.5, contrast=0.5, saturation=0.5, hue=hue), example_image(8)
    functions = [f"adjust_{name}" for name in RANGES]
    drawn = np.concatenate(trials.map(lambda _: values_handed_on(jitter, image, functions, calls=100))).T
    evidence.compare("factors", dict(zip(RANGES, drawn, strict=True)))
    assert {name: getattr(jitter, name) for name in RANGES} == RANGES
    low, high = np.array(list(RANGES.values())).T[..., None]
    assert ((low <= drawn) & (drawn <= high)).all()
    assert kstest((drawn - low) / (high - low), "uniform", axis=1).pvalue.min() > SIGNIFICANCE
    assert abs(np.corrcoef(drawn) - np.eye(4)).max() < 0.2


@claim(
    "pytorch-notes/rotation45-range",
    finding="Uniformly, in 2,000 calls.",
    controls=[override("one way only", degrees=(0, 45)), override("up to 30 degrees", degrees=30)],
    trials=20,
)
def test_angles_are_uniform_between_minus_45_and_45(trials, evidence, degrees=45):
    rotation, image = transforms.RandomRotation(degrees), example_image(8)
    angles = trials.map(lambda _: values_handed_on(rotation, image, ["rotate"], calls=100)).ravel()
    evidence.observe("angles", angles, unit="degrees")
    assert -45 <= angles.min() <= angles.max() <= 45
    assert kstest(angles, "uniform", args=(-45, 90)).pvalue > SIGNIFICANCE


@claim(
    "pytorch-notes/perspective-p-half",
    finding="Half of 1,000 calls. A distortion that happens to move no corner is too rare to count.",
    controls=[override("p = 0.3", p=0.3), replace("torchvision.transforms.functional.perspective", leave_as_it_is)],
    trials=20,
)
def test_half_of_the_calls_leave_the_image_as_it_is(trials, evidence, p=0.5):
    image, perspective = example_image(32), transforms.RandomPerspective(distortion_scale=0.5, p=p)
    unchanged = trials.map(lambda _: torch.tensor([perspective(image) == image for _ in range(50)]))
    evidence.observe("left as they are, of 50 calls", unchanged.sum(1), limit=25)
    assert binomtest(unchanged.sum(), unchanged.size, 0.5).pvalue > SIGNIFICANCE
