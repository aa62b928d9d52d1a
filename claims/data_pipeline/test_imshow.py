"""Section 6.6.1: the listing that shows a batch of normalised images."""

import hypothesis.strategies as st
import numpy as np
import torch
from hypothesis import given, settings
from matplotlib.figure import Figure
from torch.utils.data import DataLoader
from torchvision.transforms.functional import normalize

from fitcore.testing import REFUTED, claim, error_of, override
from fitcore.testing.strategies import tensors

MEAN, STD = (0.4914, 0.4822, 0.4465), (0.247, 0.243, 0.261)


def of_channels(values):
    """(3, 1, 1), which broadcasts over images of three channels."""
    return torch.tensor(values)[:, None, None]


def both_true(mean, std):
    return mean and std


def both_given(mean, std):
    return mean is not None and std is not None


def imshow(axes, image, mean=None, std=None, condition=both_true):
    """The listing's function, and the condition under which it denormalises."""
    if condition(mean, std):
        image = image * std + mean
    return axes.imshow(np.transpose(image.clamp(0, 1).numpy(), (1, 2, 0)))


def unconverted(values):
    return values


@claim(
    "pytorch-notes/imshow-denormalises",
    verdict=REFUTED,
    finding="TypeError at the first image: a tensor can't be multiplied by a tuple. With mean and std made tensors of "
    "shape (3, 1, 1) inside the function, it shows 32 images as they were before they were normalised.",
    controls=[override("tensors of shape (3, 1, 1)", constants=of_channels, condition=both_given)],
)
def test_the_listing_cant_multiply_a_tensor_by_a_tuple(
    torchvision_dataset, printed, evidence, constants=unconverted, condition=both_true
):
    images, _ = next(iter(DataLoader(torchvision_dataset("CIFAR10", printed.training), batch_size=32)))
    panels = Figure(figsize=(12, 6)).subplots(4, 8).ravel()
    error = error_of(imshow, panels[0], images[0], constants(MEAN), constants(STD), condition)
    assert isinstance(error, TypeError)
    assert "tensor" in str(error).lower()
    repaired = of_channels(MEAN), of_channels(STD), both_given
    shown = [imshow(axes, image, *repaired).get_array() for axes, image in zip(panels, images, strict=True)]
    evidence.image("the first eight images, as the repaired listing shows them", np.concatenate(shown[:8], 1))
    for picture, image in zip(shown, images, strict=True):
        restored = image.double() * of_channels(STD) + of_channels(MEAN)
        np.testing.assert_allclose(picture, restored.permute(1, 2, 0), atol=1e-6)


@claim(
    "pytorch-notes/imshow-repair-by-passing-tensors",
    verdict=REFUTED,
    finding="RuntimeError: `if mean and std` asks for the truth of tensors with three elements. The condition has to "
    "ask whether they are None; then passing tensors is enough, and images come back as they were.",
    controls=[override("asks for None", condition=both_given)],
)
@given(
    image=tensors(st.tuples(st.just(3), st.integers(1, 6), st.integers(1, 6)), elements=st.floats(0, 1, width=32)),
    condition=st.just(both_true),
)
@settings(max_examples=10)
def test_tensors_of_several_elements_have_no_truth_value(image, condition):
    axes, constants = Figure().subplots(), (of_channels(MEAN), of_channels(STD))
    normalised = normalize(image, MEAN, STD)
    error = error_of(imshow, axes, normalised, *constants, condition)
    assert isinstance(error, RuntimeError)
    assert "Boolean value of Tensor with more than one value is ambiguous" in str(error)
    restored = imshow(axes, normalised, *constants, both_given).get_array()
    np.testing.assert_allclose(restored, image.permute(1, 2, 0), atol=1e-6)
