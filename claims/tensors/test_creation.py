"""Section 1.2, and the nesting of section 1.1: what the functions that make tensors return."""

import math

import hypothesis.strategies as st
import numpy as np
import pytest
import torch
from hypothesis import example, given, settings
from hypothesis.extra.numpy import arrays
from PIL import Image
from scipy.stats import kstest, norm
from torch.nn.functional import conv2d
from torch.testing import assert_close
from torchvision.transforms.functional import pil_to_tensor

from fitcore.testing import REFUTED, claim, override, replace
from fitcore.testing.strategies import COMPLEX, FLOATING, dtypes, shapes, tensors

SAMPLES = 2_000

integers = st.integers(-(2**40), 2**40)
sides = st.integers(1, 8)


def raveled(data):
    return torch.as_tensor(np.ravel(data))


@claim(
    "pytorch-notes/tensor-ndim-by-nesting",
    finding="And so on: lists nested four deep make a tensor of four dimensions.",
    controls=[replace("torch.tensor", raveled)],
)
@given(array=shapes().flatmap(lambda shape: arrays(np.int64, shape, elements=integers)))
def test_a_tensor_has_as_many_dimensions_as_its_lists_are_nested(array):
    tensor = torch.tensor(array.tolist())
    assert tensor.ndim == array.ndim
    assert tensor.shape == array.shape
    assert tensor.tolist() == array.tolist()


def as_pillow_holds_it(image):
    return torch.from_numpy(np.array(image))


@claim(
    "pytorch-notes/rgb-3d-batch-4d",
    finding="The channels stand before the rows and columns: that is how torchvision reads an image and what conv2d "
    "expects. Pillow and NumPy hold them last, (32, 32, 3), and conv2d refuses that.",
    controls=[override("channels last", to_tensor=as_pillow_holds_it), replace("torch.stack", torch.cat)],
)
@settings(max_examples=15)
@example(height=32, width=32, batch=64, to_tensor=pil_to_tensor)
@given(height=st.integers(4, 32), width=st.integers(4, 32), batch=sides, to_tensor=st.just(pil_to_tensor))
def test_an_rgb_image_has_three_dimensions_and_a_batch_of_them_four(height, width, batch, to_tensor):
    image = to_tensor(Image.new("RGB", (width, height), "teal"))
    images = torch.stack([image] * batch).float()
    assert image.shape == (3, height, width)
    assert images.shape == (batch, 3, height, width)
    kernels = torch.ones(8, 3, 3, 3)
    assert_close(conv2d(images, kernels)[-1], conv2d(image.float(), kernels))
    with pytest.raises(RuntimeError, match=f"to have 3 channels, but got {height} channels"):
        conv2d(images.permute(0, 2, 3, 1), kernels)


def all_ones(n):
    return torch.full((n, n), 1.0)


@claim(
    "pytorch-notes/zeros-ones-eye-contents",
    controls=[
        replace("torch.zeros", torch.ones, name="ones for zeros"),
        replace("torch.ones", torch.zeros, name="zeros for ones"),
        replace("torch.eye", all_ones),
    ],
)
@example(rows=2, columns=3, n=4)
@given(rows=sides, columns=sides, n=sides)
def test_zeros_ones_and_eye_are_what_they_are_called(rows, columns, n):
    assert_close(torch.zeros(rows, columns), torch.tensor([[0.0] * columns] * rows), rtol=0, atol=0)
    assert_close(torch.ones(rows, columns), torch.tensor([[1.0] * columns] * rows), rtol=0, atol=0)
    identity = torch.tensor([[float(i == j) for j in range(n)] for i in range(n)])
    assert_close(torch.eye(n), identity, rtol=0, atol=0)


rand = torch.rand


def the_interval_with_one_and_without_zero(*shape, **options):
    return 1 - rand(*shape, **options)


def squared_uniform(*shape, **options):
    return rand(*shape, **options).square()


@claim(
    "pytorch-notes/rand-half-open-unit-interval",
    finding="In half precision every value of the grid comes up, 0 and 1 - 2⁻⁸ or 1 - 2⁻¹¹ among them, and 1 never. "
    "In float32 the grid is finer: a 0 is drawn once in 2²⁴ times.",
    controls=[replace("torch.rand", the_interval_with_one_and_without_zero)],
    trials=20,
)
@pytest.mark.parametrize(("dtype", "bits"), [(torch.bfloat16, 8), (torch.float16, 11)], ids=["bfloat16", "float16"])
def test_rand_draws_zero_and_never_one(trials, dtype, bits):
    def drawn(seed):
        steps = torch.rand(64 * 2**bits, dtype=dtype).double() * 2**bits
        return torch.bincount(steps.long(), minlength=2**bits + 1)

    counts = trials.map(drawn)
    assert counts.shape[1] == 2**bits + 1
    trials.always((counts[:, :-1] > 0).all(1), name="every multiple of the step from 0 on is drawn")
    trials.always(counts[:, -1] == 0, name="1 is not")


@claim(
    "pytorch-notes/rand-half-open-unit-interval",
    finding="All draws are multiples of 2⁻²⁴ in [0, 1), and a Kolmogorov-Smirnov test finds them uniform.",
    controls=[
        replace("torch.rand", squared_uniform),
        replace("torch.rand", torch.randn, name="standard normal"),
    ],
)
def test_rand_is_uniform_in_float32(trials, evidence):
    draws = trials.map(lambda seed: torch.rand(SAMPLES))
    p_values = kstest(draws, "uniform", axis=1, method="asymp").pvalue
    evidence.observe("p-value of uniformity", p_values)
    trials.always(((draws >= 0) & (draws < 1)).all(1), name="in [0, 1)")
    trials.always((draws.astype(np.float64) * 2**24 % 1 == 0).all(1), name="multiples of 2⁻²⁴")
    trials.mostly(p_values > 0.01, at_least=0.5, name="uniform by Kolmogorov and Smirnov")


@claim(
    "pytorch-notes/randn-mean-zero-std-one",
    finding="Of the distribution. The six numbers of randn(2, 3) have a mean that strays from 0 by 0.41 (one standard "
    "deviation); that of a million strays by 0.001.",
    controls=[
        override("uniform", draw=torch.rand),
        override("uniform of standard deviation 1", draw=lambda *shape: math.sqrt(12) * (torch.rand(*shape) - 0.5)),
    ],
)
def test_randn_is_standard_normal(trials, evidence, draw=torch.randn):
    draws = trials.map(lambda seed: draw(SAMPLES)).astype(np.float64)
    means, stds = draws.mean(1), draws.std(1, ddof=1)
    evidence.observe("mean of 2,000 draws", means, limit=6 / math.sqrt(SAMPLES))
    evidence.observe("standard deviation of 2,000 draws", stds)
    trials.always(abs(means) < 6 / math.sqrt(SAMPLES), name="the mean is 0 within six standard errors")
    trials.always(abs(stds - 1) < 6 / math.sqrt(2 * SAMPLES), name="the standard deviation is 1 within six")
    p_values = kstest(draws, "norm", axis=1, method="asymp").pvalue
    trials.mostly(p_values > 0.01, at_least=0.5, name="normal by Kolmogorov and Smirnov")


@claim(
    "pytorch-notes/randn-values-within-plus-minus-one",
    verdict=REFUTED,
    finding="One value in three (31.7 %) lies outside: ±1 is one standard deviation, no bound. Of a million values the "
    "largest are about ±4.9.",
    controls=[override("uniform in (-1, 1)", draw=lambda *shape: 2 * torch.rand(*shape) - 1)],
)
def test_a_third_of_randn_lies_outside_plus_minus_one(trials, evidence, draw=torch.randn):
    outside = trials.map(lambda seed: (draw(SAMPLES).abs() > 1).double().mean())
    expected = 2 * norm.sf(1)
    evidence.observe("share of values outside ±1", outside, limit=expected)
    deviation = math.sqrt(expected * (1 - expected) / SAMPLES)
    trials.always(outside > 0, name="values outside ±1")
    trials.always(abs(outside - expected) < 6 * deviation, name="as many as the normal distribution has")


def with_the_end(start, end, step):
    return torch.tensor(range(start, end + 1, step))


@claim(
    "pytorch-notes/arange-excludes-end-integer",
    finding="The five printed values, as int64; and as Python's range for any start, end and step.",
    controls=[replace("torch.arange", with_the_end)],
)
@example(start=0, length=10, step=2)
@given(start=st.integers(-50, 50), length=st.integers(0, 100), step=st.integers(1, 9))
def test_arange_of_integers_has_the_start_and_not_the_end(start, length, step):
    values = torch.arange(start, start + length, step)
    assert values.tolist() == list(range(start, start + length, step))
    assert values.dtype == torch.int64
    assert start + length not in values


def counted_in_steps(start, end, step):
    """As many values as were meant, from whole numbers."""
    return start + step * whole_numbers(round((end - start) / step))


whole_numbers = torch.arange


@claim(
    "pytorch-notes/arange-excludes-end-float-step",
    verdict=REFUTED,
    finding="arange(1, 1.3, 0.1) has four elements, and the last is 1.3: 0.3/0.1 is 3.0000000000000004 with the 1.3 "
    "that a double can hold. start + step * arange(n) has the three that were meant.",
    controls=[replace("torch.arange", counted_in_steps)],
)
def test_arange_with_a_fractional_step_reaches_its_end():
    assert_close(torch.arange(1, 1.3, 0.1), torch.tensor([1.0, 1.1, 1.2, 1.3]))
    assert_close(counted_in_steps(1, 1.3, 0.1), torch.tensor([1.0, 1.1, 1.2]))


@claim(
    "pytorch-notes/arange-excludes-end-float-step",
    verdict=REFUTED,
    finding="From 1 in up to 59 steps of 0.05, 0.1, 0.2, 0.3 or 0.7 there is one element too many in 53 of 295 ranges: "
    "arange has ⌈(end - start)/step⌉ in double precision, as NumPy's has. Counting in whole steps is never wrong.",
    controls=[replace("torch.arange", counted_in_steps)],
)
def test_arange_has_as_many_elements_as_rounding_makes_of_the_quotient(evidence):
    meant = [(k, (1, 1 + k * step, step)) for step in (0.05, 0.1, 0.2, 0.3, 0.7) for k in range(1, 60)]
    lengths = [len(torch.arange(*limits)) for _, limits in meant]
    surplus = [length - k for length, (k, _) in zip(lengths, meant, strict=True)]
    evidence.observe("elements too many", surplus)
    assert set(surplus) == {0, 1}
    assert lengths == [math.ceil((end - start) / step) for _, (start, end, step) in meant]
    assert lengths == [len(np.arange(*limits)) for _, limits in meant]
    assert all(len(counted_in_steps(*limits)) == k for k, limits in meant)


def without_the_end(start, end, steps):
    return start + (end - start) / steps * torch.arange(steps)


@claim("pytorch-notes/linspace-includes-both-ends", controls=[replace("torch.linspace", without_the_end)])
def test_linspace_gives_the_printed_values(evidence):
    measured, printed = torch.linspace(0, 10, 5), [0, 2.5, 5, 7.5, 10]
    assert evidence.figure("linspace(0, 10, 5)", reported=printed, measured=measured, tolerance=5e-5)
    assert measured.tolist() == printed


ends = st.floats(-1e3, 1e3, width=32)


@claim(
    "pytorch-notes/linspace-includes-both-ends",
    finding="Both ends to the last bit, the values between up to rounding, for any start, end and number of values "
    "from two up.",
    controls=[replace("torch.linspace", without_the_end)],
)
@given(start=ends, end=ends, steps=st.integers(2, 50))
def test_linspace_is_evenly_spaced_from_the_start_to_the_very_end(start, end, steps):
    values = torch.linspace(start, end, steps)
    assert values.shape == (steps,)
    assert [values[0], values[-1]] == [start, end]
    assert_close(values, torch.from_numpy(np.linspace(start, end, steps)).float(), rtol=1e-5, atol=1e-3)


def zeros_of_the_shape(tensor):
    return torch.zeros(tensor.shape)


@claim("pytorch-notes/zeros-like-same-shape-dtype-device", controls=[replace("torch.zeros_like", zeros_of_the_shape)])
@example(tensor=torch.from_numpy(np.array([1, 2, 3, 4])))
@given(tensor=tensors(shapes(min_side=0), dtypes(boolean=True, complex=True)))
def test_zeros_like_has_the_shape_dtype_and_device_of_its_model(tensor):
    zeros, on_meta = torch.zeros_like(tensor), torch.zeros_like(tensor.to("meta"))
    assert (zeros.shape, zeros.dtype, zeros.device) == (tensor.shape, tensor.dtype, tensor.device)
    assert not zeros.any()
    assert on_meta.device.type == "meta"


@claim(
    "pytorch-notes/rand-like-is-standard-normal",
    verdict=REFUTED,
    finding="rand_like is uniform in [0, 1), as rand is, with mean 0.5 and standard deviation 0.289. What is meant is "
    "randn_like.",
    controls=[replace("torch.rand_like", torch.randn_like)],
)
def test_rand_like_is_uniform_and_randn_like_is_normal(trials, evidence):
    model = torch.zeros(SAMPLES)
    uniform, normal = (trials.map(lambda seed, like=like: like(model)) for like in (torch.rand_like, torch.randn_like))
    evidence.compare("mean", {"rand_like": uniform.mean(1), "randn_like": normal.mean(1)})
    is_normal, is_uniform, is_what_was_meant = (
        kstest(draws, distribution, axis=1, method="asymp").pvalue
        for draws, distribution in ((uniform, "norm"), (uniform, "uniform"), (normal, "norm"))
    )
    trials.always(is_normal < 1e-6, name="rand_like is not normal")
    trials.mostly(is_uniform > 0.01, at_least=0.5, name="it is uniform")
    trials.mostly(is_what_was_meant > 0.01, at_least=0.5, name="randn_like is normal")


@claim(
    "pytorch-notes/listing-create-rand-like-int",
    verdict=REFUTED,
    finding="The listing stops at rand_like: the array holds integers, and there is no uniform distribution on int64. "
    "rand_like(a, dtype=torch.float32) repairs it.",
    controls=[override("an array of floats", values=np.array([1.0, 2.0, 3.0, 4.0]))],
)
def test_the_creation_listing_stops_at_rand_like(values=np.array([1, 2, 3, 4])):  # noqa: B008
    a = torch.from_numpy(values)
    assert torch.zeros_like(a).tolist() == [0, 0, 0, 0]
    with pytest.raises(RuntimeError, match="not implemented for 'Long'"):
        torch.rand_like(a)
    repaired = torch.rand_like(a, dtype=torch.float32)
    assert repaired.shape == a.shape
    assert torch.tensor([1, 2, 3, 4], dtype=torch.float32).tolist() == [1, 2, 3, 4]


def deaf_to_dtype(data, dtype=None):
    return torch.as_tensor(data)


@claim("pytorch-notes/dtype-argument-sets-element-type", controls=[replace("torch.tensor", deaf_to_dtype)])
@example(values=[1, 2, 3, 4])
@given(values=st.lists(st.integers(-(2**24), 2**24), min_size=1))
def test_dtype_makes_32_bit_floats_of_integers(values):
    by_default, converted = torch.tensor(values), torch.tensor(values, dtype=torch.float32)
    assert by_default.dtype == torch.int64
    assert converted.dtype == torch.float32
    assert converted.itemsize * 8 == 32
    assert converted.tolist() == values


@claim(
    "pytorch-notes/tensor-supports-autograd-any-dtype",
    verdict=REFUTED,
    finding="Floating-point and complex tensors only. torch.tensor([1, 2, 3], requires_grad=True) raises, as it does "
    "for every integer type and for bool: a derivative needs numbers that can change a little.",
    controls=[override("floats", dtype=torch.float32)],
)
@pytest.mark.parametrize("dtype", [torch.int64, torch.int32, torch.int16, torch.int8, torch.uint8, torch.bool], ids=str)
def test_integer_tensors_have_no_gradient(dtype):
    with pytest.raises(RuntimeError, match=r"floating point and complex dtypes? can require gradients"):
        torch.tensor([1, 2, 3], dtype=dtype, requires_grad=True)


def detached(tensor):
    return tensor.detach()


@claim(
    "pytorch-notes/tensor-supports-autograd-any-dtype",
    verdict=REFUTED,
    finding="float16, bfloat16, float32, float64 and both complex types have gradients.",
    controls=[override("detached", track=detached)],
)
@pytest.mark.parametrize("dtype", [*FLOATING, *COMPLEX], ids=str)
def test_floating_point_and_complex_tensors_have_one(dtype, track=torch.Tensor.requires_grad_):
    x = track(torch.tensor([1, 2, 3], dtype=dtype))
    y = (3 * x).sum().abs()
    assert y.requires_grad
    y.backward()
    assert x.grad.tolist() == [3, 3, 3]
