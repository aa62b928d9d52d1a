"""Section 3.3: putting tensors together and taking them apart."""

import hypothesis.strategies as st
import numpy as np
import torch
from hypothesis import given

from fitcore.evaluation.memory import shares_storage
from fitcore.testing import REFUTED, claim, override, replace
from fitcore.testing.strategies import numbered, shapes

lengths = st.just(10) | st.integers(1, 40)
counts = st.just(3) | st.integers(1, 12)


@st.composite
def pieces_along(draw):
    """Tensors that differ in the size of one dimension alone, and that dimension."""
    shape = list(draw(shapes(min_dims=1, max_dims=3)))
    dim = draw(st.integers(0, len(shape) - 1))
    sides = draw(st.lists(st.integers(0, 3), min_size=1, max_size=3))
    return [draw(numbered((*shape[:dim], side, *shape[dim + 1 :]))) for side in sides], dim


def arrays(tensors):
    return [tensor.numpy() for tensor in tensors]


def lengths_of(pieces):
    return [len(piece) for piece in pieces]


def as_a_sum(tensors, dim=0):
    return sum(tensors)


@claim(
    "pytorch-notes/cat-shapes",
    finding="The sizes along the dimension named add up, even where they differ; the others stay. The data are copied.",
    controls=[replace("torch.cat", torch.stack), replace("torch.cat", as_a_sum)],
)
def test_cat_of_two_matrices_adds_up_the_dimension_named():
    ones, zeros = torch.ones(2, 3), torch.zeros(2, 3)
    below, beside = (torch.cat([ones, zeros], dim=dim) for dim in (0, 1))
    assert below.tolist() == [[1, 1, 1], [1, 1, 1], [0, 0, 0], [0, 0, 0]]
    assert beside.tolist() == [[1, 1, 1, 0, 0, 0], [1, 1, 1, 0, 0, 0]]


def along_the_first(tensors, dim):
    return torch.cat([tensor.movedim(dim, 0) for tensor in tensors])


@claim("pytorch-notes/cat-shapes", controls=[override("always along the first", cat=along_the_first)])
@given(case=pieces_along(), cat=st.just(torch.cat))
def test_cat_adds_up_one_dimension_of_any_tensors(case, cat):
    pieces, dim = case
    joined = cat(pieces, dim)
    assert joined.shape[dim] == sum(piece.shape[dim] for piece in pieces)
    assert np.array_equal(joined, np.concatenate(arrays(pieces), dim))
    assert not any(shares_storage(joined, piece) for piece in pieces)


def stacked_in_front(tensors, dim):
    return torch.cat([tensor[None] for tensor in tensors])


def joined_end_to_end(tensors, dim):
    return torch.cat([torch.atleast_1d(tensor) for tensor in tensors])


@claim(
    "pytorch-notes/stack-adds-dimension",
    finding="The number of tensors becomes the size of a new dimension, at the place named, in any shape. The data are "
    "copied.",
    controls=[
        override("always in front", stack=stacked_in_front),
        override("cat in its place", stack=joined_end_to_end),
    ],
)
@given(
    twins=st.integers(1, 3).flatmap(lambda n: numbered(shapes(max_dims=3).map(lambda shape: (n, *shape)))),
    data=st.data(),
    stack=st.just(torch.stack),
)
def test_stack_puts_a_new_dimension_at_the_place_named(twins, data, stack):
    dim = data.draw(st.integers(-twins.ndim, twins.ndim - 1))
    stacked = stack(list(twins), dim)
    assert stacked.shape[dim] == len(twins)
    assert np.array_equal(stacked, np.stack(arrays(twins), dim))
    assert not shares_storage(stacked, twins)
    assert stack([torch.ones(2, 3), torch.zeros(2, 3)], 0).shape == (2, 2, 3)
    assert [stack([torch.ones(3), torch.zeros(3)], dim).shape for dim in (0, 1)] == [(2, 3), (3, 2)]


@claim("pytorch-notes/split-10-by-3", controls=[override("chunk in its place", split=torch.chunk)])
def test_ten_elements_split_by_three_leave_one_over(evidence, split=torch.split):
    pieces = split(torch.arange(10), 3)
    assert len(pieces) == 4
    assert evidence.figure("sizes", reported=[3, 3, 3, 1], measured=lengths_of(pieces), tolerance=0)
    assert torch.cat(pieces).tolist() == list(range(10))


@claim(
    "pytorch-notes/split-10-by-3",
    finding="Every piece has the size asked for, but the last, which has what is left. The pieces are views.",
    controls=[override("chunk in its place", split=torch.chunk)],
)
@given(length=lengths, size=counts, split=st.just(torch.split))
def test_split_gives_pieces_of_the_size_asked_for(length, size, split):
    x = torch.arange(length)
    pieces = split(x, size)
    assert lengths_of(pieces[:-1]) == [size] * ((length - 1) // size)
    assert 1 <= len(pieces[-1]) <= size
    assert torch.equal(torch.cat(pieces), x)
    assert all(shares_storage(piece, x) for piece in pieces)


@claim(
    "pytorch-notes/chunk-10-in-3-is-4-3-3",
    verdict=REFUTED,
    finding="The sizes are 4, 4, 2: chunk makes pieces of ceil(10/3) until nothing is left. torch.tensor_split, like "
    "np.array_split, gives 4, 3, 3.",
    controls=[override("tensor_split in its place", chunk=torch.tensor_split)],
)
def test_ten_elements_in_three_chunks_are_four_four_and_two(evidence, chunk=torch.chunk):
    x = torch.arange(10)
    chunks, even = chunk(x, 3), torch.tensor_split(x, 3)
    assert len(chunks) == 3
    assert not evidence.figure("sizes", reported=[4, 3, 3], measured=lengths_of(chunks), tolerance=0)
    assert lengths_of(chunks) == [4, 4, 2]
    assert lengths_of(even) == [4, 3, 3]
    assert torch.equal(torch.cat(chunks), torch.cat(even))


@claim(
    "pytorch-notes/chunk-returns-requested-count",
    verdict=REFUTED,
    finding="At most n: of ten elements, 6 to 9 chunks are 5, and 11 or more are 10. The pieces have ceil(size/n) "
    "elements each, so ceil(size/ceil(size/n)) of them do. torch.tensor_split always returns n, empty ones if need be.",
    controls=[override("tensor_split in its place", chunk=torch.tensor_split)],
)
def test_chunk_may_return_fewer_pieces_than_asked_for(evidence, chunk=torch.chunk):
    x, asked = torch.arange(10), range(1, 13)
    returned = [len(chunk(x, n)) for n in asked]
    evidence.curve("pieces of ten elements", asked, {"asked": asked, "returned": returned}, x_label="n")
    assert returned == [1, 2, 3, 4, 5, 5, 5, 5, 5, 10, 10, 10]
    assert [len(torch.tensor_split(x, n)) for n in asked] == list(asked)


@claim(
    "pytorch-notes/chunk-returns-requested-count",
    verdict=REFUTED,
    finding="Of any size: ceil(size/ceil(size/n)) pieces, n at most, which is n where n divides the size.",
    controls=[override("tensor_split in its place", chunk=torch.tensor_split)],
)
@given(length=lengths, n=counts, chunk=st.just(torch.chunk))
def test_chunks_are_views_of_equal_size_but_the_last(length, n, chunk):
    x, size = torch.arange(length), -(-length // n)
    chunks = chunk(x, n)
    assert len(chunks) == -(-length // size) <= n
    assert set(lengths_of(chunks[:-1])) <= {size}
    assert torch.equal(torch.cat(chunks), x)
    assert all(shares_storage(piece, x) for piece in chunks)
    assert len(torch.tensor_split(x, n)) == n
