"""Hypothesis strategies for tensors: shapes, dtypes, values and memory layouts, on top of ``hypothesis.extra.numpy``.

They shrink towards what is easy to read: few dimensions, few elements, float32, zeros and ones, contiguous memory.
Hypothesis is heavy: nothing else in ``fitcore.testing`` imports it, so this module is imported by its own name.
"""

import math
from typing import Any, TypeVar

import numpy as np
import torch
from hypothesis import note
from hypothesis import strategies as st
from hypothesis.extra.numpy import array_shapes, arrays, mutually_broadcastable_shapes
from hypothesis.strategies import SearchStrategy
from torch import Tensor

Shape = tuple[int, ...]
Drawn = TypeVar("Drawn")

FLOATING = (torch.float32, torch.float64, torch.float16, torch.bfloat16)
INTEGER = (torch.int64, torch.int32, torch.int16, torch.int8, torch.uint8)
COMPLEX = (torch.complex64, torch.complex128)

LARGEST_ELEMENT = 9
BETWEEN = 99  # what lies between a strided tensor's elements in memory: no default element, so that reading it shows


def shapes(min_dims: int = 0, max_dims: int = 4, min_side: int = 1, max_side: int = 5) -> SearchStrategy[Shape]:
    """Shapes of ``min_dims`` to ``max_dims`` dimensions; with ``min_side=0`` also those of empty tensors."""
    return array_shapes(min_dims=min_dims, max_dims=max_dims, min_side=min_side, max_side=max_side)


@st.composite
def shapes_of_size(draw: st.DrawFn, size: int, max_dims: int = 4) -> Shape:
    """Shapes of ``size`` elements in one to ``max_dims`` dimensions: what a tensor of that size can be reshaped to."""
    sides: list[int] = []
    for _ in range(draw(st.integers(0, max_dims - 1))):
        left = size // math.prod(sides)
        sides.append(draw(st.sampled_from([side for side in range(1, left + 1) if left % side == 0])))
    return (*sides, size // math.prod(sides))


def dtypes(
    floating: bool = True,
    integer: bool = True,
    boolean: bool = False,
    complex: bool = False,
) -> SearchStrategy[torch.dtype]:
    """dtypes of the kinds asked for, the most usual first: float32, or else int64, bool, complex64."""
    kinds = zip((floating, integer, boolean, complex), (FLOATING, INTEGER, (torch.bool,), COMPLEX), strict=True)
    return st.sampled_from([dtype for wanted, kind in kinds if wanted for dtype in kind])


def elements_of(dtype: torch.dtype) -> SearchStrategy[Any]:
    """Whole numbers from -9 to 9 (unsigned: from 0), which every dtype holds exactly; booleans; Gaussian integers.

    Sums and products of a few of them are exact too, even in half precision, whatever the order of summation.
    """
    if dtype == torch.bool:
        return st.booleans()
    signed = dtype.is_floating_point or dtype.is_complex or torch.iinfo(dtype).min < 0
    whole = st.integers(-LARGEST_ELEMENT if signed else 0, LARGEST_ELEMENT)
    return st.builds(complex, whole, whole) if dtype.is_complex else whole


@st.composite
def tensors(
    draw: st.DrawFn,
    shape: Shape | SearchStrategy[Shape] | None = None,
    dtype: torch.dtype | SearchStrategy[torch.dtype] = torch.float32,
    elements: SearchStrategy[Any] | None = None,
    requires_grad: bool = False,
) -> Tensor:
    """Contiguous tensors.

    Args:
        draw: given by Hypothesis.
        shape: a shape or a strategy for it; by default ``shapes()``.
        dtype: a dtype or a strategy for it.
        elements: numbers, rounded to ``dtype``; by default ``elements_of(dtype)``.
        requires_grad: whether they are leaves that require a gradient.

    Returns:
        Strategy for tensors with a storage of their own.

    """
    drawn_dtype = draw(_strategy(dtype))
    array = arrays(
        _widest(drawn_dtype),
        draw(_strategy(shapes() if shape is None else shape)),
        elements=elements_of(drawn_dtype) if elements is None else elements,
    )
    return torch.tensor(draw(array), dtype=drawn_dtype, requires_grad=requires_grad)


def numbered(
    shape: Shape | SearchStrategy[Shape] | None = None, dtype: torch.dtype | SearchStrategy[torch.dtype] = torch.int64
) -> SearchStrategy[Tensor]:
    """Contiguous tensors of 0, 1, 2, … in row-major order: every element tells where it came from.

    At most 625 by default, which bool, int8 and uint8 don't hold.
    """
    return st.builds(
        lambda sides, kind: torch.arange(math.prod(sides)).reshape(sides).to(kind),
        _strategy(shapes() if shape is None else shape),
        _strategy(dtype),
    )


@st.composite
def strided(draw: st.DrawFn, base: SearchStrategy[Tensor], overlapping: bool = False) -> Tensor:
    """Tensors with the values of ``base`` in any memory layout: permuted, with steps, with an offset, or contiguous.

    Strides and offset, which a printed tensor doesn't show, are noted with the failing example.

    Args:
        draw: given by Hypothesis.
        base: strategy for the values; its shape, dtype and ``requires_grad`` are kept.
        overlapping: whether some dimensions may be expanded, with stride 0: there the first value stands for all.

    Returns:
        Strategy for leaves on a storage of their own.

    """
    values = draw(base)
    order, steps, starts = (
        draw(layout)
        for layout in (
            st.permutations(range(values.ndim)),
            st.tuples(*[st.integers(1, 2)] * values.ndim),
            st.tuples(*[st.integers(0, 1)] * values.ndim),
        )
    )
    once = draw(st.tuples(*[st.booleans()] * values.ndim)) if overlapping else (False,) * values.ndim
    kept = values.detach()[tuple(slice(1) if shared else slice(None) for shared in once)]
    window = tuple(slice(i, i + k * side, k) for i, k, side in zip(starts, steps, kept.shape, strict=True))
    memory = torch.full([window[dim].stop for dim in order], BETWEEN).to(values.dtype)
    placed = memory.permute(np.argsort(order).tolist())[window]
    placed.copy_(kept)
    laid_out = placed.expand(values.shape)
    note(f"stride {laid_out.stride()}, offset {laid_out.storage_offset()}, {memory.numel()} elements in memory")
    return laid_out.requires_grad_(values.requires_grad)


def slices(side: int) -> SearchStrategy[slice]:
    """Slices of a dimension of ``side`` elements, some empty, with steps of 1 to 3: torch has no negative ones."""
    return st.builds(slice, st.integers(0, side), st.integers(0, side), st.integers(1, 3))


@st.composite
def views(draw: st.DrawFn, tensor: Tensor) -> Tensor:
    """Views of ``tensor``: an index or slice in each dimension, and then the dimensions in any order."""
    index = [draw(slices(side) | st.integers(-side, side - 1) if side else slices(side)) for side in tensor.shape]
    part = tensor[tuple(index)]
    return part.permute(draw(st.permutations(range(part.ndim))))


def broadcastable_shapes(
    count: int = 2, min_dims: int = 0, max_dims: int = 4, min_side: int = 1, max_side: int = 5
) -> SearchStrategy[tuple[Shape, ...]]:
    """``count`` shapes that broadcast against each other."""
    return mutually_broadcastable_shapes(
        num_shapes=count, min_dims=min_dims, max_dims=max_dims, min_side=min_side, max_side=max_side
    ).map(lambda drawn: drawn.input_shapes)


def broadcastable_tensors(
    count: int = 2,
    dtype: torch.dtype | SearchStrategy[torch.dtype] = torch.float32,
    elements: SearchStrategy[Any] | None = None,
    requires_grad: bool = False,
) -> SearchStrategy[tuple[Tensor, ...]]:
    """``count`` contiguous tensors that broadcast against each other; where dtype is a strategy, each draws its own."""
    return broadcastable_shapes(count).flatmap(
        lambda drawn: st.tuples(*(tensors(shape, dtype, elements, requires_grad) for shape in drawn))
    )


def matmul_shapes(
    vectors: bool = True, max_batch_dims: int = 2, min_side: int = 1, max_side: int = 4
) -> SearchStrategy[tuple[Shape, Shape]]:
    """Shapes of two factors that ``matmul`` multiplies: matrices, batches of them that broadcast, and vectors."""
    return mutually_broadcastable_shapes(
        signature="(n?,k),(k,m?)->(n?,m?)" if vectors else "(n,k),(k,m)->(n,m)",
        max_dims=max_batch_dims,
        min_side=min_side,
        max_side=max_side,
    ).map(lambda drawn: (drawn.input_shapes[0], drawn.input_shapes[1]))


def matmul_pairs(
    vectors: bool = True, dtype: torch.dtype = torch.float32, elements: SearchStrategy[Any] | None = None
) -> SearchStrategy[tuple[Tensor, Tensor]]:
    """Two contiguous factors that ``matmul`` multiplies; of the default elements every product is exact."""
    return matmul_shapes(vectors).flatmap(lambda pair: st.tuples(*(tensors(shape, dtype, elements) for shape in pair)))


def _strategy(value: Drawn | SearchStrategy[Drawn]) -> SearchStrategy[Drawn]:
    return value if isinstance(value, SearchStrategy) else st.just(value)


def _widest(dtype: torch.dtype) -> np.dtype[Any]:
    """NumPy's widest dtype of the same kind, since NumPy has no bfloat16."""
    if dtype == torch.bool:
        return np.dtype(bool)
    if dtype.is_complex:
        return np.dtype(complex)
    return np.dtype(float if dtype.is_floating_point else np.int64)
