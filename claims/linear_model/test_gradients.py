"""Section 1.1.3: what the gradient is, and whether the derivatives written by hand are it."""

from functools import partial

import hypothesis.strategies as st
import numpy as np
import pytest
import torch
from hypothesis import assume, given, settings
from hypothesis.extra.numpy import arrays
from torch.testing import assert_close

from fitcore.data import thermometer_readings
from fitcore.ensembles import QuadraticDynamics
from fitcore.gradients import (
    averaged_chain_rule,
    central_difference,
    chain_rule,
    gradient,
    linear_derivatives,
    mse,
    mse_derivative,
)
from fitcore.models import design_matrix, linear
from fitcore.testing import CONDITIONAL, REFUTED, claim, override
from fitcore.training.thermometer import thermometer_loss

T_U, T_C = thermometer_readings(torch.float64)
LOSS = thermometer_loss(dtype=torch.float64)
START = torch.tensor([1.0, 0.0], dtype=torch.float64)
HESSIAN = QuadraticDynamics.from_regression(design_matrix(T_U), T_C).hessian


def vectors(size):
    return arrays(np.float64, size, elements=st.floats(-100, 100)).map(torch.from_numpy)


points = st.just(START) | st.tuples(st.floats(-5, 5), st.floats(-50, 50)).map(
    lambda point: torch.tensor(point, dtype=torch.float64)
)
samples = st.just((T_U, T_C)) | st.integers(2, 12).flatmap(lambda n: st.tuples(vectors(n), vectors(n)))


def thermometer_gradient(params):
    return chain_rule(params, T_U, T_C)[1]


def newton_direction(params):
    return torch.linalg.solve(HESSIAN, thermometer_gradient(params))


def slope_along(direction, params, length=1e-3):
    """Rise of the loss for each unit moved, from small steps to either side."""
    rise = torch.vmap(LOSS)(params + length * direction) - torch.vmap(LOSS)(params - length * direction)
    return rise / (2 * length)


@claim(
    "linear-model/gradient-is-steepest-ascent",
    finding="Of 720 directions round the start, and round any other point, none raises the loss faster than the "
    "gradient.",
    controls=[override("the Newton direction", direction_at=newton_direction)],
)
@settings(max_examples=40)
@given(params=points, direction_at=st.just(thermometer_gradient))
def test_no_direction_raises_the_loss_faster_than_the_gradient(params, direction_at, evidence):
    direction = direction_at(params)
    assume(direction.norm() > 1e-2)
    angles = torch.linspace(-torch.pi, torch.pi, 721, dtype=torch.float64)
    slopes = slope_along(torch.stack([angles.cos(), angles.sin()], -1), params)
    steepest = slope_along((direction / direction.norm())[None], params)
    evidence.curve(
        "slope of the loss", angles.rad2deg(), {"by direction": slopes}, x_label="angle in the (w, b) plane, °"
    )
    assert (slopes <= steepest * (1 + 1e-8)).all()
    assert (slopes >= -steepest * (1 + 1e-8)).all()


@claim(
    "linear-model/step-against-gradient-lowers-loss",
    verdict=CONDITIONAL,
    finding="True of short steps only: the loss falls up to twice the step to the bottom of the parabola that it "
    "passes. At w = 1, b = 0 that is a rate of 3.4e-4: 1e-4 lowers the loss, 1e-2 raises it from 1764 to 5.8 "
    "million.",
    controls=[override("a step along the gradient", sign=+1.0)],
)
@settings(max_examples=40)
@given(params=points, share=st.floats(0.01, 0.99), sign=st.just(-1.0))
def test_a_step_against_the_gradient_lowers_the_loss_if_it_is_short(params, share, sign, evidence):
    slope = thermometer_gradient(params)
    assume(slope.norm() > 1e-2)
    limit = 2 * slope.dot(slope) / slope.dot(HESSIAN @ slope)
    evidence.observe("largest rate that lowers the loss", limit)
    short, long = (LOSS(params + sign * lr * slope) for lr in (share * limit, limit / share))
    assert short < LOSS(params) < long
    at_start = [LOSS(START + sign * lr * thermometer_gradient(START)) for lr in (1e-4, 1e-2)]
    assert at_start[0] < LOSS(START) < at_start[1]


def turned(vector, angle):
    cos, sin = np.cos(angle), np.sin(angle)
    return torch.tensor([[cos, -sin], [sin, cos]], dtype=torch.float64) @ vector


@claim(
    "linear-model/only-against-the-gradient-does-the-loss-fall",
    verdict=REFUTED,
    finding="A short step in any direction at more than 90° to the gradient lowers it: half of all directions do. From "
    "w = 1, b = 0 the straight way to the minimum is at 92.6°, almost across. Steps at less than 90° raise the loss, "
    "however short.",
    controls=[override("at less than 90° to the gradient", behind=0.0)],
)
@settings(max_examples=40)
@given(params=points, angle=st.floats(-1.5, 1.5), share=st.floats(0.01, 0.99), behind=st.just(np.pi))
def test_a_short_step_at_any_obtuse_angle_to_the_gradient_lowers_the_loss(params, angle, share, behind, evidence):
    slope = thermometer_gradient(params)
    assume(slope.norm() > 1)
    obtuse, acute = turned(slope, behind + angle), turned(slope, angle)
    step = 2 * share * slope.dot(obtuse).abs() / obtuse.dot(HESSIAN @ obtuse)
    assert LOSS(params + step * obtuse) < LOSS(params) < LOSS(params + step * acute)
    at_start, way = thermometer_gradient(START), -newton_direction(START)
    cosine = torch.cosine_similarity(at_start, way, dim=0)
    evidence.observe("angle between the gradient and the way to the minimum, °", cosine.acos().rad2deg())
    assert cosine < 0


def undivided(predictions, targets):
    return 2 * (predictions - targets)


@claim(
    "linear-model/dloss-formula-is-derivative-of-mse",
    controls=[override("the derivative of the sum of squares", derivative=undivided)],
)
@settings(max_examples=40)
@given(sample=samples, derivative=st.just(mse_derivative))
def test_mse_derivative_is_what_autograd_finds(sample, derivative):
    predictions, targets = sample
    assume((predictions - targets).norm() > 1e-3)
    assert_close(derivative(predictions, targets), gradient(lambda p: mse(p, targets), predictions))


def parabola(x, w, b):
    return w * x**2 + b


@claim(
    "linear-model/dmodel-dw-is-t-u-and-db-is-one",
    controls=[override("a parabola for a model", model=parabola)],
)
@settings(max_examples=40)
@given(params=points, x=st.just(T_U) | vectors(11), model=st.just(linear))
def test_the_line_changes_by_x_with_w_and_by_one_with_b(params, x, model):
    assume(x.abs().max() > 2)
    of_w, of_b = torch.autograd.functional.jacobian(partial(model, x), tuple(params))
    by_w, by_b = linear_derivatives(x)
    assert_close(of_w, by_w)
    assert_close(of_b, torch.full_like(x, by_b))


@claim(
    "linear-model/manual-grad-equals-autograd",
    verdict=REFUTED,
    finding="grad_fn returns the gradient divided by the number of samples: the derivative of the mean has been "
    "divided by n already, and the chain rule wants the sum over samples, not their mean. Its learning rate is in "
    "effect lr/11.",
    controls=[override("the sum over samples", rule=chain_rule)],
)
@settings(max_examples=40)
@given(params=points, sample=samples, rule=st.just(averaged_chain_rule))
def test_grad_fn_returns_an_nth_of_the_gradient(params, sample, rule, evidence):
    x, y = sample
    truth = gradient(lambda p: mse(linear(x, *p), y), params)
    assume(truth.norm() > 1e-3)
    _, returned = rule(params, x, y)
    evidence.observe("gradient over what grad_fn returns, per sample", truth.norm() / returned.norm() / len(x))
    assert not torch.allclose(returned, truth)
    assert_close(returned * len(x), truth)
    assert_close(chain_rule(params, x, y)[1], truth)


def forward_difference(f, point, delta):
    shifts = delta * torch.eye(len(point), dtype=point.dtype)
    return torch.stack([(f(point + shift) - f(point)) / delta for shift in shifts])


@claim(
    "linear-model/central-difference-approximates-derivative",
    finding="The loss is quadratic in w and b, so a central difference is its derivative exactly, with any delta; in "
    "float32 rounding leaves a relative error of 6e-6 at delta = 0.1. A one-sided difference would be off by 6.5 % "
    "in w.",
    controls=[override("a one-sided difference", difference=forward_difference)],
)
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_a_central_difference_is_the_derivative(dtype, evidence, difference=central_difference):
    loss, start = thermometer_loss(dtype=dtype), START.to(dtype)
    derivative = gradient(loss, start)
    error = difference(loss, start, delta=0.1) / derivative - 1
    evidence.observe(f"relative error in w and in b, {dtype}", error)
    assert error.abs().max() < 1_000 * torch.finfo(dtype).eps


@claim(
    "linear-model/central-difference-approximates-derivative",
    finding="Exact for any delta between 0.01 and 10, at any point, in float64.",
    controls=[override("a one-sided difference", difference=forward_difference)],
)
@settings(max_examples=40)
@given(params=points, delta=st.floats(0.01, 10), difference=st.just(central_difference))
def test_a_central_difference_is_exact_for_a_quadratic_loss(params, delta, difference):
    numerical = difference(LOSS, params, delta)
    assert_close(numerical, gradient(LOSS, params), rtol=1e-7, atol=1e-6)
