"""Section 1.4, and the broadcast of section 1.10: arithmetic on tensors."""

import hypothesis.strategies as st
import numpy as np
import pytest
import torch
from hypothesis import example, given

from fitcore.testing import REFUTED, claim, override, replace
from fitcore.testing.strategies import dtypes, tensors

OPERATIONS = ["a+b", "a-b", "a*b"]

sizes = st.integers(1, 6)
square_pairs = sizes.flatmap(lambda n: st.tuples(*[tensors((n, n), torch.int64)] * 2))
vector_pairs = sizes.flatmap(lambda n: st.tuples(*[tensors((n,), torch.int64)] * 2))


@claim(
    "pytorch-notes/listing-arithmetic-line-is-not-python",
    verdict=REFUTED,
    finding="Three expressions side by side are a SyntaxError: the line is a list of what there is. A line each, they "
    "run.",
    controls=[override("a line each", separator="\n")],
)
def test_expressions_side_by_side_are_no_python(separator=" "):
    with pytest.raises(SyntaxError):
        compile(separator.join(OPERATIONS), "listing", "exec")
    exec(compile("\n".join(OPERATIONS), "listing", "exec"), {"a": torch.ones(2), "b": torch.ones(2)})


@claim(
    "pytorch-notes/star-is-elementwise-at-is-matmul",
    controls=[
        replace("torch.Tensor.__mul__", torch.Tensor.matmul, name="'*' as matrix product"),
        replace("torch.Tensor.__matmul__", torch.Tensor.mul, name="'@' element by element"),
    ],
)
@example(pair=(torch.tensor([[1, 2], [3, 4]]), torch.tensor([[0, 1], [1, 0]])))
@given(pair=square_pairs)
def test_star_multiplies_elements_and_at_multiplies_matrices(pair):
    a, b = pair
    assert np.array_equal(a * b, np.einsum("ij,ij->ij", a, b))
    assert np.array_equal(a @ b, np.einsum("ik,kj->ij", a, b))


def add_to_the_first(tensor, number):
    total = tensor.clone()
    total.view(-1)[0] += number
    return total


@claim("pytorch-notes/scalar-broadcast-add", controls=[replace("torch.Tensor.__add__", add_to_the_first)])
@example(a=torch.tensor([1, 2, 3]), number=3)
@given(a=tensors(dtype=dtypes()), number=st.integers(0, 20))
def test_a_number_is_added_to_every_element(a, number):
    total = a + number
    assert total.shape == a.shape
    assert total.dtype == a.dtype
    assert total.flatten().tolist() == [element + number for element in a.flatten().tolist()]


def product_of_sums(a, b):
    return a.sum() * b.sum()


@claim(
    "pytorch-notes/dot-is-the-dot-product",
    "pytorch-notes/dot-equals-at-for-vectors",
    finding="32 for [1, 2, 3] and [4, 5, 6], whichever way.",
    controls=[
        replace("torch.dot", torch.mul, name="products that are not summed"),
        replace("torch.dot", product_of_sums),
        replace("torch.Tensor.__matmul__", torch.Tensor.outer, name="'@' as outer product"),
    ],
)
@example(pair=(torch.tensor([1, 2, 3]), torch.tensor([4, 5, 6])))
@given(pair=vector_pairs)
def test_dot_is_the_sum_of_products_and_equals_at(pair):
    a, b = pair
    products = [x * y for x, y in zip(a.tolist(), b.tolist(), strict=True)]
    assert torch.equal(torch.dot(a, b), torch.tensor(sum(products)))
    assert torch.equal(a @ b, torch.dot(a, b))


A_VECTOR = torch.ones(3)


@claim(
    "pytorch-notes/dot-works-for-any-shape",
    verdict=REFUTED,
    finding="dot takes two vectors of one length and one dtype: no matrices, no broadcasting, no mixed dtypes. "
    "(a * b).sum() takes them all.",
    controls=[override("two vectors", a=A_VECTOR, b=A_VECTOR)],
)
@pytest.mark.parametrize(
    ("a", "b", "message"),
    [
        pytest.param(torch.ones(2, 2), torch.ones(2, 2), "1D tensors expected, but got 2D and 2D", id="matrices"),
        pytest.param(torch.ones(3), torch.ones(1), r"tensor \[3\] and src \[1\]", id="broadcasting"),
        pytest.param(torch.ones(3), torch.arange(3), "same dtype, but found Float and Long", id="mixed dtypes"),
    ],
)
def test_dot_takes_only_two_vectors_of_one_length_and_dtype(a, b, message):
    with pytest.raises(RuntimeError, match=message):
        torch.dot(a, b)
    assert (a * b).sum() == np.sum(a.numpy() * b.numpy())


def add_the_mean(a, b):
    return torch.add(a.float().mean(), b)


@claim(
    "pytorch-notes/broadcast-1x4x1-with-3x4x5",
    finding="Entry j of the four is added to row j of every face. Without the axes of length 1, a vector of four "
    "doesn't fit: it would be lined up with the columns, of which there are five.",
    controls=[replace("torch.Tensor.__add__", add_the_mean)],
)
@given(a=tensors((1, 4, 1)), b=tensors((3, 4, 5)), row=st.integers(0, 3))
def test_axes_of_length_one_are_stretched(a, b, row):
    total = a + b
    assert total.shape == (3, 4, 5)
    assert torch.equal(total[:, row], torch.add(b[:, row], a.flatten()[row]))
    with pytest.raises(RuntimeError, match=r"tensor a \(4\) must match the size of tensor b \(5\)"):
        a.flatten() + b
