"""Sections 1.5 and 1.9, and their uses in 1.10: indices, slices, masks, and tensors made flat."""

from operator import getitem

import hypothesis.strategies as st
import numpy as np
import torch
from hypothesis import assume, example, given

from fitcore.evaluation.memory import shares_storage
from fitcore.testing import claim, override, replace
from fitcore.testing.strategies import dtypes, numbered, shapes, slices, strided, tensors


def indices(shape):
    """An integer or a slice for each dimension."""
    return st.tuples(*(slices(side) | st.integers(-side, side - 1) for side in shape))


indexed = numbered(shapes(min_dims=1)).flatmap(lambda t: st.tuples(st.just(t), indices(t.shape)))
fractions = tensors(shapes(), elements=st.floats(0, 1, width=32))


def keeping_the_axis(tensor, index):
    return getitem(tensor, index).unsqueeze(0)


@claim("pytorch-notes/index-shapes", controls=[override("the axis kept", index=keeping_the_axis)])
@example(t=torch.arange(24).reshape(2, 3, 4), index=getitem)
@given(t=numbered(shapes(min_dims=3, max_dims=3)), index=st.just(getitem))
def test_an_index_takes_its_axis_away(t, index):
    planes, rows, columns = t.shape
    by_first, by_second, by_last = index(t, 0), index(t, (slice(None), 0)), index(t, (..., 0))
    assert by_first.shape == (rows, columns)
    assert by_second.shape == (planes, columns)
    assert by_last.shape == (planes, rows)
    assert np.array_equal(by_first, t.numpy()[0])
    assert np.array_equal(by_second, t.numpy()[:, 0])
    assert np.array_equal(by_last, t.numpy()[..., 0])


def copied_out(tensor, index):
    return getitem(tensor, index).clone()


@claim(
    "pytorch-notes/basic-indexing-is-view",
    finding="Integers and slices in any combination. A list or a mask as index makes a copy.",
    controls=[override("copied out", take=copied_out)],
)
@given(case=indexed, take=st.just(getitem))
def test_integers_and_slices_index_a_view(case, take):
    t, index = case
    part, by_list, by_mask = take(t, index), t[[0]], t[t >= 0]
    assume(part.numel())
    assert np.array_equal(part, t.numpy()[index])
    assert shares_storage(part, t)
    part.fill_(-1)
    assert (t == -1).sum() == part.numel()
    t.fill_(-2)
    assert (part == -2).all()
    assert (by_list >= 0).all()
    assert (by_mask >= 0).all()


@claim(
    "pytorch-notes/flatten-gives-1d",
    finding="In row-major order, whatever the layout in memory; a tensor of no dimensions gets one.",
    controls=[replace("torch.Tensor.flatten", torch.Tensor.squeeze)],
)
@example(tensor=torch.arange(12))
@given(tensor=strided(tensors(shapes(min_side=0), dtypes(boolean=True)) | numbered()))
def test_flatten_puts_all_elements_into_one_dimension(tensor):
    flat = tensor.flatten()
    assert flat.shape == (tensor.numel(),)
    assert np.array_equal(flat.double(), tensor.double().numpy().ravel())


flatten = torch.flatten


def face_by_face(tensor):
    return flatten(tensor, start_dim=1)


@claim("pytorch-notes/flatten-60-to-5x12", controls=[replace("torch.Tensor.flatten", face_by_face)])
@given(tensor=numbered((3, 4, 5)) | tensors((3, 4, 5)))
def test_sixty_elements_become_five_rows_of_twelve(tensor):
    flattened = tensor.flatten()
    assert flattened.shape == (60,)
    rows = flattened.reshape(5, 12)
    assert rows.shape == (5, 12)
    assert np.array_equal(rows, tensor.numpy().reshape(5, 12))


def zeros_and_ones(tensor, threshold):
    return torch.gt(tensor, threshold).long()


def at_least(tensor, threshold):
    return torch.ge(tensor, threshold)


@claim(
    "pytorch-notes/comparison-gives-bool-mask",
    controls=[
        replace("torch.Tensor.__gt__", zeros_and_ones),
        replace("torch.Tensor.__gt__", at_least, name="not less"),
    ],
)
@example(tensor=torch.tensor([[0.5, 0.25], [0.75, 1.0]]))
@given(tensor=fractions)
def test_a_comparison_is_a_mask_that_picks_elements(tensor):
    mask = tensor > 0.5
    assert mask.dtype == torch.bool
    assert mask.shape == tensor.shape
    elements = tensor.flatten().tolist()
    assert mask.flatten().tolist() == [element > 0.5 for element in elements]
    assert tensor[mask].tolist() == [element for element in elements if element > 0.5]


where = torch.where


def the_other_way_round(mask, chosen, other):
    return where(mask, other, chosen)


@claim("pytorch-notes/where-selects-elementwise", controls=[replace("torch.where", the_other_way_round)])
@given(tensor=fractions)
def test_where_keeps_elements_under_the_mask_and_puts_zeros_elsewhere(tensor):
    kept = torch.where(tensor > 0.5, tensor, torch.zeros_like(tensor))
    assert kept.shape == tensor.shape
    assert kept.flatten().tolist() == [element if element > 0.5 else 0 for element in tensor.flatten().tolist()]
