"""Section 12.1: the formulas for the size of a map, with and without rounding, and what pooling leaves of 28 pixels."""

import math
from itertools import accumulate

import hypothesis.strategies as st
import pytest
import torch
from hypothesis import example, given
from torch import nn

from fitcore.models import convolution_size
from fitcore.testing import CONDITIONAL, REFUTED, claim, error_of, override, replace

conv2d, max_pool2d = nn.functional.conv2d, nn.functional.max_pool2d


def without_padding(images, weight, bias, stride, padding, *others):
    return conv2d(images, weight, bias, stride, 0, *others)


def dilated(images, weight, bias, stride, padding, *others):
    return conv2d(images, weight, bias, stride, padding, 2)


def undilated(images, weight, bias, stride, padding, *others):
    return conv2d(images, weight, bias, stride, padding)


def rounding_up(images, *window, **options):
    return max_pool2d(images, *window, **options | {"ceil_mode": True})


def rounding_down(images, *window, **options):
    return max_pool2d(images, *window, **options | {"ceil_mode": False})


def one_at_a_time(images, kernel, stride, *window, **options):
    return max_pool2d(images, kernel, 1, *window, **options)


def as_it_is(images, *window, **options):
    return images


def printed(size, kernel, stride, padding=0):
    """The document's formula without rounding; for pooling it leaves out the padding."""
    return (size - kernel + 2 * padding) / stride + 1


def sides(layer, *size):
    """Height and width of what a layer makes of an image, one number if the image is a square."""
    height, width = layer(torch.zeros(1, 1, size[0], size[-1])).shape[2:]
    return (height, width) if len(size) == 2 else height


def convolution(kernel, stride, padding=0, dilation=1):
    return nn.Conv2d(1, 1, kernel, stride, padding, dilation)


def pairs(least, most):
    return st.tuples(st.integers(least, most), st.integers(least, most))


@claim(
    "pytorch-notes/conv-size-formula-with-floor",
    finding="For height and width each on its own. Where the formula gives less than 1, torch refuses.",
    controls=[
        replace("torch.nn.functional.conv2d", without_padding),
        replace("torch.nn.functional.conv2d", dilated),
    ],
)
@example(size=(28, 28), kernel=(3, 3), stride=(2, 2), padding=(1, 1), small=2, more=1)
@given(
    size=pairs(5, 32),
    kernel=pairs(1, 5),
    stride=pairs(1, 4),
    padding=pairs(0, 2),
    small=st.integers(1, 4),
    more=st.integers(1, 3),
)
def test_a_convolution_makes_maps_of_the_size_that_the_formula_says(*, size, kernel, stride, padding, small, more):
    expected = [math.floor(printed(*side)) for side in zip(size, kernel, stride, padding, strict=True)]
    assert list(sides(convolution(kernel, stride, padding), *size)) == expected
    large = small + more
    assert printed(small, large, 1) < 1
    with pytest.raises(RuntimeError, match=rf"\({small} x {small}\)\. Kernel size: \({large} x {large}\)"):
        sides(convolution(large, 1), small)


@st.composite
def windows(draw, padded):
    """A kernel, stride and padding, a size that it fits into exactly, the places it takes there, and a larger size."""
    kernel, stride, places = draw(st.integers(1, 5)), draw(st.integers(2, 5)), draw(st.integers(5, 9))
    padding = draw(st.integers(0, 2)) if padded else 0
    exact = (places - 1) * stride + kernel - 2 * padding
    return (kernel, stride, padding), exact, places, exact + draw(st.integers(1, stride - 1))


@claim(
    "pytorch-notes/conv-size-formula-without-floor",
    verdict=CONDITIONAL,
    finding="Only if the stride divides in - kernel + 2 padding, so always at stride 1. Else the quotient has to be "
    "rounded down: a 3x3 kernel at stride 2 makes 13 of 28, and the formula says 13.5.",
    controls=[replace("torch.nn.functional.conv2d", without_padding)],
)
@example(case=((3, 2, 0), 27, 13, 28), size=28)
@given(case=windows(padded=True), size=st.integers(5, 32))
def test_the_formula_without_rounding_is_right_where_the_stride_divides(case, size):
    (kernel, stride, padding), exact, places, between = case
    layer = convolution(kernel, stride, padding)
    assert sides(layer, exact) == places == printed(exact, kernel, stride, padding)
    assert sides(layer, between) == places < printed(between, kernel, stride, padding) < places + 1
    assert sides(convolution(kernel, 1, 1), size) == printed(size, kernel, 1, 1)


@claim(
    "pytorch-notes/pool-size-formula-without-floor",
    verdict=CONDITIONAL,
    finding="Only if the stride divides in - kernel and there is no padding, which would count twice, as for a "
    "convolution. Else the quotient is rounded down. In its example the document rounds down itself: 9.33 to 9.",
    controls=[
        replace("torch.nn.functional.max_pool2d", rounding_up),
        replace("torch.nn.functional.max_pool2d", one_at_a_time),
    ],
)
@example(case=((3, 3, 0), 27, 9, 28), padding=1)
@given(case=windows(padded=False), padding=st.integers(1, 2))
def test_pooling_rounds_its_formula_down(case, padding):
    (kernel, stride, _), exact, places, between = case
    layer = nn.MaxPool2d(kernel, stride)
    assert sides(layer, exact) == places == printed(exact, kernel, stride)
    assert sides(layer, between) == places < printed(between, kernel, stride) < places + 1
    padded = nn.MaxPool2d(2 * padding, 1, padding)
    assert sides(padded, exact) == printed(exact, 2 * padding, 1) + 2 * padding


def rounded_up(size, kernel, stride, padding):
    """The quotient rounded up, without a last window that would begin beyond the values and the padding before them."""
    places = math.ceil(printed(size, kernel, stride, padding))
    return places - ((places - 1) * stride >= size + padding)


@claim(
    "pytorch-notes/pool-size-formula-without-floor",
    verdict=CONDITIONAL,
    finding="With ceil_mode=True it is rounded up, save for one trap: a last window that would begin in the padding "
    "behind the image, or beyond it, is dropped. MaxPool2d(2, 2, padding=1, ceil_mode=True) makes 3 of 5, not 4.",
    controls=[replace("torch.nn.functional.max_pool2d", rounding_down)],
)
@example(size=5, kernel=2, stride=2, padding=1)
@given(size=st.integers(5, 32), kernel=st.integers(1, 5), stride=st.integers(1, 5), padding=st.integers(0, 2))
def test_rounding_up_drops_a_window_that_would_begin_behind_the_image(size, kernel, stride, padding):
    padding = min(padding, kernel // 2)
    pool = nn.MaxPool2d(kernel, stride, padding, ceil_mode=True)
    assert sides(pool, size) == rounded_up(size, kernel, stride, padding)
    assert sides(nn.MaxPool2d(2, 2, ceil_mode=True), 7) == math.ceil(printed(7, 2, 2)) == 4
    assert sides(nn.MaxPool2d(2, 2, 1, ceil_mode=True), 5) == 3 < math.ceil(printed(5, 2, 2, 1))


@claim(
    "pytorch-notes/conv-formula-covers-dilation",
    verdict=REFUTED,
    finding="With a dilation d the kernel spans d (kernel - 1) + 1 values, and that is what belongs in the formula: a "
    "3x3 kernel with dilation 2 makes 24 of 28, and the formula as printed says 26. Only 1x1 kernels don't notice.",
    controls=[replace("torch.nn.functional.conv2d", undilated)],
)
@example(size=28, kernel=3, stride=1, padding=0, dilation=2)
@given(
    size=st.integers(17, 40),
    kernel=st.integers(2, 5),
    stride=st.integers(1, 4),
    padding=st.integers(0, 2),
    dilation=st.integers(2, 4),
)
def test_a_dilated_kernel_counts_with_all_that_it_spans(size, kernel, stride, padding, dilation):
    dense = sides(convolution(kernel, 1, padding, dilation), size)
    assert printed(size, kernel, 1, padding) - dense == (dilation - 1) * (kernel - 1) > 0
    span = dilation * (kernel - 1) + 1
    maps = sides(convolution(kernel, stride, padding, dilation), size)
    assert maps == math.floor(printed(size, span, stride, padding))
    assert maps == convolution_size(size, kernel, stride=stride, padding=padding, dilation=dilation)
    assert sides(convolution(1, 1, padding, dilation), size) == printed(size, 1, 1, padding)


@claim(
    "pytorch-notes/pool-2-2-halves-28-14-7",
    finding="So every even size; MaxPool2d(2) alone does the same, since the stride is the kernel by default.",
    controls=[replace("torch.nn.functional.max_pool2d", one_at_a_time)],
)
@given(half=st.integers(1, 40))
def test_pooling_by_two_halves_even_sizes(half, evidence):
    pool = nn.MaxPool2d(2, 2)
    measured = list(accumulate(range(2), lambda size, _: sides(pool, size), initial=28))
    assert evidence.figure("sizes", reported=[28, 14, 7], measured=measured, tolerance=0)
    assert sides(pool, 2 * half) == sides(nn.MaxPool2d(2), 2 * half) == half


@claim(
    "pytorch-notes/pool-2-2-halves-every-time",
    verdict=CONDITIONAL,
    finding="As long as the size is even, so twice from 28. An odd size is halved and rounded down: 28, 14, 7, 3, "
    "1, and a single pixel can't be pooled. With ceil_mode=True 7 becomes 4.",
    controls=[
        replace("torch.nn.functional.max_pool2d", rounding_up),
        replace("torch.nn.functional.max_pool2d", one_at_a_time),
    ],
)
@example(times=2, odd=7)
@given(times=st.integers(0, 4), odd=st.integers(0, 6).map(lambda half: 2 * half + 1))
def test_pooling_halves_a_size_as_often_as_two_divides_it(times, odd):
    pool, size = nn.MaxPool2d(2, 2), odd * 2**times
    halved = list(accumulate(range(times), lambda size, _: sides(pool, size), initial=size))
    assert halved == [size / 2**time for time in range(times + 1)]
    assert sides(pool, odd + 2) == odd // 2 + 1 < (odd + 2) / 2
    assert list(accumulate(range(4), lambda size, _: sides(pool, size), initial=28)) == [28, 14, 7, 3, 1]
    assert "Output size is too small" in str(error_of(sides, pool, 1))
    assert sides(nn.MaxPool2d(2, 2, ceil_mode=True), 7) == 4


@claim(
    "pytorch-notes/pool-2-1-reduces-28-to-27",
    finding="One less for every size: at stride 1 a kernel of k takes k - 1 away.",
    controls=[override("stride 2", stride=2)],
)
@example(size=28, kernel=2, stride=1)
@given(size=st.integers(9, 64), kernel=st.integers(1, 9), stride=st.just(1))
def test_pooling_at_stride_one_takes_away_one_less_than_the_kernel(size, kernel, stride):
    assert sides(nn.MaxPool2d(2, stride), 28) == 27
    assert sides(nn.MaxPool2d(2, stride), size) == size - 1
    assert sides(nn.MaxPool2d(kernel, stride), size) == size - (kernel - 1)


@claim(
    "pytorch-notes/pool-3-3-gives-9-from-28",
    "pytorch-notes/pool-3-3-is-exactly-one-third",
    finding="⌊n / 3⌋ for every size from 3 on, since (n - 3) / 3 + 1 is n / 3. An exact third it is only for multiples "
    "of 3: of 28 rows the last is left out. With ceil_mode=True it would be 10.",
    controls=[
        replace("torch.nn.functional.max_pool2d", rounding_up),
        replace("torch.nn.functional.max_pool2d", one_at_a_time),
    ],
)
@example(size=28)
@given(size=st.integers(3, 64))
def test_pooling_by_three_leaves_a_third_rounded_down(size):
    pool = nn.MaxPool2d(3, 3)
    assert sides(pool, 28) == 9 == math.floor(28 / 3)
    assert sides(pool, size) == math.floor(size / 3) == math.floor(printed(size, 3, 3))
    assert sides(nn.MaxPool2d(3, 3, ceil_mode=True), 28) == 10


def settings_of(pool):
    return f"kernel {pool.kernel_size}, stride {pool.stride}, padding {pool.padding}"


@claim(
    "pytorch-notes/maxpool-reduces-the-size",
    verdict=CONDITIONAL,
    finding="So every window of more than one value, without padding. With it the size can stay, as under "
    "MaxPool2d(3, stride=1, padding=1), or grow: MaxPool2d(2, stride=1, padding=1) makes 29 of 28.",
    controls=[replace("torch.nn.functional.max_pool2d", as_it_is)],
)
@example(size=28, kernel=2, stride=2)
@given(size=st.integers(5, 32), kernel=st.integers(2, 5), stride=st.integers(1, 5))
def test_pooling_makes_smaller_unless_it_pads(size, kernel, stride, evidence):
    assert sides(nn.MaxPool2d(kernel, stride), size) < size
    assert sides(nn.MaxPool2d(3, 1, 1), size) == size
    assert sides(nn.MaxPool2d(2, 1, 1), size) == size + 1
    pools = nn.MaxPool2d(2, 2), nn.MaxPool2d(2, 1), nn.MaxPool2d(3, 3), nn.MaxPool2d(3, 1, 1), nn.MaxPool2d(2, 1, 1)
    evidence.table("what becomes of 28x28", [{"pooling": settings_of(pool), "size": sides(pool, 28)} for pool in pools])
