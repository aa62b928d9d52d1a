"""Section 3.2.5: expand stores the data once, repeat stores them once for each repetition."""

import math
import re

import hypothesis.strategies as st
import numpy as np
import pytest
import torch
from hypothesis import given

from fitcore.evaluation.memory import allocated_bytes, shares_storage
from fitcore.testing import CONDITIONAL, claim, error_of, override
from fitcore.testing.strategies import broadcastable_shapes, numbered, shapes

MARK = -1  # no element of a numbered tensor

rows = numbered(st.just((1, 3)) | st.tuples(st.just(1), st.integers(1, 5)))
several = st.just(4) | st.integers(2, 6)
expansions = st.just(((1, 3), (4, 3))) | broadcastable_shapes().map(
    lambda pair: (pair[0], tuple(torch.broadcast_shapes(*pair)))
)


@st.composite
def repetitions(draw):
    """A tensor, and a count for each of its dimensions and for up to two new ones in front."""
    x = draw(numbered(st.just((2, 3)) | shapes(max_dims=3, max_side=4)))
    dims = x.ndim + draw(st.integers(0, 2))
    return x, draw(st.tuples(*[st.integers(0, 4)] * dims))


def copied(x, shape):
    """Expanded to ``shape``, into memory of its own."""
    return x.expand(shape).clone(memory_format=torch.contiguous_format)


def tiled_and_cut(x, shape):
    return x.tile(shape)[tuple(map(slice, shape))]


def repeated_as_a_view(x, counts):
    """Dimensions of size 1 expanded by their counts, the others left as they are."""
    sides = (1,) * (len(counts) - x.ndim) + x.shape
    return x.expand([count if side == 1 else side for side, count in zip(sides, counts, strict=True)])


@claim(
    "pytorch-notes/expand-shares-memory-and-storage",
    finding="x and its expansion to (4, 3) take 24 bytes together, those of x alone. So in any shape, with stride 0 "
    "along each expanded dimension.",
    controls=[override("a copy", expand=copied)],
)
@given(case=expansions, expand=st.just(torch.Tensor.expand))
def test_expand_is_a_view_that_stores_the_data_once(case, expand):
    shape, target = case
    x = torch.arange(math.prod(shape)).reshape(shape)
    expanded = expand(x, target)
    assert np.array_equal(expanded, np.broadcast_to(x.numpy(), target))
    assert allocated_bytes(x, expanded) == x.nbytes
    sides = zip(expanded.stride(), (1,) * (len(target) - len(shape)) + shape, target, strict=True)
    assert {stride for stride, old, new in sides if old != new} <= {0}
    assert expand(torch.tensor([[1, 2, 3]]), (4, 3)).stride() == (0, 1)


@claim(
    "pytorch-notes/repeat-copies-data",
    finding="Four rows of three int64 take 96 bytes beside the 24 of x. Even repeat(1, 1) copies.",
    controls=[override("an expansion", repeat=repeated_as_a_view)],
)
@given(x=rows, count=several | st.just(1), repeat=st.just(torch.Tensor.repeat))
def test_repeat_stores_every_repetition(x, count, repeat):
    repeated = repeat(x, (count, 1))
    assert torch.equal(repeated, torch.cat([x] * count))
    assert not shares_storage(repeated, x)
    assert allocated_bytes(repeated) == count * x.nbytes


@claim(
    "pytorch-notes/expand-repeat-listing-figures",
    controls=[
        override("a copy for the expansion", expand=copied),
        override("an expansion for the repetition", repeat=repeated_as_a_view),
    ],
)
@pytest.mark.filterwarnings("ignore:TypedStorage is deprecated")
def test_the_listing_shows_100_and_1(evidence, expand=torch.Tensor.expand, repeat=torch.Tensor.repeat):
    x = torch.tensor([[1, 2, 3]])
    expanded, repeated = expand(x, (4, 3)), repeat(x, (4, 1))
    assert expanded.storage().data_ptr() == x.storage().data_ptr() != repeated.storage().data_ptr()
    x[0, 0] = 100
    shown = [expanded[0, 0], repeated[0, 0]]
    assert evidence.figure("y_expand[0, 0] and y_repeat[0, 0]", reported=[100, 1], measured=shown, tolerance=0)


def write_one_element(tensor, row):
    tensor[row, 0] = MARK


def write_a_row(tensor, row):
    tensor[row] = torch.arange(10, 10 + tensor.shape[1])


def add_to_a_row(tensor, row):
    tensor[row].add_(1)


BACK_AND_FORTH = (
    "Writes to one element or one row change the original and so every row. But a whole expanded tensor refuses add_, "
    "mul_, copy_ and e[:] = matrix with a RuntimeError, since several of its elements are one in memory; write to the "
    "original instead, or to a clone."
)


@claim(
    "pytorch-notes/expand-write-propagates-back",
    verdict=CONDITIONAL,
    finding=BACK_AND_FORTH,
    controls=[override("a copy", expand=copied)],
)
@pytest.mark.parametrize("write", [write_one_element, write_a_row, add_to_a_row])
@given(x=rows, count=several, data=st.data(), expand=st.just(torch.Tensor.expand))
def test_a_write_to_one_row_of_an_expanded_tensor_changes_the_original(write, x, count, data, expand):
    expanded, written = expand(x, (count, -1)), x.clone()
    write(expanded, data.draw(st.integers(0, count - 1)))
    write(written, 0)
    assert torch.equal(x, written)
    assert torch.equal(expanded, written.repeat(count, 1))


def add_one(tensor):
    tensor.add_(1)


def double(tensor):
    tensor.mul_(2)


def copy_in(tensor):
    tensor.copy_(torch.zeros(tensor.shape))


def assign_a_matrix(tensor):
    tensor[:] = torch.zeros(tensor.shape, dtype=tensor.dtype)


@claim(
    "pytorch-notes/expand-write-propagates-back",
    verdict=CONDITIONAL,
    finding=BACK_AND_FORTH,
    controls=[override("a copy", expand=copied)],
)
@pytest.mark.parametrize("write", [add_one, double, copy_in, assign_a_matrix])
@given(x=rows, count=several, expand=st.just(torch.Tensor.expand))
def test_an_expanded_tensor_refuses_to_be_written_as_a_whole(write, x, count, expand):
    expanded, values = expand(x, (count, -1)), x.tolist()
    with pytest.raises(RuntimeError, match="refers to a single memory location"):
        write(expanded)
    assert x.tolist() == values
    write(x)
    assert torch.equal(expanded, x.repeat(count, 1))


REFUSES_A_NUMBER = {"2.11": True, "2.15": False}


@claim(
    "pytorch-notes/expand-write-propagates-back",
    verdict=CONDITIONAL,
    finding="Whether e[:] = 5 is refused depends on the version: by torch 2.11 it is, by 2.15 not.",
    controls=[override("a copy", expand=copied)],
)
@given(x=rows, count=several, expand=st.just(torch.Tensor.expand))
def test_a_number_for_the_whole_is_refused_or_reaches_the_original(x, count, expand):
    before, version = x.clone(), ".".join(torch.__version__.split(".")[:2])
    refused = error_of(expand(x, (count, -1)).__setitem__, slice(None), 5) is not None
    assert torch.equal(x, before if refused else torch.full_like(x, 5))
    assert refused == REFUSES_A_NUMBER.get(version, refused)


def with_side(shape, side):
    """``shape`` with its first dimension made ``side`` long, between two others."""
    return (2, side, *shape)


@claim(
    "pytorch-notes/expand-only-size-one-dims",
    finding="Of sizes 1 to 5, 1 goes to any other and no other to any but itself: 2 to 5 raises a RuntimeError that "
    "names both. New dimensions in front may have any size: ones(3).expand(4, 3).",
    controls=[override("tiled and cut", expand=tiled_and_cut)],
)
@given(
    rest=shapes(max_dims=2),
    sides=st.just((2, 5)) | st.tuples(st.integers(2, 5), st.integers(1, 5)).filter(lambda sides: sides[0] != sides[1]),
    expand=st.just(torch.Tensor.expand),
)
def test_expand_refuses_a_dimension_of_another_size_than_one(rest, sides, expand):
    old, new = sides
    message = f"expanded size of the tensor ({new}) must match the existing size ({old})"
    with pytest.raises(RuntimeError, match=re.escape(message)):
        expand(torch.ones(with_side(rest, old)), with_side(rest, new))
    one = torch.arange(2).reshape(with_side((1,) * len(rest), 1))
    assert torch.equal(expand(one, with_side(rest, new))[1], torch.ones((new, *rest), dtype=torch.int64))
    assert torch.equal(expand(torch.ones(3), (new, 3)), torch.ones(new, 3))


@claim(
    "pytorch-notes/repeat-any-dimension",
    finding="Sizes 1 to 4, each with counts 0 to 4, give what np.tile does, as do more counts than dimensions. Fewer "
    "are refused.",
    controls=[override("only where the size is 1", repeat=repeated_as_a_view)],
)
@given(case=repetitions(), repeat=st.just(torch.Tensor.repeat))
def test_repeat_repeats_every_dimension_as_often_as_asked(case, repeat):
    x, counts = case
    repeated = repeat(x, counts)
    assert np.array_equal(repeated, np.tile(x.numpy(), counts))
    assert allocated_bytes(repeated) == math.prod(counts) * x.nbytes
    with pytest.raises(RuntimeError, match="repeat dims can not be smaller than number of dimensions"):
        repeat(torch.ones(2, 3), (2,))


@claim(
    "pytorch-notes/repeat-is-independent-both-ways",
    controls=[override("an expansion", repeat=repeated_as_a_view)],
)
@given(x=rows, count=several, data=st.data(), repeat=st.just(torch.Tensor.repeat))
def test_neither_the_original_nor_the_repetition_sees_the_others_changes(x, count, data, repeat):
    repeated, values = repeat(x, (count, 1)), x.tolist()
    repeated[data.draw(st.integers(0, count - 1)), 0] = MARK
    assert x.tolist() == values
    seen = repeated.clone()
    x += 1
    assert torch.equal(repeated, seen)
