"""Section 2.8: derivatives of derivatives."""

import hypothesis.strategies as st
import pytest
import torch
from hypothesis import given, settings
from torch.autograd import forward_ad

from fitcore.testing import CONDITIONAL, claim, override
from fitcore.testing.strategies import tensors

points = st.just(torch.tensor(2.0)) | tensors((), torch.float64)

# torch's own forward mode still imports torch.jit, which warns.
warns_of_itself = pytest.mark.filterwarnings("ignore:.torch.jit.script. is deprecated")


def cube(x):
    return x**3


def with_one_factor_constant(x):
    """x³ in value; backward sees two of its three factors."""
    return x**2 * x.detach()


@claim(
    "pytorch-notes/first-second-derivative-of-cube",
    finding="12 and 12 at x = 2; 3x² and 6x at every whole x.",
    controls=[override("one factor held constant", f=with_one_factor_constant)],
)
@settings(max_examples=40)
@given(start=points, f=st.just(cube))
def test_the_cube_has_derivatives_3x_squared_and_6x(start, f, evidence):
    x = start.clone().requires_grad_()
    (first,) = torch.autograd.grad(f(x), x, create_graph=True)
    (second,) = torch.autograd.grad(first, x)
    evidence.figure("f'(2) and f''(2)", reported=[12, 12], measured=derivatives_at_two(f), tolerance=0)
    assert torch.equal(first, 3 * start**2)
    assert torch.equal(second, 6 * start)


def derivatives_at_two(f):
    x = torch.tensor(2.0, requires_grad=True)
    (first,) = torch.autograd.grad(f(x), x, create_graph=True)
    return torch.stack([first.detach(), *torch.autograd.grad(first, x)])


def by_forward_over_reverse(f, start):
    """The tangent of a gradient that was computed without create_graph."""
    with forward_ad.dual_level():
        x = start.clone().requires_grad_()
        (first,) = torch.autograd.grad(f(forward_ad.make_dual(x, torch.ones_like(x))), x)
        return forward_ad.unpack_dual(first).tangent


def by_forward_over_forward(f, start):
    return torch.func.jacfwd(torch.func.jacfwd(f))(start)


@claim(
    "pytorch-notes/create-graph-required-for-second-derivative",
    verdict=CONDITIONAL,
    finding="Needed for autograd.grad(grad1, x): without it grad1 has no history and the call raises. Forward mode "
    "finds 6x without it, over a plain autograd.grad or over itself (torch.func.jacfwd).",
    controls=[override("with create_graph=True", create_graph=True)],
)
@warns_of_itself
@pytest.mark.parametrize("otherwise", [by_forward_over_reverse, by_forward_over_forward])
@settings(max_examples=20)
@given(start=points, create_graph=st.just(False))
def test_a_second_reverse_pass_needs_create_graph_and_forward_mode_does_not(start, create_graph, otherwise):
    x = start.clone().requires_grad_()
    (first,) = torch.autograd.grad(cube(x), x, create_graph=create_graph)
    with pytest.raises(RuntimeError, match="does not require grad"):
        torch.autograd.grad(first, x)
    (with_history,) = torch.autograd.grad(cube(x), x, create_graph=True)
    assert torch.equal(torch.autograd.grad(with_history, x)[0], 6 * start)
    assert torch.equal(otherwise(cube, start), 6 * start)
