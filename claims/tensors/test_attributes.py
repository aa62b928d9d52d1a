"""Section 1.3: what a tensor tells of itself."""

from functools import partial

import hypothesis.strategies as st
import pytest
import torch
from hypothesis import example, given
from torch.testing import assert_close

from fitcore.testing import CONDITIONAL, REFUTED, claim, override, replace
from fitcore.testing.strategies import dtypes, shapes, strided, tensors

rand = torch.rand


def in_one_row(*shape):
    return rand(*shape).flatten()


def with_an_axis_in_front(*shape):
    return rand(1, *shape)


@claim(
    "pytorch-notes/tensor-info-shape-ndim-device",
    controls=[
        replace("torch.rand", in_one_row),
        replace("torch.rand", with_an_axis_in_front),
        replace("torch.rand", partial(rand, device="meta"), name="on another device"),
    ],
)
@example(shape=(2, 3, 4))
@given(shape=shapes(min_dims=1))
def test_a_tensor_tells_its_shape_dimensions_and_device(shape):
    out = torch.rand(*shape)
    assert out.shape == torch.Size(shape)
    assert repr(out.shape) == f"torch.Size({list(shape)})"
    assert out.ndim == len(shape)
    assert str(out.device) == "cpu"


@claim(
    "pytorch-notes/tensor-info-shape-ndim-device",
    controls=[replace("torch.rand", with_an_axis_in_front)],
)
def test_the_listing_prints_what_its_comments_say(evidence):
    out = torch.rand(2, 3, 4)
    assert evidence.figure("ndim", reported=3, measured=out.ndim, tolerance=0)
    assert [str(out.shape), str(out.ndim), str(out.device)] == ["torch.Size([2, 3, 4])", "3", "cpu"]


@claim(
    "pytorch-notes/fresh-tensor-grad-none-no-requires-grad",
    finding="However it was made. Only nn.Parameter requires a gradient from birth.",
    controls=[override("made to require one", requires_grad=True)],
)
@pytest.mark.parametrize(
    "make", [torch.rand, torch.zeros, torch.arange, torch.eye, torch.randn], ids=lambda f: f.__name__
)
def test_a_fresh_tensor_has_no_gradient_and_requires_none(make, requires_grad=False):
    out = make(3, dtype=torch.float32, requires_grad=requires_grad)
    assert out.grad is None
    assert not out.requires_grad
    assert torch.nn.Parameter(out).requires_grad


def keep_nothing(tensor):
    """What a result does with its gradient unless it is told otherwise."""


@claim(
    "pytorch-notes/requires-grad-means-gradient-is-saved",
    verdict=CONDITIONAL,
    finding="True of leaves, the tensors that one makes oneself: with the flag they have a gradient after backward, "
    "without it none. A result has the flag too, and its gradient is used and thrown away, unless retain_grad() was "
    "called. The flag says that a gradient will be computed; what is saved so far is in .grad.",
    controls=[override("retain_grad on the results", keep=torch.Tensor.retain_grad)],
)
@pytest.mark.filterwarnings("ignore:The .grad attribute of a Tensor that is not a leaf")
@given(values=tensors(shapes(min_dims=1, max_dims=1), torch.float64), keep=st.just(keep_nothing))
def test_a_gradient_is_saved_for_leaves_that_require_one(values, keep):
    x, constant = values.clone().requires_grad_(), values.clone()
    y = x * 2
    z = (y**2 + constant).sum()
    keep(y)
    assert [x.requires_grad, y.requires_grad, z.requires_grad, constant.requires_grad] == [True, True, True, False]
    assert x.grad is None
    z.backward()
    assert_close(x.grad, 8 * values)
    assert constant.grad is None
    assert y.grad is None
    assert z.grad is None


def storage_of(tensor):
    return tensor.untyped_storage()


def storage_of_a_copy(tensor):
    return tensor.clone().untyped_storage()


@claim(
    "pytorch-notes/untyped-storage-is-modifiable-1d",
    finding="A byte at a time. Whatever its shape, type and layout, the tensor stands on one row of bytes.",
    controls=[override("the storage of a copy", storage_of=storage_of_a_copy)],
)
@example(tensor=torch.ones(3), where=0, storage_of=storage_of)
@given(
    tensor=strided(tensors(dtype=dtypes(complex=True))),
    where=st.integers(min_value=0),
    storage_of=st.just(storage_of),
)
def test_writing_to_the_storage_changes_the_tensor(tensor, where, storage_of):
    storage = storage_of(tensor)
    expected = bytearray(storage.tolist())
    position = where % len(storage)
    storage[position] = expected[position] = 255 - expected[position]
    in_place = torch.frombuffer(expected, dtype=tensor.dtype).as_strided(
        tensor.shape, tensor.stride(), tensor.storage_offset()
    )
    assert_close(tensor, in_place, rtol=0, atol=0, equal_nan=True)


@claim(
    "pytorch-notes/untyped-storage-is-modifiable-1d",
    controls=[override("the storage of a copy", storage_of=storage_of_a_copy)],
)
def test_two_bytes_make_a_one_of_a_zero(storage_of=storage_of):
    out = torch.zeros(2, 3)
    storage = storage_of(out)
    storage[2], storage[3] = 128, 63
    assert out.tolist() == [[1, 0, 0], [0, 0, 0]]


@claim(
    "pytorch-notes/untyped-storage-length-counts-elements",
    verdict=REFUTED,
    finding="It counts bytes: 96 for the 24 float32 elements of rand(2, 3, 4). Divided by the size of an element it is "
    "their number, and for a view the number of elements of the whole tensor.",
    controls=[override("elements of one byte", dtype=torch.uint8)],
)
@example(shape=(2, 3, 4), dtype=torch.float32)
@given(shape=shapes(min_dims=1), dtype=dtypes(complex=True).filter(lambda dtype: dtype.itemsize > 1))
def test_the_storage_is_as_long_as_the_elements_have_bytes(shape, dtype):
    out = torch.zeros(shape, dtype=dtype)
    assert len(out.untyped_storage()) != out.numel()
    assert len(out.untyped_storage()) == out.numel() * out.itemsize
    assert len(out[..., :1].untyped_storage()) == out.numel() * out.itemsize
