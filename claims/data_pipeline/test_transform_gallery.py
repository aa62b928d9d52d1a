"""Sections 6.2.2 and 6.4.1: what the transforms of the gallery make of an image, whatever is drawn."""

import hypothesis.strategies as st
import numpy as np
import pytest
import torch
from hypothesis import example, given, settings
from PIL import Image
from torch.nn.functional import max_pool2d
from torchvision import transforms
from torchvision.transforms.functional import pil_to_tensor, to_pil_image

from fitcore.testing import CONDITIONAL, REFUTED, claim, error_of, override, replace
from fitcore.testing.strategies import tensors

GREEN = (0, 255, 0)
PHOTOGRAPHS = tensors(st.tuples(st.just(3), st.integers(1, 9), st.integers(1, 9)), torch.uint8, st.integers(0, 255))


def green_square_on_red(first=50, end=200):
    """The document's image: 256x256, green where both coordinates are in [first, end)."""
    image = Image.new("RGB", (256, 256), "red")
    image.paste(GREEN, (first, first, end, end))
    return image


# Titled in English: whether a font has Chinese titles is a question of its own.
STEPS = {
    "as it is": [],
    "resized": [transforms.Resize((128, 128))],
    "random crop": [transforms.RandomCrop(200)],
    "centre crop": [transforms.CenterCrop(100)],
    "flips": [transforms.RandomHorizontalFlip(p=0.5), transforms.RandomVerticalFlip(p=0.5)],
    "colours": [transforms.ColorJitter(brightness=0.5, contrast=0.5, saturation=0.5, hue=0.1)],
    "rotated": [transforms.RandomRotation(45)],
    "perspective": [transforms.RandomPerspective(distortion_scale=0.5, p=0.5)],
    "gray": [transforms.Grayscale(num_output_channels=3)],
    "blurred": [transforms.GaussianBlur(kernel_size=5, sigma=(0.1, 2.0))],
}


def gallery(**changes):
    """Return the document's transforms by name, some of them changed or added."""
    named = {name: transforms.Compose([*steps, transforms.ToTensor()]) for name, steps in (STEPS | changes).items()}
    standardise = transforms.Normalize(mean=[0.5] * 3, std=[0.5] * 3)
    return named | {"standardised": transforms.Compose([transforms.ToTensor(), standardise])}


def shown(pyplot, image, **changes):
    """Draw what the transforms make of the image into a grid of 3x4, and return its cells."""
    figure, axes = pyplot.subplots(3, 4, figsize=(15, 10))
    for cell, (name, transform) in zip(axes.flat, gallery(**changes).items(), strict=False):
        pixels = transform(image).permute(1, 2, 0).numpy()
        cell.imshow(np.clip(pixels * 0.5 + 0.5 if name == "standardised" else pixels, 0, 1))
        cell.set_title(name)
        cell.axis("off")
    figure.tight_layout()
    return axes.ravel()


@claim(
    "pytorch-notes/transforms-gallery-listing-runs",
    controls=[replace("torchvision.transforms.ToTensor", transforms.PILToTensor)],
    trials=1,
)
def test_the_gallery_can_be_shown(pyplot, trials):
    trials.always(trials.map(lambda _: error_of(shown, pyplot, green_square_on_red()) is None))


@claim(
    "pytorch-notes/transforms-grid-count",
    verdict=REFUTED,
    finding="There are eleven transforms: the twelfth cell stays an empty frame, with its axes on.",
    controls=[override("a twelfth", added={"once more": []})],
    trials=1,
)
def test_the_last_of_the_twelve_cells_stays_empty(pyplot, trials, added=None):
    def images_and_axes(seed):
        cells = shown(pyplot, green_square_on_red(), **(added or {}))
        return torch.tensor([(len(cell.images), cell.axison) for cell in cells])

    assert trials.map(images_and_axes).tolist() == [[[1, False]] * 11 + [[0, True]]]


def leave_as_it_is(image, *_, **__):
    return image


@claim(
    "pytorch-notes/transforms-output-shapes",
    controls=[
        replace("torchvision.transforms.functional.center_crop", leave_as_it_is),
        override(
            "room for the rotated corners", changed={"rotated": [transforms.RandomRotation((45, 45), expand=True)]}
        ),
    ],
    trials=2,
)
def test_only_crops_and_resizing_change_the_size(trials, changed=None):
    sizes = dict.fromkeys(gallery(), 256) | {"resized": 128, "random crop": 200, "centre crop": 100}
    image, named = green_square_on_red(), gallery(**(changed or {}))
    shapes = trials.map(lambda _: torch.tensor([named[name](image).shape for name in sizes]))
    trials.always((shapes == [(3, side, side) for side in sizes.values()]).all((1, 2)))


def cropped_from_the_corner(image, size):
    return image.crop((0, 0, *size))


@claim(
    "pytorch-notes/centercrop100-is-all-green",
    finding="So is the centre of any side up to 144; from 145 on it has red in it.",
    controls=[replace("torchvision.transforms.functional.center_crop", cropped_from_the_corner)],
)
@example(side=100)
@example(side=144)
@example(side=145)
@settings(max_examples=10)
@given(side=st.integers(1, 256))
def test_the_centre_is_green_up_to_a_side_of_144(side):
    crop = transforms.CenterCrop(side)(green_square_on_red())
    assert crop.size == (side, side)
    assert ({colour for _, colour in crop.getcolors()} == {GREEN}) == (side <= 144)


@claim("pytorch-notes/example-image-green-fraction", controls=[override("up to pixel 200, included", end=201)])
def test_the_square_covers_34_percent(evidence, end=200):
    green = (pil_to_tensor(green_square_on_red(end=end)) == torch.tensor(GREEN)[:, None, None]).all(0)
    assert green.sum() == 150**2
    share = 100 * green.double().mean()
    assert evidence.figure("green pixels, %", reported=34.33, measured=share, tolerance=0.005)


@claim(
    "pytorch-notes/crop-too-large",
    finding="RandomCrop's error names both sizes, and pad_if_needed=True makes it pad; CenterCrop pads with black.",
    controls=[override("padded", pad_if_needed=True)],
)
@example(size=(256, 256), more=(44, 44), pad_if_needed=False)
@given(
    size=st.tuples(st.integers(1, 9), st.integers(1, 9)),
    more=st.tuples(st.integers(0, 9), st.integers(1, 9)),
    pad_if_needed=st.just(False),
)
def test_a_random_crop_refuses_what_a_centre_crop_pads(size, more, pad_if_needed):
    image, larger = torch.full(size, 7, dtype=torch.uint8), tuple(np.add(size, more))
    error = error_of(transforms.RandomCrop(larger, pad_if_needed=pad_if_needed), to_pil_image(image))
    assert isinstance(error, ValueError)
    assert f"{larger} is larger than input image size {size}" in str(error)
    padded = pil_to_tensor(transforms.CenterCrop(larger)(to_pil_image(image)))[0]
    top, left = more[0] // 2, more[1] // 2
    assert padded.shape == larger
    assert torch.equal(padded[top : top + size[0], left : left + size[1]], image)
    assert padded.sum() == image.sum()


@claim(
    "pytorch-notes/grayscale-three-equal-channels",
    finding="Each channel is 0.299 red + 0.587 green + 0.114 blue: the red of the example becomes 76, the green 150.",
    controls=[replace("torchvision.transforms.functional.rgb_to_grayscale", leave_as_it_is)],
)
@example(pixels=pil_to_tensor(green_square_on_red()))
@given(pixels=PHOTOGRAPHS)
def test_grayscale_makes_three_equal_channels(pixels):
    gray = pil_to_tensor(transforms.Grayscale(num_output_channels=3)(to_pil_image(pixels)))
    assert gray.shape == pixels.shape
    assert (gray == gray[0]).all()
    luminance = (torch.tensor([0.299, 0.587, 0.114])[:, None, None] * pixels).sum(0)
    torch.testing.assert_close(gray[0].float(), luminance, atol=0.51, rtol=0)


@claim(
    "pytorch-notes/gaussian-blur-kernel5-locality",
    finding="A step from 0 to 200 between columns 31 and 32 changes columns 30 to 33. A pixel can change only if "
    "another within 2 of it differs, in any image; even kernel sizes raise ValueError.",
    controls=[override("a kernel of 7", kernel_size=7), override("a kernel of 3", kernel_size=3)],
)
@given(
    pixels=tensors(
        st.tuples(st.just(1), st.integers(3, 12), st.integers(3, 12)), torch.uint8, st.sampled_from([0, 200])
    ),
    kernel_size=st.just(5),
    even=st.integers(1, 10).map(lambda half: 2 * half),
)
def test_blurring_by_5_reaches_two_pixels_from_an_edge(pixels, kernel_size, even):
    blur = transforms.GaussianBlur(kernel_size, sigma=1.5)
    step = (torch.arange(64) >= 32).expand(1, 64, 64).byte() * 200
    assert (blur(step) != step)[0].any(0).nonzero().flatten().tolist() == [30, 31, 32, 33]
    most, least = (max_pool2d(sign * pixels.float(), 5, stride=1, padding=2) for sign in (1, -1))
    assert not ((blur(pixels) != pixels) & (most == -least)).any()
    with pytest.raises(ValueError, match="should be an odd"):
        transforms.GaussianBlur(even)


@claim(
    "pytorch-notes/normalize-half-maps-to-minus1-1",
    finding="It maps [0, 1] onto [-1, 1]. Undone is the scaling to within rounding, of 6e-8.",
    controls=[override("divided by 0.25", std=0.25)],
)
@example(pixels=pil_to_tensor(green_square_on_red()), std=0.5)
@given(pixels=PHOTOGRAPHS, std=st.just(0.5))
def test_times_half_plus_half_undoes_the_standardisation(pixels, std):
    image = transforms.ToTensor()(to_pil_image(pixels))
    standardised = transforms.Normalize([0.5] * 3, [std] * 3)(image)
    torch.testing.assert_close(standardised, 2 * image - 1)
    assert standardised.abs().max() <= 1
    torch.testing.assert_close(standardised * 0.5 + 0.5, image, atol=1e-7, rtol=0)


UNSCALED = {
    "float32 array": np.full((2, 2, 3), 255.0, np.float32),
    "int64 array": np.full((2, 2, 3), 255),
    "PIL mode F": Image.new("F", (2, 2), 255.0),
    "PIL mode I": Image.new("I", (2, 2), 255),
    "PIL mode I;16": Image.new("I;16", (2, 2), 255),
}


@claim(
    "pytorch-notes/totensor-scales-to-unit-interval",
    finding="Bytes are divided by 255.",
    controls=[override("converted without scaling", convert=transforms.PILToTensor())],
)
@given(pixels=PHOTOGRAPHS, convert=st.just(transforms.ToTensor()))
def test_totensor_divides_the_bytes_of_a_photograph_by_255(pixels, convert):
    scaled = convert(to_pil_image(pixels))
    assert scaled.dtype == torch.float32
    assert torch.equal(scaled, pixels / 255)


@claim(
    "pytorch-notes/totensor-scales-every-type",
    verdict=CONDITIONAL,
    finding="uint8 is: arrays, and PIL images of 8 bits a channel. Nothing else is scaled: arrays of other dtypes and "
    "PIL modes I, I;16 and F keep their values, a pixel of 255 among them.",
    controls=[override("converted without scaling", convert=transforms.PILToTensor())],
)
@pytest.mark.parametrize("unscaled", UNSCALED)
@given(
    pixels=PHOTOGRAPHS,
    mode=st.sampled_from(["RGB", "L", "RGBA", "P", "LA", "CMYK", "YCbCr"]),
    convert=st.just(transforms.ToTensor()),
)
def test_totensor_scales_bytes_and_nothing_else(unscaled, pixels, mode, convert):
    image = to_pil_image(pixels).convert(mode)
    scaled = convert(image)
    assert scaled.dtype == torch.float32
    assert torch.equal(scaled, pil_to_tensor(image) / 255)
    assert torch.equal(transforms.ToTensor()(pixels.permute(1, 2, 0).numpy()), pixels / 255)
    assert (transforms.ToTensor()(UNSCALED[unscaled]) == 255).all()
