import hypothesis.strategies as st
import pytest
import torch
from hypothesis import example, given
from torch.nn import functional

from fitcore.models import convolution_size, convolve, max_pool
from fitcore.testing.strategies import tensors


def pairs(least, most):
    return st.tuples(st.integers(least, most), st.integers(least, most))


@st.composite
def placements(draw, most_padding=2):
    """Stride, padding and dilation, a kernel, and a size that it fits into, often not to the last value."""
    kernel, stride, dilation = draw(pairs(1, 4)), draw(pairs(1, 3)), draw(pairs(1, 3))
    padding = tuple(draw(st.integers(0, min(side // 2, most_padding))) for side in kernel)
    size = tuple(
        max(1, distance * (side - 1) + 1 - 2 * added) + draw(st.integers(0, 7))
        for side, added, distance in zip(kernel, padding, dilation, strict=True)
    )
    return size, kernel, {"stride": stride, "padding": padding, "dilation": dilation}


def whole_numbers(*shape):
    return tensors(shape, torch.float64)


@given(data=st.data(), case=placements(), n=st.integers(1, 2), channels=st.integers(1, 3), maps=st.integers(1, 3))
def test_convolve_is_conv2d_and_its_gradients(data, case, n, channels, maps):
    size, kernel, options = case
    images = data.draw(whole_numbers(n, channels, *size))
    weight = data.draw(whole_numbers(maps, channels, *kernel))
    bias = data.draw(st.none() | whole_numbers(maps))
    arguments = [argument.requires_grad_() for argument in (images, weight, bias) if argument is not None]
    by_hand, expected = convolve(images, weight, bias, **options), functional.conv2d(images, weight, bias, **options)
    assert torch.equal(by_hand, expected)
    for gradient, true in zip(
        torch.autograd.grad(by_hand.square().sum(), arguments),
        torch.autograd.grad(expected.square().sum(), arguments),
        strict=True,
    ):
        assert torch.equal(gradient, true)


@given(data=st.data(), case=placements(), n=st.integers(1, 2), channels=st.integers(1, 3))
def test_max_pool_is_max_pool2d(data, case, n, channels):
    size, kernel, options = case
    images = data.draw(whole_numbers(n, channels, *size))
    assert torch.equal(max_pool(images, kernel, **options), functional.max_pool2d(images, kernel, **options))


@given(values=st.permutations(range(25)))
def test_the_gradient_of_the_largest_value_goes_where_it_was(values):
    images = torch.tensor(values, dtype=torch.float64).view(1, 1, 5, 5).requires_grad_()
    by_hand, expected = (
        torch.autograd.grad(pool(images, 3, stride=1).square().sum(), images)[0]
        for pool in (max_pool, functional.max_pool2d)
    )
    assert torch.equal(by_hand, expected)


@example(case=((28, 28), (3, 3), {"stride": (1, 1), "padding": (1, 1), "dilation": (1, 1)}))
@given(case=placements())
def test_convolution_size_is_the_size_of_the_maps(case):
    size, kernel, options = case
    sizes = tuple(
        convolution_size(size[i], kernel[i], **{name: pair[i] for name, pair in options.items()}) for i in range(2)
    )
    images = torch.zeros(1, 1, *size)
    assert functional.conv2d(images, torch.zeros(1, 1, *kernel), **options).shape[2:] == sizes
    assert functional.max_pool2d(images, kernel, **options).shape[2:] == sizes


def test_windows_lie_side_by_side_by_default():
    images = torch.arange(16.0).view(1, 1, 4, 4)
    assert max_pool(images, 2).tolist() == [[[[5, 7], [13, 15]]]]
    assert max_pool(images, (1, 4)).tolist() == [[[[3], [7], [11], [15]]]]


@pytest.mark.parametrize("name", ["size", "kernel", "stride", "dilation"])
def test_sizes_must_be_positive(name):
    with pytest.raises(ValueError, match=f"{name} must be at least 1, got 0"):
        convolution_size(**{"size": 5, "kernel": 3, name: 0})


@pytest.mark.parametrize("padding", [-1, (0, -1), (-9, 0)], ids=str)
def test_padding_must_not_be_negative(padding):
    with pytest.raises(ValueError, match="padding must be at least 0, got -"):
        convolve(torch.ones(1, 1, 5, 5), torch.ones(1, 1, 3, 3), padding=padding)


def test_a_kernel_that_does_not_fit_is_refused():
    assert convolution_size(5, 3, dilation=2) == convolution_size(1, 3, padding=1) == 1
    with pytest.raises(ValueError, match="one of 3 that spans 5 with dilation 2 for 2 values, 4 with padding 1"):
        convolution_size(2, 3, padding=1, dilation=2)
    with pytest.raises(ValueError, match="one of 4 that spans 4 with dilation 1 for 3 values, 3 with padding 0"):
        max_pool(torch.ones(1, 1, 8, 3), 4)


@pytest.mark.parametrize(
    ("images", "weight"), [((5, 5), (1, 1, 3, 3)), ((1, 2, 5, 5), (1, 1, 3, 3)), ((1, 1, 5, 5), (3, 3))], ids=str
)
def test_images_and_kernels_must_fit_together(images, weight):
    with pytest.raises(ValueError, match=r"are needed, got \(") as refused:
        convolve(torch.ones(images), torch.ones(weight))
    assert f"{images} and {weight}" in str(refused.value)


def test_there_is_a_bias_for_each_map():
    with pytest.raises(ValueError, match=r"bias must be \(2,\), got \(3,\)"):
        convolve(torch.ones(1, 1, 5, 5), torch.ones(2, 1, 3, 3), torch.ones(3))


def test_padding_of_more_than_half_the_window_is_refused():
    with pytest.raises(ValueError, match=r"padding must be at most half the kernel, got \(1, 2\) and 3"):
        max_pool(torch.ones(1, 1, 5, 5), 3, padding=(1, 2))


@pytest.mark.parametrize("images", [torch.ones(5, 5), torch.ones(1, 1, 5, 5, dtype=torch.int64)], ids=["2d", "int64"])
def test_only_images_of_floating_point_are_pooled(images):
    with pytest.raises(ValueError, match="images must be") as refused:
        max_pool(images, 2)
    assert f"got {tuple(images.shape)} of {images.dtype}" in str(refused.value)
