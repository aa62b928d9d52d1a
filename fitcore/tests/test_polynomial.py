import numpy as np
import pytest
import torch
from torch.testing import assert_close

from fitcore.models import PolynomialModel, legendre_features, power_features


def test_the_first_features_are_one_and_the_rescaled_point():
    features = legendre_features(torch.tensor([-3.0, 0.0, 3.0]), 1, low=-3, high=3)
    assert_close(features, torch.tensor([[1, -1], [1, 0], [1, 1]], dtype=torch.float64))


def test_features_span_the_polynomials():
    x = torch.linspace(-3, 3, 50, dtype=torch.float64)
    features = legendre_features(x, 5, low=-3, high=3)
    powers = torch.stack([x**k for k in range(6)], dim=-1)
    coefficients = torch.linalg.lstsq(features, powers).solution
    assert_close(features @ coefficients, powers)


def test_features_are_far_better_conditioned_than_powers():
    x = torch.linspace(-5, 5, 200, dtype=torch.float64)
    powers = torch.stack([x**k for k in range(11)], dim=-1)
    assert np.linalg.cond(legendre_features(x, 10, low=-5, high=5)) < 1e-5 * np.linalg.cond(powers)


@pytest.mark.parametrize(("degree", "low", "high", "said"), [(-1, -1, 1, "degree must be"), (2, 1, 1, "low must be")])
def test_arguments_out_of_range_are_refused(degree, low, high, said):
    with pytest.raises(ValueError, match=said):
        legendre_features(torch.zeros(2), degree, low, high)


def test_power_features_are_the_powers_without_a_constant():
    x = torch.tensor([[[-2.0]], [[3.0]]])
    assert_close(power_features(x, 3), torch.tensor([[[-2.0, 4.0, -8.0]], [[3.0, 9.0, 27.0]]]))


def test_the_model_is_the_polynomial_of_its_coefficients():
    torch.manual_seed(0)
    model, x = PolynomialModel(4), torch.linspace(-2, 2, 9)[:, None]
    w = model.coefficients.weight.flatten().tolist()
    assert_close(model(x), sum(weight * x**power for power, weight in enumerate(w, 1)))
    assert [tuple(p.shape) for p in model.parameters()] == [(1, 4)]
    assert model(torch.zeros(1, 1)).item() == 0


@pytest.mark.parametrize("refuses", [PolynomialModel, lambda degree: power_features(torch.zeros(2, 1), degree)])
def test_a_degree_below_one_is_refused(refuses):
    with pytest.raises(ValueError, match="degree must be at least 1, got 0"):
        refuses(0)


@pytest.mark.parametrize("shape", [(), (5,), (5, 2)])
def test_points_that_are_no_column_are_refused(shape):
    with pytest.raises(ValueError, match="x must have shape"):
        power_features(torch.zeros(shape), 2)
