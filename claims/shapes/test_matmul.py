"""Section 3.4: the products of vectors, matrices and batches of matrices."""

import operator
import re

import hypothesis.strategies as st
import numpy as np
import pytest
import torch
from hypothesis import given

from fitcore.testing import REFUTED, claim, override
from fitcore.testing.strategies import matmul_pairs, shapes, tensors

sides = st.integers(1, 4)
different = st.permutations(range(1, 6))  # sizes of which no two are equal
batch_sizes = st.integers(1, 6)
fractions = st.floats(-3, 3)


def result(product, a, b):
    """The product as lists, or what the refusal says."""
    try:
        return product(a, b).tolist()
    except RuntimeError as error:
        return str(error)


def inner_reversed(a, b):
    """The product with the inner index of one factor run through the wrong way round."""
    return torch.matmul(a.flip(-1), b)


def as_matrices(a, b):
    """A product that doesn't look at the shapes: vectors are matrices of one row, or of one column."""
    return torch.matmul(torch.atleast_2d(a), b[:, None] if b.ndim == 1 else b)


def cut_to_fit(a, b):
    """A product that leaves out what has no partner along the inner dimension."""
    inner = min(a.shape[-1], b.shape[-2])
    return torch.matmul(a[..., :inner], b[..., :inner, :])


@claim(
    "pytorch-notes/at-equals-matmul",
    finding="Bit by bit, for vectors, matrices and batches, in float32 and float64; what one refuses the other refuses "
    "in the same words.",
    controls=[override("the inner index reversed", matmul=inner_reversed)],
)
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@given(data=st.data(), matmul=st.just(torch.matmul))
def test_the_at_sign_is_matmul(dtype, data, matmul):
    listing, any_factor = [(3, 4), (4, 5)], shapes(max_dims=3, max_side=3)
    fitting = matmul_pairs(dtype=dtype, elements=fractions)
    of_shapes = st.just(listing) | st.tuples(any_factor, any_factor)
    unfitting = of_shapes.flatmap(lambda pair: st.tuples(*(tensors(shape, dtype, fractions) for shape in pair)))
    a, b = data.draw(unfitting | fitting)
    assert result(operator.matmul, a, b) == result(matmul, a, b)


PRODUCTS = {
    "vector, vector": ("k", "k", torch.dot),
    "matrix, vector": ("nk", "k", torch.mv),
    "vector, matrix": ("k", "km", lambda vector, matrix: torch.mv(matrix.t(), vector)),
    "matrix, matrix": ("nk", "km", torch.mm),
    "batch, batch": ("bnk", "bkm", torch.bmm),
    "batch, matrix": ("bnk", "km", lambda batch, matrix: torch.stack([torch.mm(a, matrix) for a in batch])),
    "batch, vector": ("bnk", "k", lambda batch, vector: torch.stack([torch.mv(a, vector) for a in batch])),
}


@claim(
    "pytorch-notes/matmul-chooses-product",
    finding="dot, mv, mm and bmm by the number of dimensions; batches broadcast, and the rest is what np.matmul does.",
    controls=[
        override("vectors taken for matrices", matmul=as_matrices),
        override("the inner index reversed", matmul=inner_reversed),
    ],
)
@given(
    kind=st.sampled_from(list(PRODUCTS)),
    any_pair=matmul_pairs(),
    size=st.fixed_dictionaries(dict.fromkeys("bnkm", sides)),
    data=st.data(),
    matmul=st.just(torch.matmul),
)
def test_matmul_takes_the_product_that_the_dimensions_call_for(kind, any_pair, size, data, matmul):
    *factors, product = PRODUCTS[kind]
    a, b = (data.draw(tensors(tuple(size[side] for side in factor))) for factor in factors)
    assert torch.equal(matmul(a, b), product(a, b))
    assert np.array_equal(matmul(*any_pair), np.matmul(*(factor.numpy() for factor in any_pair)))


@claim(
    "pytorch-notes/mm-only-2d",
    finding="Vectors and batches are refused, also where matmul would take them, and so are inner sizes that differ; "
    "the message names the shapes.",
    controls=[override("matmul in its place", mm=torch.matmul)],
)
@given(
    pair=matmul_pairs().filter(lambda pair: {factor.ndim for factor in pair} != {2}),
    mm=st.just(torch.mm),
)
def test_mm_refuses_what_is_no_matrix(pair, mm):
    with pytest.raises(RuntimeError, match="must be a matrix"):
        mm(*pair)


@claim("pytorch-notes/mm-only-2d", controls=[override("cut to the common size", mm=cut_to_fit)])
@given(inner=different, n=sides, m=sides, mm=st.just(torch.mm))
def test_mm_wants_equal_inner_sizes(inner, n, m, mm):
    k, other, *_ = inner
    with pytest.raises(RuntimeError, match=rf"cannot be multiplied \({n}x{k} and {other}x{m}\)"):
        mm(torch.ones(n, k), torch.ones(other, m))
    assert torch.equal(mm(torch.ones(n, k), torch.ones(k, m)), torch.full((n, m), float(k)))


@claim(
    "pytorch-notes/bmm-shape",
    finding="Matrix i of the result is the product of the matrices i.",
    controls=[override("the first matrix for all", bmm=lambda a, b: a[:1] @ b)],
)
@given(
    pair=st.tuples(batch_sizes, sides, sides, sides).flatmap(
        lambda size: st.tuples(tensors(size[:3]), tensors((size[0], *size[2:])))
    ),
    listing=st.tuples(tensors((10, 3, 4)), tensors((10, 4, 5))),
    bmm=st.just(torch.bmm),
)
def test_bmm_multiplies_slice_by_slice(pair, listing, bmm):
    assert bmm(*listing).shape == (10, 3, 5)
    assert torch.equal(bmm(*listing), torch.stack(list(map(torch.mm, *listing))))
    assert torch.equal(bmm(*pair), torch.stack(list(map(torch.mm, *pair))))


@claim(
    "pytorch-notes/bmm-only-3d-with-matching-inner-size",
    finding="Vectors, matrices and 4-D batches are refused, also where matmul would take them, and so are inner sizes "
    "that differ; the message names the sizes.",
    controls=[override("matmul in its place", bmm=torch.matmul)],
)
@given(
    pair=matmul_pairs().filter(lambda pair: {factor.ndim for factor in pair} != {3}),
    bmm=st.just(torch.bmm),
)
def test_bmm_refuses_what_is_no_batch_of_matrices(pair, bmm):
    with pytest.raises(RuntimeError, match="must be a 3D tensor"):
        bmm(*pair)


@claim(
    "pytorch-notes/bmm-only-3d-with-matching-inner-size",
    controls=[override("cut to the common size", bmm=cut_to_fit)],
)
@given(inner=different, batch=batch_sizes, n=sides, m=sides, bmm=st.just(torch.bmm))
def test_bmm_wants_equal_inner_sizes(inner, batch, n, m, bmm):
    k, other, *_ = inner
    message = f"batch2 tensor to be: [{batch}, {k}] but got: [{batch}, {other}]"
    with pytest.raises(RuntimeError, match=re.escape(message)):
        bmm(torch.ones(batch, n, k), torch.ones(batch, other, m))
    assert torch.equal(bmm(torch.ones(batch, n, k), torch.ones(batch, k, m)), torch.full((batch, n, m), float(k)))


def taken_in_turn(a, b):
    """A batched product that starts the second batch again where it ends."""
    return torch.matmul(a, b[torch.arange(len(a)) % len(b)])


@claim(
    "pytorch-notes/bmm-conditions-complete",
    verdict=REFUTED,
    finding="The batch sizes must be equal too: (10, 3, 4) with (9, 4, 5) is refused, and so is (1, 4, 5), since bmm "
    "doesn't broadcast. matmul does, for a batch of one.",
    controls=[override("the second batch taken in turn", bmm=taken_in_turn)],
)
@given(
    size=st.sampled_from([(10, 9, 3, 4, 5), (10, 1, 3, 4, 5)]) | different,
    bmm=st.just(torch.bmm),
)
def test_bmm_wants_equal_batch_sizes_too(size, bmm):
    batch, other, n, k, m = size
    a, b = torch.ones(batch, n, k), torch.ones(other, k, m)
    with pytest.raises(RuntimeError, match=re.escape(f"tensor to be: [{batch}, {k}] but got: [{other}, {k}]")):
        bmm(a, b)
    equal = bmm(a, b[:1].expand(batch, k, m))
    assert torch.equal(equal, torch.full((batch, n, m), float(k)))
    assert torch.equal(torch.matmul(a, b[:1]), equal)
