"""Section 3.1: when two shapes fit together, and what comes out."""

import re
from itertools import zip_longest

import hypothesis.strategies as st
import numpy as np
import pytest
import torch
from hypothesis import example, given

from fitcore.testing import REFUTED, claim, override
from fitcore.testing.strategies import broadcastable_shapes, numbered, shapes, tensors

small_shapes = shapes(min_side=0, max_side=3)
shape_pairs = st.tuples(small_shapes, small_shapes) | broadcastable_shapes(min_side=0, max_side=3)


@st.composite
def conflicting_shapes(draw):
    """Two shapes with some dimension where their sizes differ and neither is 1; those after it fit together."""
    dims = draw(st.integers(0, 2))
    ends = draw(broadcastable_shapes(min_dims=dims, max_dims=dims))
    sides = draw(st.permutations([0, 2, 3, 4]))
    return tuple((*draw(shapes(max_dims=2)), side, *end) for side, end in zip(sides, ends, strict=False))


def side_pairs(a, b):
    """The sides of two shapes, aligned from the right, a missing one as 1."""
    return list(zip_longest(reversed(a), reversed(b), fillvalue=1))


def conflicts(a, b):
    return [(m, n) for m, n in side_pairs(a, b) if m != n and 1 not in (m, n)]


def shape_by_the_rules(a, b):
    """The three rules as the document states them; ``None`` where they call for an error."""
    stretched = tuple(n if m == 1 else m for m, n in reversed(side_pairs(a, b)))
    return None if conflicts(a, b) else stretched


def result(operation, error, *operands):
    """What NumPy sees of the result; ``None`` where the operands are refused."""
    try:
        return np.asarray(operation(*operands))
    except error:
        return None


def aligned_from_the_left(a, b):
    dims = max(a.ndim, b.ndim)
    return torch.add(*(t.reshape(t.shape + (1,) * (dims - t.ndim)) for t in (a, b)))


def never_stretched(a, b):
    if a.shape != b.shape:
        raise RuntimeError("shapes differ")
    return a + b


def stretched_to_the_first(a, b):
    return a + b[tuple(slice(side) for side in a.shape)]


def every_pair(a, b):
    """The sum of every element of one with every element of the other: defined for any two shapes."""
    return a.reshape(-1, 1) + b.reshape(-1)


CONTROLS = [
    override("aligned from the left", add=aligned_from_the_left),
    override("never stretched", add=never_stretched),
    override("every pair added", add=every_pair),
]


@claim("pytorch-notes/broadcast-rules-match-numpy", controls=CONTROLS)
@example(pair=(torch.arange(3.0), torch.arange(6.0).view(2, 3)), add=torch.add)
@given(pair=shape_pairs.flatmap(lambda pair: st.tuples(*map(numbered, pair))), add=st.just(torch.add))
def test_broadcasting_follows_the_three_rules_and_numpy(pair, add):
    by_torch = result(add, RuntimeError, *pair)
    by_numpy = result(np.add, ValueError, *(t.numpy() for t in pair))
    assert np.array_equal(by_torch, by_numpy)
    assert getattr(by_torch, "shape", None) == shape_by_the_rules(*(t.shape for t in pair))


@claim("pytorch-notes/broadcast-rules-match-numpy", controls=[override("every pair added", add=every_pair)])
@given(pair=conflicting_shapes(), add=st.just(torch.add))
def test_the_error_names_the_sizes_that_differ(pair, add):
    m, n = conflicts(*pair)[0]
    message = f"size of tensor a ({m}) must match the size of tensor b ({n})"
    with pytest.raises(RuntimeError, match=re.escape(message)):
        add(*map(torch.ones, pair))


@claim(
    "pytorch-notes/broadcast-3x1-plus-1x4",
    finding="Element (i, j) of the sum is a[i, 0] + b[0, j], to the last bit.",
    controls=[
        override("stretched to the first shape alone", add=stretched_to_the_first),
        override("the row written along the column", add=lambda a, b: (a + b)[:, :1].expand(3, 4)),
    ],
)
@given(
    a=tensors((3, 1), elements=st.floats(-3, 3)),
    b=tensors((1, 4), elements=st.floats(-3, 3)),
    add=st.just(torch.add),
)
def test_a_column_and_a_row_add_to_a_matrix(a, b, add):
    total = add(a, b)
    assert total.shape == (3, 4)
    assert np.array_equal(total, np.add.outer(a[:, 0].numpy(), b[0].numpy()))


@claim(
    "pytorch-notes/any-two-shapes-are-expanded",
    verdict=REFUTED,
    finding="Only shapes that the three rules make fit: (3,) + (4,) and (2, 3) + (2,) raise a RuntimeError that names "
    "the sizes. With an axis of size 1 put in by hand, they add.",
    controls=[override("every pair added", add=every_pair)],
)
@pytest.mark.parametrize(
    ("pair", "sizes", "fitted"),
    [([(3,), (4,)], (3, 4), [(3, 1), (4,)]), ([(2, 3), (2,)], (3, 2), [(2, 3), (2, 1)])],
)
def test_shapes_that_do_not_fit_are_refused(pair, sizes, fitted, add=torch.add):
    with pytest.raises(RuntimeError, match=r"tensor a \({}\) must match .* b \({}\)".format(*sizes)):
        add(*map(torch.ones, pair))
    a, b = (torch.ones(shape).reshape(with_an_axis) for shape, with_an_axis in zip(pair, fitted, strict=True))
    assert torch.equal(torch.add(a, b), torch.full(shape_by_the_rules(*fitted), 2.0))


@st.composite
def outgrown(draw):
    """Shapes of which the first is smaller than what they broadcast to: by a new dimension, or by a stretched one."""
    shape, side = draw(shapes(max_dims=3)), draw(st.integers(2, 4))
    return draw(st.sampled_from([((3, 1), (1, 4)), (shape, (side, *shape)), ((*shape, 1), (*shape, side))]))


def put_in_its_place(a, b):
    return a.set_(a + b)


@claim(
    "pytorch-notes/any-two-shapes-are-expanded",
    verdict=REFUTED,
    finding="In place, the tensor written to is never expanded: a (3, 1) tensor refuses add_ of a (1, 4) one, although "
    "their sum exists. The other operand is expanded as ever.",
    controls=[override("the sum put in its place", add_=put_in_its_place)],
)
@given(pair=outgrown().flatmap(lambda pair: st.tuples(*map(tensors, pair))), add_=st.just(torch.Tensor.add_))
def test_the_target_of_an_in_place_operation_is_never_expanded(pair, add_):
    a, b = pair
    total = a + b
    with pytest.raises(RuntimeError, match=re.escape(f"output with shape {list(a.shape)} doesn't match")):
        add_(a, b)
    assert torch.equal(total.clone().add_(b), total + b)
