"""Sections 3.2.2 to 3.2.4: dimensions of size 1, and dimensions in another order."""

import hypothesis.strategies as st
import numpy as np
import pytest
import torch
from hypothesis import given

from fitcore.evaluation.memory import shares_storage
from fitcore.testing import REFUTED, claim, override
from fitcore.testing.strategies import numbered, shapes

matrices = numbered(st.just((3, 4)) | shapes(2, 2))


def agrees(tensor, array):
    """Shape and values."""
    return np.array_equal(tensor.numpy(), array)


@claim(
    "pytorch-notes/squeeze-removes-all-ones",
    finding="All of them in any shape: a shape of ones becomes (). The data stay where they are.",
    controls=[override("the first alone", squeeze=lambda x: x.squeeze(0))],
)
@given(x=numbered(st.just((1, 3, 1, 5)) | shapes(max_side=3)), squeeze=st.just(torch.squeeze))
def test_squeeze_removes_every_dimension_of_size_one(x, squeeze):
    squeezed = squeeze(x)
    assert squeezed.shape == tuple(side for side in x.shape if side != 1)
    assert torch.equal(squeezed.flatten(), x.flatten())
    assert shares_storage(squeezed, x)
    assert squeeze(torch.ones(1, 3, 1, 5)).shape == (3, 5)


@claim(
    "pytorch-notes/unsqueeze-positions",
    finding="The argument is the new dimension's place in the result, in any tensor. The data stay where they are.",
    controls=[override("always in front", unsqueeze=lambda x, dim: x[None])],
)
@given(x=numbered(st.just((3,)) | shapes()), data=st.data(), unsqueeze=st.just(torch.unsqueeze))
def test_unsqueeze_puts_a_one_at_the_place_named(x, data, unsqueeze):
    place = data.draw(st.integers(-x.ndim - 1, x.ndim))
    unsqueezed = unsqueeze(x, place)
    assert unsqueezed.shape[place] == 1
    assert agrees(unsqueezed, np.expand_dims(x.numpy(), place))
    assert shares_storage(unsqueezed, x)
    row = torch.tensor([1, 2, 3])
    assert [unsqueeze(row, 0).tolist(), unsqueeze(row, 1).tolist()] == [[[1, 2, 3]], [[1], [2], [3]]]


def reshaped(x, order):
    return x.reshape([x.shape[dim] for dim in order])


@claim(
    "pytorch-notes/permute-021-shape-and-values",
    finding="Dimension k of the result is dimension order[k] of the source: element (i, j, k) of permute(0, 2, 1) is "
    "element (i, k, j). A reshape to (2, 4, 3) has that shape too, but other values.",
    controls=[override("a reshape", permute=reshaped)],
)
@given(x=numbered(st.just((2, 3, 4)) | shapes(min_dims=2)), data=st.data(), permute=st.just(torch.permute))
def test_the_arguments_of_permute_are_indices_of_dimensions(x, data, permute):
    order = data.draw(st.permutations(range(x.ndim)))
    permuted = permute(x, order)
    assert permuted.shape == tuple(x.shape[dim] for dim in order)
    assert agrees(permuted, x.numpy().transpose(order))
    assert shares_storage(permuted, x)
    cube = torch.arange(24).view(2, 3, 4)
    assert agrees(permute(cube, (0, 2, 1)), np.einsum("ijk->ikj", cube))


@claim("pytorch-notes/dot-t-of-a-matrix-is-its-transpose", controls=[override("a reshape", transpose=reshaped)])
@given(x=matrices, transpose=st.just(lambda x, order: x.T))
def test_t_of_a_matrix_is_its_transpose(x, transpose):
    transposed = transpose(x, (1, 0))
    assert transposed.shape == (x.shape[1], x.shape[0])
    assert transposed.tolist() == [list(column) for column in zip(*x.tolist(), strict=True)]
    assert shares_storage(transposed, x)


@claim(
    "pytorch-notes/dot-t-transposes",
    verdict=REFUTED,
    finding="Of the (2, 3, 4) tensor in the line before, .T would be (4, 3, 2): it reverses all dimensions, which "
    "PyTorch deprecates. The document's tensor is a matrix, where both are the same; .mT transposes any batch.",
    controls=[override(".mT in its place", transpose=lambda x: x.mT)],
)
@pytest.mark.filterwarnings("ignore:The use of `x.T`")
@given(x=numbered(st.just((2, 3, 4)) | shapes(3, 4, min_side=2)), transpose=st.just(lambda x: x.T))
def test_t_reverses_all_dimensions(x, transpose):
    reversed_, of_each_matrix = transpose(x), x.transpose(-2, -1)
    assert reversed_.shape == x.shape[::-1]
    assert agrees(reversed_, x.numpy().T)
    assert not torch.equal(reversed_, of_each_matrix)
    assert torch.equal(x.mT, of_each_matrix)


@claim(
    "pytorch-notes/transpose-01-shape",
    controls=[override("a reshape", transpose=lambda x, *dims: reshaped(x, dims[::-1]))],
)
@given(x=matrices, transpose=st.just(torch.transpose))
def test_transpose_swaps_the_two_dimensions_named(x, transpose):
    swapped = transpose(x, 0, 1)
    assert swapped.shape == (x.shape[1], x.shape[0])
    assert agrees(swapped, x.numpy().swapaxes(0, 1))
    assert torch.equal(swapped, x.T)
    assert torch.equal(swapped, x.permute(1, 0))
    assert shares_storage(swapped, x)
