import math
import subprocess
import sys

import numpy as np
import pytest
import torch
from hypothesis import find, given, settings
from hypothesis import strategies as st

from fitcore.evaluation.memory import shares_storage
from fitcore.testing.strategies import (
    broadcastable_shapes,
    broadcastable_tensors,
    dtypes,
    elements_of,
    matmul_pairs,
    matmul_shapes,
    numbered,
    shapes,
    shapes_of_size,
    strided,
    tensors,
    views,
)

every_dtype = dtypes(boolean=True, complex=True)


def test_the_machinery_does_not_import_hypothesis():
    code = "import sys, fitcore.testing.plugin; sys.exit('hypothesis' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


@pytest.mark.parametrize(
    ("strategy", "condition", "minimal"),
    [
        (tensors(), lambda t: t.sum() > 3, "tensor(4.)"),
        (tensors(shapes(1, 2), dtypes()), lambda t: t.unique().numel() > 1, "tensor([0., 1.])"),
        (tensors(dtype=torch.bool), lambda t: bool(t.any()), "tensor(True)"),
        (tensors((2,), torch.complex64), lambda t: bool(t.imag.any()), "tensor([0.+0.j, 0.+1.j])"),
        (numbered(), lambda t: t.ndim == 2 and not t.equal(t.T), "tensor([[0, 1]])"),
        (strided(numbered()), lambda t: t.ndim == 1 and not t.is_contiguous(), "tensor([0, 1])"),
    ],
)
def test_counterexamples_are_small_and_readable(strategy, condition, minimal):
    assert repr(find(strategy, condition, settings=settings(database=None, max_examples=2_000))) == minimal


@given(tensors(shapes(min_side=0), every_dtype))
def test_tensors_are_contiguous_finite_and_small(tensor):
    assert tensor.is_contiguous()
    assert not tensor.requires_grad
    assert tensor.to(torch.complex64).abs().lt(13).all()
    assert tensor.ndim <= 4
    assert all(side <= 5 for side in tensor.shape)


@given(tensors((2, 3), dtypes(integer=False, complex=True), requires_grad=True))
def test_they_can_require_a_gradient(tensor):
    assert tensor.requires_grad
    assert tensor.is_leaf


@given(tensors((4,), elements=st.floats(0.25, 0.75)))
def test_elements_can_be_chosen(tensor):
    assert ((tensor >= 0.25) & (tensor <= 0.75)).all()


@given(st.data(), every_dtype)
def test_default_elements_are_exact_in_every_dtype(data, dtype):
    element = data.draw(elements_of(dtype))
    assert torch.tensor(element, dtype=dtype).item() == element


@given(data=st.data())
def test_strided_tensors_keep_values_shape_and_dtype(data):
    values = data.draw(tensors(shapes(min_side=0), every_dtype))
    laid_out = data.draw(strided(st.just(values)))
    assert laid_out.dtype == values.dtype
    assert torch.equal(laid_out, values)
    assert not shares_storage(laid_out, values)


@pytest.mark.parametrize(
    "layout",
    [
        lambda t: t.is_contiguous() and t.ndim > 1,
        lambda t: t.storage_offset() > 0,
        lambda t: t.ndim == 2 and t.T.is_contiguous() and not t.is_contiguous(),
        lambda t: t.ndim == 1 and t.stride(0) == 2,
    ],
)
def test_strided_tensors_come_in_every_layout(layout):
    find(strided(numbered()), layout, settings=settings(database=None, max_examples=2_000))


@given(strided(tensors(requires_grad=True), overlapping=True))
def test_strided_tensors_remain_leaves(tensor):
    assert tensor.requires_grad
    assert tensor.is_leaf


def test_overlapping_layouts_store_one_element_for_many():
    expanded = find(strided(numbered(), overlapping=True), lambda t: t.shape == (2,) and t.stride() == (0,))
    assert expanded.tolist() == [0, 0]


@given(data=st.data(), tensor=numbered(shapes(min_side=0)))
def test_views_share_the_storage(data, tensor):
    view = data.draw(views(tensor))
    assert set(view.flatten().tolist()) <= set(tensor.flatten().tolist())
    assert shares_storage(view, tensor) == (tensor.numel() > 0)


@given(data=st.data(), size=st.integers(1, 60))
def test_shapes_of_a_size_have_that_size(data, size):
    shape = data.draw(shapes_of_size(size))
    assert math.prod(shape) == size
    assert 1 <= len(shape) <= 4


@given(broadcastable_shapes(3, min_side=0))
def test_broadcastable_shapes_broadcast(drawn):
    assert tuple(torch.broadcast_shapes(*drawn)) == np.broadcast_shapes(*drawn)


@given(broadcastable_tensors(2, dtypes()))
def test_broadcastable_tensors_can_be_compared(pair):
    a, b = pair
    assert (a == b).shape == torch.broadcast_shapes(a.shape, b.shape)


@given(matmul_pairs(dtype=torch.float16))
def test_matmul_pairs_have_an_exact_product(pair):
    a, b = pair
    assert np.array_equal((a @ b).numpy(), np.matmul(a.double().numpy(), b.double().numpy()))


@given(matmul_shapes(vectors=False))
def test_matmul_shapes_without_vectors_are_matrices(pair):
    assert all(len(shape) >= 2 for shape in pair)
