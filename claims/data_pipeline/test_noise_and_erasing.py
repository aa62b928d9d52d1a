"""Section 6.4.2: the document's own transforms, noise and random erasing.

torchvision has both: `v2.GaussianNoise`, and a `RandomErasing` without what is wrong with the document's.
"""

from dataclasses import dataclass

import hypothesis.strategies as st
import pytest
import torch
from hypothesis import example, given
from PIL import Image
from scipy.stats import binomtest, kstest
from torchvision import transforms
from torchvision.transforms import v2

from fitcore.data.transforms import Cutout
from fitcore.seeding import seeded
from fitcore.testing import CONDITIONAL, REFUTED, claim, error_of, override, replace
from fitcore.testing.strategies import tensors

SIGNIFICANCE = 1e-9
SIDE = 32
seeds = st.integers(0, 2**32 - 1)
photographs = tensors((3, 8, 8), elements=st.floats(0, 1, width=32))


@dataclass(frozen=True)
class AddNoise:
    """The document's: normal noise on a tensor."""

    mean: float = 0.0
    std: float = 0.1

    def __call__(self, image):
        return image + self.mean + self.std * torch.randn_like(image)


@dataclass(frozen=True)
class RandomErasing:
    """The document's: a rectangle of random area and shape is overwritten with uniform noise, if it fits."""

    probability: float = 0.5
    sl: float = 0.02
    sh: float = 0.4
    r1: float = 0.3

    def __call__(self, image):
        if torch.rand(()) > self.probability:
            return image
        _, height, width = image.shape
        area = height * width * uniform(self.sl, self.sh)
        ratio = uniform(self.r1, 1 / self.r1)
        rows, columns = round((area * ratio) ** 0.5), round((area / ratio) ** 0.5)
        if rows < height and columns < width:
            top, left = (int(torch.randint(room, ())) for room in (height - rows, width - columns))
            image[:, top : top + rows, left : left + columns] = torch.rand(3, rows, columns)
        return image


def scattered(image):
    """Overwrite pixels here and there."""
    return torch.where(torch.rand(image.shape[1:]) < 0.2, torch.rand_like(image), image)


def uniform(low, high):
    return torch.empty(()).uniform_(low, high).item()


PRINTED = RandomErasing(probability=1.0)
TORCHVISIONS = transforms.RandomErasing(p=1.0, scale=(0.02, 0.4), ratio=(0.3, 1 / 0.3), value="random")
CUTOUT = Cutout(16)


@dataclass(frozen=True)
class Patches:
    """Where images of one size were erased, an entry or row for each that was.

    Attributes:
        sizes: (n, 2) rows and columns of the rectangles.
        coverage: (height, width) how often each pixel was erased.
        spread: (n,) standard deviation of what was filled in.
        calls: how many images there were.
    """

    sizes: torch.Tensor
    coverage: torch.Tensor
    spread: torch.Tensor
    calls: int


def patches(erase, height=SIDE, width=SIDE, calls=4000):
    """Erase images of -9, a value that no filling has."""
    erased = torch.stack([erase(torch.full((3, height, width), -9.0))[0] for _ in range(calls)])
    where = erased != -9
    changed = where.any((1, 2))
    sizes = torch.stack([where.any(2).sum(1), where.any(1).sum(1)], dim=1)[changed]
    fillings = [image[there] for image, there in zip(erased[changed], where[changed], strict=True)]
    spread = torch.stack([filling.std(correction=0) for filling in fillings])
    return Patches(sizes, where.sum(0), spread, calls)


uniform_noise = replace("torch.randn_like", torch.rand_like, "uniform noise")


@claim(
    "pytorch-notes/addnoise-statistics",
    finding="Normally distributed, by the Kolmogorov-Smirnov test on 60,000 pixels.",
    controls=[uniform_noise, override("the default deviation", std=0.1)],
    trials=20,
)
def test_the_noise_is_normal_with_mean_0_and_deviation_0_05(trials, evidence, std=0.05):
    noise = trials.map(lambda _: AddNoise(std=std)(torch.full((3, SIDE, SIDE), 0.5)) - 0.5).reshape(20, -1)
    evidence.observe("mean of an image's noise", noise.mean(1), limit=0)
    evidence.observe("its standard deviation", noise.std(1), limit=0.05)
    assert abs(noise.mean()) < 6 * 0.05 / noise.size**0.5
    assert abs(noise.std() - 0.05) < 6 * 0.05 / (2 * noise.size) ** 0.5
    assert kstest(noise.ravel() / 0.05, "norm").pvalue > SIGNIFICANCE


@claim(
    "pytorch-notes/addnoise-keeps-unit-range",
    verdict=REFUTED,
    finding="Half of the pixels of a white image go beyond 1, by up to 0.2: nothing is clipped. GaussianNoise of "
    "torchvision.transforms.v2 adds the same noise and clips.",
    controls=[override("clipped", add_noise=v2.GaussianNoise(sigma=0.05, clip=True))],
    trials=20,
)
def test_noise_on_white_goes_beyond_1(trials, evidence, add_noise=AddNoise(std=0.05)):
    white = torch.ones(3, SIDE, SIDE)
    beyond = trials.map(lambda _: (add_noise(white) > 1).float().mean())
    evidence.observe("share of a white image's pixels beyond 1", beyond, limit=0.5)
    trials.always(abs(beyond - 0.5) < 0.1, name="half of them")
    clipped = trials.map(lambda _: v2.GaussianNoise(sigma=0.05)(white))
    assert clipped.max() == 1
    assert abs((clipped < 1).mean() - 0.5) < 0.1


@claim(
    "pytorch-notes/randomerasing-is-cutout",
    verdict=CONDITIONAL,
    finding="If any hidden rectangle is called Cutout, as it often is: both hide one. As published Cutout sets a "
    "square of fixed side to a constant, part of it beyond the border at times; the listed class fills a rectangle of "
    "random area and shape, square in 3 % of calls and always inside, with uniform noise: Random Erasing (Zhong et "
    "al., 2017).",
    controls=[override("Cutout", erase=CUTOUT), override("pixels here and there", erase=scattered)],
)
def test_the_class_erases_rectangles_and_cutout_squares(shared, evidence, erase=PRINTED):
    erased, cut = shared(patches, erase), shared(patches, CUTOUT)
    with seeded(int(shared.seeds(1)[0])):
        pair = [eraser(torch.full((3, SIDE, SIDE), 0.5)).clamp(0, 1) for eraser in (erase, CUTOUT)]
    evidence.image("erased at random, and by Cutout", torch.cat(pair, dim=2).permute(1, 2, 0))
    for hidden in (erased, cut):
        assert hidden.coverage.sum() == hidden.sizes.prod(1).sum()  # nothing but rectangles
    assert (erased.sizes[:, 0] == erased.sizes[:, 1]).float().mean() < 0.1
    assert len(erased.sizes.unique(dim=0)) > 100
    assert erased.spread.min() > 0.01
    assert cut.sizes.amax(0).tolist() == [16, 16]
    assert cut.spread.max() == 0


@claim(
    "pytorch-notes/randomerasing-area-range",
    verdict=CONDITIONAL,
    finding="The area that is drawn is; but rows and columns are rounded, so that on 32x32 the rectangle can cover "
    "from 1.56 % to 41.5 %, and 7 rectangles of 1,000 are outside of the range.",
    controls=[
        override("10 % to 30 %", erase=RandomErasing(1.0, sl=0.1, sh=0.3)),
        override("2 % to 60 %", erase=RandomErasing(1.0, sh=0.6)),
    ],
)
def test_the_area_is_in_range_up_to_the_rounding_of_the_sides(shared, evidence, erase=PRINTED):
    sizes = shared(patches, erase).sizes
    area = 100 * sizes.prod(1) / SIDE**2
    smallest, largest = ((sizes + half).prod(1) / SIDE**2 for half in (-0.5, 0.5))
    evidence.observe("area", area, unit="%")
    assert ((smallest <= 0.4) & (largest >= 0.02)).all()
    assert ((area < 2) | (area > 40)).any()
    assert 1.56 < area.min() < area.max() < 41.6


@claim(
    "pytorch-notes/randomerasing-probability",
    verdict=REFUTED,
    finding="A rectangle as long as the image or longer is given up: 5 % of them on 32x32 and 59 % on 32x128, which "
    "makes 0.284 and 0.12 of 0.3. torchvision's draws again, up to ten times, and keeps 0.30.",
    controls=[override("torchvision's", erase=TORCHVISIONS)],
)
@pytest.mark.parametrize(("width", "fit"), [(32, 0.947), (128, 0.412)])
def test_rectangles_that_do_not_fit_are_not_erased(shared, evidence, width, fit, erase=PRINTED):
    erased = shared(patches, erase, SIDE, width, calls=1000)
    evidence.observe("rectangles that fit, of 1,000", len(erased.sizes), limit=1000 * fit)
    assert binomtest(len(erased.sizes), erased.calls, fit).pvalue > SIGNIFICANCE
    with_probability = transforms.RandomErasing(0.3, (0.02, 0.4), (0.3, 1 / 0.3), value="random")
    kept = shared(patches, with_probability, SIDE, width, calls=1000)
    assert binomtest(len(kept.sizes), kept.calls, 0.3).pvalue > SIGNIFICANCE


@claim(
    "pytorch-notes/randomerasing-covers-all-pixels",
    verdict=REFUTED,
    finding="The last row and the last column are never erased, as the upper limit of torch.randint is excluded: it "
    "has to be height - rows + 1. All other pixels are; with torchvision's every one is.",
    controls=[override("torchvision's", erase=TORCHVISIONS)],
)
def test_the_last_row_and_column_are_never_erased(shared, evidence, erase=PRINTED):
    coverage, torchvisions = (shared(patches, eraser).coverage for eraser in (erase, TORCHVISIONS))
    evidence.image("how often a pixel is erased (white: most)", coverage / coverage.max())
    assert coverage[-1].sum() == coverage[:, -1].sum() == 0
    assert (coverage[:-1, :-1] > 0).all()
    assert (torchvisions > 0).all()


@claim(
    "pytorch-notes/randomerasing-aspect-symmetric",
    verdict=REFUTED,
    finding="Of the rectangles that fit 75 % are taller than wide, and 22 % wider than tall: the ratio is uniform "
    "between 0.3 and 3.33, so above 1 in 77 % of draws. torchvision draws its logarithm, and has as many of either.",
    controls=[override("torchvision's", erase=TORCHVISIONS)],
)
def test_three_of_four_rectangles_are_taller_than_wide(shared, evidence, erase=PRINTED):
    def tall_and_wide(eraser):
        rows, columns = shared(patches, eraser).sizes.T
        return int((rows > columns).sum()), int((rows < columns).sum())

    rows = {"the document's": tall_and_wide(erase), "torchvision's": tall_and_wide(TORCHVISIONS)}
    evidence.table("of 4,000", [{"class": name, "tall": tall, "wide": wide} for name, (tall, wide) in rows.items()])
    tall, wide = rows["the document's"]
    assert tall > 2 * wide
    tall, wide = rows["torchvision's"]
    assert binomtest(tall, tall + wide, 0.5).pvalue > SIGNIFICANCE


A_SQUARE = RandomErasing(1.0, sl=0.1, sh=0.1, r1=1.0)  # which always fits


@claim(
    "pytorch-notes/randomerasing-mutates-input",
    verdict=REFUTED,
    finding="It writes into its input and returns that. In the document's own pipeline nothing is lost, since AddNoise "
    "before it has made a new tensor. torchvision's copies, unless inplace=True.",
    controls=[override("torchvision's", erase=TORCHVISIONS)],
)
@given(image=photographs, seed=seeds, erase=st.just(A_SQUARE))
def test_it_writes_into_its_input(image, seed, erase):
    before = image.clone()
    with seeded(seed):
        assert not torch.equal(TORCHVISIONS(image), before)
        assert torch.equal(image, before)
        assert erase(image) is image
    assert not torch.equal(image, before)


@claim(
    "pytorch-notes/randomerasing-channel-count",
    verdict=REFUTED,
    finding="It fills in three channels, whatever the image has: RuntimeError with any other number, as soon as a "
    "rectangle fits. torchvision's takes any number.",
    controls=[override("torchvision's", erase=TORCHVISIONS)],
)
@example(channels=1, seed=0, erase=A_SQUARE)
@example(channels=4, seed=0, erase=A_SQUARE)
@given(channels=st.sampled_from([1, 2, 4, 5]), seed=seeds, erase=st.just(A_SQUARE))
def test_it_needs_three_channels(channels, seed, erase):
    with seeded(seed):
        error = error_of(erase, torch.zeros(channels, SIDE, SIDE))
        assert error_of(erase, torch.zeros(3, SIDE, SIDE)) is None
        assert TORCHVISIONS(torch.zeros(channels, SIDE, SIDE)).any((1, 2)).all()
    assert isinstance(error, RuntimeError)
    assert f"({channels}) must match the existing size (3)" in str(error)


@claim(
    "pytorch-notes/custom-transform-pipeline-runs",
    finding="So in 1,000 calls. Images that are gray or have an alpha channel fail, at RandomErasing or at Normalize.",
    controls=[override("gray images", mode="L"), override("images with alpha", mode="RGBA")],
    trials=20,
)
def test_the_pipeline_runs_on_rgb_images_and_keeps_their_size(trials, mode="RGB"):
    noise, erase = AddNoise(std=0.05), RandomErasing(probability=0.3)
    ends = transforms.ToTensor(), transforms.Normalize((0.5, 0.5, 0.5), (0.5, 0.5, 0.5))
    pipeline = transforms.Compose([transforms.RandomHorizontalFlip(), ends[0], noise, erase, ends[1]])
    images = [Image.new(mode, (SIDE, SIDE), "white")] * 25

    def run(seed):
        error = error_of(lambda: [pipeline(image) for image in images])
        return error is None and {pipeline(image).shape for image in images} == {(3, SIDE, SIDE)}

    trials.always(trials.map(run))
