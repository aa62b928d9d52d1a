"""Sections 2, 2.1 and 2.3: the derivatives worked out by hand, against algebra, differences and autograd."""

import hypothesis.strategies as st
import pytest
import sympy
import torch
from hypothesis import given, settings
from torch.testing import assert_close

from fitcore.gradients import central_difference, gradient
from fitcore.testing import REFUTED, claim, override
from fitcore.testing.strategies import tensors

X, Y, U = sympy.symbols("x y u")

whole = st.integers(-9, 9).map(lambda value: torch.tensor(float(value), dtype=torch.float64))


def line(slope, intercept):
    return lambda x: slope * x + intercept


def with_slope_one(slope, intercept):
    """The same line in value; backward takes its slope for 1."""
    return lambda x: x + (slope * x + intercept - x).detach()


def chain_rule(outer, inner):
    return outer.diff(U).subs(U, inner) * inner.diff(X)


def outer_derivative(outer, inner):
    return outer.diff(U).subs(U, inner)


@claim(
    "pytorch-notes/derivative-5x-plus-3-squared",
    controls=[override("the inner derivative left out", rule=outer_derivative)],
)
def test_expansion_and_the_chain_rule_agree_on_the_derivative(rule=chain_rule):
    outer, inner = U**2, 5 * X + 3
    expanded = sympy.expand(outer.subs(U, inner))
    assert expanded == 25 * X**2 + 30 * X + 9
    assert expanded.diff(X) == 50 * X + 30
    assert sympy.expand(rule(outer, inner)) == 50 * X + 30


@claim(
    "pytorch-notes/derivative-5x-plus-3-squared",
    finding="Exact to the last bit on whole numbers; a central difference with a step of 0.5 finds the same.",
    controls=[override("the inner derivative left out", inner=with_slope_one(5, 3))],
)
@settings(max_examples=40)
@given(
    points=st.just(torch.linspace(-5, 5, 11, dtype=torch.float64)) | tensors((11,), torch.float64),
    inner=st.just(line(5, 3)),
)
def test_autograd_and_differences_find_the_derivative_of_the_squared_line(points, inner, evidence):
    def squares(x):
        return (inner(x) ** 2).sum()

    automatic, numerical = gradient(squares, points), central_difference(squares, points, delta=0.5)
    evidence.table(
        "d(5x+3)²/dx at the last points drawn",
        [
            {"x": float(x), "autograd": float(a), "central difference": float(n)}
            for x, a, n in zip(points, automatic, numerical, strict=True)
        ],
    )
    assert torch.equal(automatic, 50 * points + 30)
    assert_close(numerical, automatic)


def surface(x, y, product=torch.mul):
    return x**2 + y**3 + product(x, y)


def untracked_product(x, y):
    return (x * y).detach()


@claim(
    "pytorch-notes/z-value-and-partials",
    controls=[override("the product left out of the graph", product=untracked_product)],
)
def test_z_and_its_partial_derivatives_are_as_printed(evidence, product=torch.mul):
    x, y = torch.tensor(2.0, requires_grad=True), torch.tensor(3.0, requires_grad=True)
    z = surface(x, y, product)
    z.backward()
    measured = torch.stack([z.detach(), x.grad, y.grad])
    assert evidence.figure("z, ∂z/∂x, ∂z/∂y", reported=[37, 7, 29], measured=measured, tolerance=0)


@claim(
    "pytorch-notes/z-value-and-partials",
    finding="The comments' formulas, ∂z/∂x = 2x + y and ∂z/∂y = 3y² + x, are what algebra gives, and autograd finds "
    "them at every whole x and y.",
    controls=[override("the product left out of the graph", product=untracked_product)],
)
@settings(max_examples=40)
@given(x=whole, y=whole, product=st.just(torch.mul))
def test_the_formulas_in_the_comments_are_the_partial_derivatives(x, y, product):
    z = surface(X, Y, product=lambda a, b: a * b)
    assert (z.diff(X), z.diff(Y)) == (2 * X + Y, 3 * Y**2 + X)
    found = gradient(lambda point: surface(*point, product), torch.stack([x, y]))
    assert torch.equal(found, torch.stack([2 * x + y, 3 * y**2 + x]))


@claim(
    "pytorch-notes/chain-rule-z-3x-squared",
    finding="At every whole x, not at 2 alone: x.grad = 2y·3 = 18x.",
    controls=[override("the inner derivative left out", inner=with_slope_one(3, 0))],
)
@settings(max_examples=40)
@given(start=st.just(torch.tensor(2.0)) | whole, inner=st.just(line(3, 0)))
def test_backward_multiplies_the_derivatives_along_the_chain(start, inner):
    x = start.clone().requires_grad_()
    y = inner(x)
    (y**2).backward()
    assert torch.equal(x.grad, (2 * y) * 3)
    assert torch.equal(x.grad, 18 * start)


def written_with_fractions(line):
    return line


def written_with_names(line):
    """``dz/dx`` as a name, ``dz_dx``, and ``2y`` as a product."""
    return line.replace("dz/", "dz_").replace("dy/", "dy_").replace("2y", "2*y")


@claim(
    "pytorch-notes/listing-chain-rule-pseudocode",
    verdict=REFUTED,
    finding="They are mathematics: Python reads dz/dx on the left as a quotient, to which nothing can be assigned, and "
    "2y as a number that goes wrong. With dz_dx for dz/dx and 2*y for 2y both run and give the 36 of x.grad.",
    controls=[override("names in place of fractions", spelling=written_with_names)],
)
@pytest.mark.parametrize(
    ("line", "mistake"),
    [
        ("dz/dx = dz/dy * dy/dx", "cannot assign to expression"),
        ("dz/dx = (2y) * (3)", "invalid decimal literal"),
    ],
)
def test_the_chain_rule_lines_are_no_python(line, mistake, spelling=written_with_fractions):
    with pytest.raises(SyntaxError, match=mistake):
        compile(spelling(line), "listing", "exec")
    x = torch.tensor([2.0], requires_grad=True)
    y = x * 3
    (y**2).backward()
    names = {"y": y.detach(), "dz_dy": 2 * y.detach(), "dy_dx": 3}
    exec(written_with_names(line), names)
    assert torch.equal(names["dz_dx"], x.grad)
