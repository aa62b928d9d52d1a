"""The task of the document: to learn the conversion from Fahrenheit to Celsius from eleven readings."""

import torch
from torch.testing import assert_close

from fitcore.data import thermometer_readings
from fitcore.ensembles import QuadraticDynamics
from fitcore.models import design_matrix
from fitcore.testing import REFUTED, claim, override
from fitcore.training.thermometer import fit_with_autograd


def fahrenheit(celsius):
    return 1.8 * celsius + 32


def exact_readings(dtype):
    _, celsius = thermometer_readings(dtype)
    return fahrenheit(celsius), celsius


@claim(
    "linear-model/t-u-is-exact-fahrenheit-of-t-c",
    verdict=REFUTED,
    finding="None is: the readings miss the conversion by 0.5 to 5.6 °F, either way. They carry noise.",
    controls=[override("converted by the formula", readings=exact_readings)],
)
def test_no_reading_is_the_fahrenheit_equivalent(evidence, readings=thermometer_readings):
    t_u, t_c = readings(torch.float64)
    errors = t_u - fahrenheit(t_c)
    evidence.observe("t_u less the Fahrenheit equivalent of t_c", errors, unit="°F")
    assert (errors.abs() > 0.4).all()
    assert (errors.abs() < 6).all()


@claim(
    "linear-model/training-recovers-celsius-formula",
    verdict=REFUTED,
    finding="It finds C = 0.5368 F - 17.304, the least-squares line of noisy readings, as near the rule as their noise "
    "allows (standard errors 0.036 and 1.9). From exact readings the same training would find the rule.",
    controls=[override("converted by the formula", readings=exact_readings)],
)
def test_training_finds_the_least_squares_line_of_the_readings(evidence, shared, readings=thermometer_readings):
    t_u, t_c = readings(torch.float64)
    rule = torch.tensor([1 / 1.8, -32 / 1.8], dtype=torch.float64)
    per_degree = torch.tensor([0.1, 1.0], dtype=torch.float64)
    found = fit_exactly(0.1 * t_u, t_c) * per_degree
    evidence.figure("slope and intercept", reported=rule, measured=found, tolerance=5e-3)
    assert ((found - rule).abs() > torch.tensor([0.01, 0.4])).all()
    assert_close(shared(fit_with_autograd).params.double() * per_degree, found, rtol=1e-4, atol=0)
    assert_close(fit_exactly(0.1 * fahrenheit(t_c), t_c) * per_degree, rule, rtol=1e-5, atol=0)


def fit_exactly(t_un, t_c):
    """Where 10,000 epochs at 1e-2 from w = 1, b = 0 end, but for rounding."""
    dynamics = QuadraticDynamics.from_regression(design_matrix(t_un), t_c)
    return dynamics.parameters(torch.tensor([1.0, 0.0]), 1e-2, [10_000])[0]
