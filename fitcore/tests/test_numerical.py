import pytest
import torch
from torch.testing import assert_close

from fitcore.gradients import central_difference, gradient

POINT = torch.tensor([0.3, -1.2, 2.0], dtype=torch.float64)


def cubic(point):
    return (point**3).sum()


def quadratic(point):
    return (point**2).sum() + point.prod()


def test_exact_in_each_coordinate_of_a_quadratic():
    assert_close(central_difference(quadratic, POINT, delta=0.5), gradient(quadratic, POINT))


@pytest.mark.parametrize("delta", [0.1, 0.01])
def test_error_is_delta_squared_sixths_of_the_third_derivative(delta):
    error = central_difference(cubic, POINT, delta) - gradient(cubic, POINT)
    assert_close(error, torch.full_like(POINT, delta**2 / 6 * 6))


@pytest.mark.parametrize("delta", [0.0, -0.1, float("nan")])
def test_delta_must_be_positive(delta):
    with pytest.raises(ValueError, match=f"delta must be positive, got {delta}"):
        central_difference(cubic, POINT, delta)


@pytest.mark.parametrize("tracked", [True, False])
def test_gradient_leaves_the_point_alone(tracked):
    point = POINT.clone().requires_grad_(tracked)
    assert_close(gradient(quadratic, point), central_difference(quadratic, POINT, delta=0.5))
    assert point.grad is None
    assert point.requires_grad == tracked
