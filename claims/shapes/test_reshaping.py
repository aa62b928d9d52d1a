"""Sections 1.5 and 3.2.1: view, reshape, contiguous and clone, and which of them copy."""

import copy

import hypothesis.strategies as st
import numpy as np
import pytest
import torch
from hypothesis import given

from fitcore.evaluation.memory import allocated_bytes, shares_storage
from fitcore.testing import CONDITIONAL, REFUTED, claim, error_of, override
from fitcore.testing.strategies import dtypes, numbered, shapes, shapes_of_size, strided, tensors

MARK = -1  # no element of a numbered tensor


@st.composite
def reshapings(draw, base):
    """A tensor, and a shape of as many elements."""
    tensor = draw(base)
    return tensor, draw(shapes_of_size(tensor.numel()))


twelve = st.tuples(st.just((12,)).flatmap(numbered), st.just((3, 4)))  # as the document has it
contiguous_reshapings = twelve | reshapings(numbered())
strided_reshapings = reshapings(strided(numbered()))


def needs_a_copy(tensor, shape):
    """Whether NumPy, which copies only where it must, reshapes an array of this layout into a copy."""
    array = tensor.numpy()
    return not np.shares_memory(array, array.reshape(shape))


def column_major(tensor, shape):
    return tensor.reshape(shape[::-1]).permute(*range(len(shape))[::-1])


def of_a_copy(tensor, shape):
    return tensor.clone().reshape(shape)


def in_order_of_memory(tensor, shape):
    return tensor.as_strided(shape, torch.empty(shape).stride())


@claim("pytorch-notes/reshape-12-to-3x4", controls=[override("column by column", reshape=column_major)])
@pytest.mark.parametrize("reshape", [torch.Tensor.reshape, torch.Tensor.view], ids=["reshape", "view"])
@given(case=contiguous_reshapings)
def test_rows_are_filled_one_after_the_other(reshape, case):
    tensor, shape = case
    reshaped = reshape(tensor, shape)
    assert reshaped.shape == shape
    assert np.array_equal(np.ravel_multi_index(np.indices(shape), shape), reshaped)


@claim(
    "pytorch-notes/view-shares-memory-both-ways",
    finding="The same bytes in another shape: nothing is allocated, and one write on either side changes one element "
    "of both.",
    controls=[override("a view of a copy", view=of_a_copy)],
)
@given(case=contiguous_reshapings, data=st.data(), view=st.just(torch.Tensor.view))
def test_a_write_to_a_view_or_to_its_source_appears_in_both(case, data, view):
    source, shape = case
    viewed, place = view(source, shape), data.draw(st.integers(0, source.numel() - 1))
    assert allocated_bytes(source, viewed) == source.nbytes
    index = np.unravel_index(place, shape)
    viewed[index] = MARK
    assert (source == MARK).flatten().nonzero().tolist() == [[place]]
    source[np.unravel_index(place, source.shape)] = place
    assert torch.equal(viewed, torch.arange(source.numel()).view(shape))


@claim(
    "pytorch-notes/only-view-shares-reshape-copies",
    verdict=REFUTED,
    finding="reshape is a view wherever view would be one, so also for arange(12).reshape(3, 4): a write to it changes "
    "the source. It copies only where no view exists, as for the transpose of a matrix, flattened.",
    controls=[override("a reshape that always copies", reshape=of_a_copy)],
)
@given(case=twelve | strided_reshapings, reshape=st.just(torch.Tensor.reshape))
def test_reshape_copies_only_where_no_view_exists(case, reshape):
    tensor, shape = case
    assert shares_storage(reshape(tensor, shape), tensor) != needs_a_copy(tensor, shape)
    row, matrix = torch.arange(12), torch.arange(12).view(3, 4)
    reshape(row, (3, 4))[0, 0] = MARK
    assert row[0] == MARK
    assert not shares_storage(reshape(matrix.t(), (12,)), matrix)


@claim(
    "pytorch-notes/view-needs-contiguous-memory",
    verdict=CONDITIONAL,
    finding="Contiguous memory always suffices, and a transposed matrix can't be flattened by view. But what counts is "
    "whether strides for the new shape exist: m.t().view(4, 3, 1), arange(24)[::2].view(3, 4) and "
    "m[:, :2].view(3, 2, 1) work, and none of them is contiguous.",
    controls=[
        override("a view that copies where it must", view=torch.Tensor.reshape),
        override("only of contiguous tensors", view=lambda t, shape: (t if t.is_contiguous() else t[:0]).view(shape)),
    ],
)
@given(
    contiguous=contiguous_reshapings,
    case=strided_reshapings,
    compatible=st.sampled_from(
        [
            (torch.arange(12).view(3, 4).t(), (4, 3, 1)),
            (torch.arange(24)[::2], (3, 4)),
            (torch.arange(12).view(3, 4)[:, :2], (3, 2, 1)),
        ]
    ),
    view=st.just(torch.Tensor.view),
)
def test_view_needs_strides_that_fit_rather_than_contiguous_memory(contiguous, case, compatible, view):
    assert error_of(view, *contiguous) is None
    assert (error_of(view, *case) is not None) == needs_a_copy(*case)
    assert not compatible[0].is_contiguous()
    assert error_of(view, *compatible) is None
    with pytest.raises(RuntimeError, match="not compatible with input tensor's size and stride"):
        view(torch.arange(12).view(3, 4).t(), (12,))


@claim(
    "pytorch-notes/reshape-handles-noncontiguous",
    finding="In every layout, expanded ones included, reshape gives what NumPy does; a wrong number of elements is "
    "refused as by view.",
    controls=[
        override("view in its place", reshape=torch.Tensor.view),
        override("in the order of memory", reshape=in_order_of_memory),
    ],
)
@given(case=strided_reshapings, reshape=st.just(torch.Tensor.reshape))
def test_reshape_takes_any_layout(case, reshape):
    tensor, shape = case
    assert error_of(reshape, tensor, shape) is None
    assert np.array_equal(tensor.numpy().reshape(shape), reshape(tensor, shape))
    matrix = torch.arange(12).view(3, 4)
    assert isinstance(error_of(torch.Tensor.view, matrix.t(), (12,)), RuntimeError)
    assert error_of(reshape, matrix.t(), (12,)) is None
    assert torch.equal(reshape(matrix.t(), (12,)), torch.cat(matrix.unbind(1)))


@claim(
    "pytorch-notes/contiguous-returns-contiguous-copy",
    finding="A tensor that is contiguous already, as the document's, is returned itself: nothing is copied. Any other "
    "is copied, and stays as it was.",
    controls=[override("a clone, which keeps the strides", contiguous=torch.clone)],
)
@given(tensor=strided(tensors(dtype=dtypes()), overlapping=True), contiguous=st.just(torch.Tensor.contiguous))
def test_contiguous_copies_what_is_not_contiguous(tensor, contiguous):
    was_contiguous, strides = tensor.is_contiguous(), tensor.stride()
    converted = contiguous(tensor)
    assert converted.is_contiguous()
    assert torch.equal(converted, tensor)
    assert tensor.stride() == strides
    assert shares_storage(converted, tensor) == was_contiguous
    matrix = torch.arange(12).view(3, 4)
    assert contiguous(matrix) is matrix
    assert contiguous(matrix.t()).stride() == (3, 1)


def alias(tensor):
    return tensor.view_as(tensor)


@claim(
    "pytorch-notes/clone-does-not-share",
    finding="It has as many bytes of its own as it has elements, and no write goes through, either way.",
    controls=[override("an alias", clone=alias)],
)
@given(tensor=strided(numbered(dtype=dtypes())), data=st.data(), clone=st.just(torch.Tensor.clone))
def test_a_clone_has_a_memory_of_its_own(tensor, data, clone):
    cloned, values = clone(tensor), tensor.tolist()
    assert not shares_storage(cloned, tensor)
    assert allocated_bytes(cloned) == cloned.nbytes
    assert cloned.tolist() == values
    index = tuple(data.draw(st.integers(0, side - 1)) for side in tensor.shape)
    cloned[index] += 1
    assert tensor.tolist() == values
    tensor[index] += 2
    assert cloned[index] == tensor[index] - 1


def detached_clone(tensor):
    return tensor.detach().clone()


@claim(
    "pytorch-notes/clone-cuts-the-graph",
    verdict=REFUTED,
    finding="clone is differentiable: what follows from the clone sends its gradient to the original, unchanged. "
    "detach().clone() and copy.deepcopy cut the graph.",
    controls=[override("detached", clone=detached_clone)],
)
@given(
    pair=shapes().flatmap(lambda shape: st.tuples(tensors(shape, requires_grad=True), tensors(shape))),
    clone=st.just(torch.Tensor.clone),
)
def test_gradients_flow_through_a_clone(pair, clone):
    x, weights = pair
    cloned = clone(x)
    assert cloned.grad_fn is not None
    (weights * cloned).sum().backward()
    assert torch.equal(x.grad, weights)
    cut = [detached_clone(x).requires_grad_(), copy.deepcopy(x)]
    (2 * weights * sum(cut)).sum().backward()
    assert torch.equal(x.grad, weights)
