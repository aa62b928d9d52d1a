"""Section 6.2.2: the constants that CIFAR-10 is normalised with, and what they make of the images.

Two sets of standard deviations are in circulation. On all 50,000 training images (0.2470, 0.2435, 0.2616) is that of
all pixels, and (0.2023, 0.1994, 0.2010) the mean of the images' own.
"""

import numpy as np
import pytest
import torch
from torchvision import transforms
from torchvision.transforms.functional import to_pil_image

from fitcore.data import cifar10
from fitcore.testing import REFUTED, claim, override

MEAN = (0.4914, 0.4822, 0.4465)
OF_IMAGES = (0.2023, 0.1994, 0.2010)
OF_PIXELS = (0.2470, 0.2435, 0.2616)
MEAN_COLOUR = (125, 123, 114)


def all_pixels(images):
    """Standard deviation of each channel over all pixels of all images, (3,)."""
    return images.std((0, 2, 3))


def image_by_image(images):
    """Mean over the images of the standard deviation of each channel of an image, (3,)."""
    return images.std((2, 3)).mean(0)


@pytest.fixture(scope="session")
def photographs(data_root):
    return cifar10(data_root)


@pytest.fixture(scope="session")
def tolerance(photographs):
    """What the constants are reproduced to: on all images to the digit, on some to five standard errors."""
    means = photographs.scaled.mean((2, 3))
    sample = (5 * means.std(0) / len(photographs) ** 0.5).max().item()
    return 5e-5 if len(photographs) == 50_000 else sample


@claim(
    "pytorch-notes/cifar10-mean-constants",
    finding="To all four digits on the 50,000 images (0.49140, 0.48216, 0.44653), and within sampling error on the "
    "2,400 embedded ones.",
    controls=[override("blue, green, red", channels=(2, 1, 0))],
)
def test_the_means_are_those_of_the_training_images(photographs, tolerance, evidence, channels=(0, 1, 2)):
    means = photographs.scaled[:, list(channels)].mean((0, 2, 3))
    assert evidence.figure(f"means, {photographs.source}", reported=MEAN, measured=means, tolerance=tolerance)


@claim(
    "pytorch-notes/cifar10-std-0.2023-is-the-dataset-std",
    verdict=REFUTED,
    finding="Over all pixels of the 50,000 images the standard deviations are 0.2470, 0.2435 and 0.2616. The printed "
    "ones are the mean of each image's own (0.20230, 0.19941, 0.20096): they leave out that images differ in mean. On "
    "the 2,400 embedded images both come out so within sampling error.",
    controls=[override("image by image", deviation=image_by_image)],
)
def test_the_constants_are_the_mean_deviation_within_an_image(photographs, tolerance, evidence, deviation=all_pixels):
    images = photographs.scaled
    source, over_pixels = photographs.source, deviation(images)
    assert not evidence.figure(f"over all pixels, {source}", reported=OF_IMAGES, measured=over_pixels, tolerance=0.02)
    within = image_by_image(images)
    assert evidence.figure("mean of the images' own", reported=OF_IMAGES, measured=within, tolerance=tolerance)
    torch.testing.assert_close(over_pixels, torch.tensor(OF_PIXELS), atol=tolerance, rtol=0)


@claim(
    "pytorch-notes/normalise-0.2023-gives-unit-std",
    verdict=REFUTED,
    finding="The channels come out with standard deviations 1.22, 1.22 and 1.30. An image on its own has 1 on average. "
    "0.2470, 0.2435 and 0.2616 give 1.",
    controls=[override("the deviations of all pixels", std=OF_PIXELS)],
)
def test_the_constants_leave_a_deviation_of_1_2_to_1_3(photographs, evidence, std=OF_IMAGES):
    images = photographs[:10_000].scaled
    printed, right = (transforms.Normalize(MEAN, constants)(images) for constants in (std, OF_PIXELS))
    evidence.table(
        f"standard deviation after normalising, {photographs.source}",
        [
            {"divided by": name, "red": red, "green": green, "blue": blue}
            for name, (red, green, blue) in {
                str(std): all_pixels(printed).numpy(),
                f"{std}, image by image": image_by_image(printed).numpy(),
                str(OF_PIXELS): all_pixels(right).numpy(),
            }.items()
        ],
    )
    assert (all_pixels(printed) > 1.15).all()
    torch.testing.assert_close(image_by_image(printed), torch.ones(3), atol=0.04, rtol=0)
    torch.testing.assert_close(all_pixels(right), torch.ones(3), atol=0.04, rtol=0)


def cropped_and_flipped(padding, fill):
    """The training transform of section 6.2.2."""
    return [transforms.RandomCrop(32, padding=padding, fill=fill), transforms.RandomHorizontalFlip()]


def also_turned_and_jittered(padding, fill):
    """The training transform of section 6.6.1."""
    rotation = transforms.RandomRotation(15 if padding else 0, fill=fill)
    return [*cropped_and_flipped(padding, fill), rotation, transforms.ColorJitter(brightness=0.2, contrast=0.2)]


@claim(
    "pytorch-notes/augmented-train-stats-not-standardised",
    verdict=REFUTED,
    finding="The black borders that the crop (and the rotation) bring in pull the mean of a batch down to about -0.34, "
    "from about 0 for the same images as they are, and raise its deviation by 0.11 to 0.16. Filled with the mean "
    "colour, (125, 123, 114), it stays near 0.",
    controls=[override("no borders", padding=0)],
    trials=25,
)
@pytest.mark.parametrize(
    ("augmentation", "std"),
    [(cropped_and_flipped, OF_IMAGES), (also_turned_and_jittered, (0.247, 0.243, 0.261))],
    ids=["6.2.2", "6.6.1"],
)
def test_black_borders_shift_the_mean(*, photographs, augmentation, std, trials, evidence, padding=4):
    normalise = [transforms.ToTensor(), transforms.Normalize(MEAN, std)]
    augmented = [transforms.Compose(augmentation(padding, fill) + normalise) for fill in (0, MEAN_COLOUR)]
    plain = transforms.Compose(normalise)

    def means_and_deviations(seed):
        batch = [to_pil_image(image) for image in photographs.images[torch.randperm(len(photographs))[:20]]]
        batches = (torch.stack([of(image) for image in batch]) for of in (plain, *augmented))
        return torch.tensor([[batch.mean(), batch.std()] for batch in batches])

    (clean, black, filled), (clean_deviation, black_deviation, _) = trials.map(means_and_deviations).T
    evidence.compare("mean of a batch of 20", {"clean": clean, "black borders": black, "filled": filled})
    evidence.compare("its standard deviation", {"clean": clean_deviation, "black borders": black_deviation})
    assert np.mean(black - clean) < -0.2
    assert np.mean(black_deviation - clean_deviation) > 0.03
    assert abs(np.mean(filled - clean)) < 0.15
