"""Section 1.2: models of degree 1, 2, 6 and 10, each at the optimum that its training would reach if it were stable."""

import pytest
import torch
from torch import nn

from fitcore.data import cubic_plus_sine, cubic_plus_sine_law
from fitcore.ensembles import QuadraticDynamics
from fitcore.models import PolynomialModel, number_of_parameters, power_features
from fitcore.seeding import seeded
from fitcore.testing import CONDITIONAL, REFUTED, claim, override, replace

TRIALS = 200
DEGREES = (1, 2, 6, 10)
LINEAR = nn.Linear


def features(x, degree, constant=False):
    """x/5, ..., (x/5)^degree, well conditioned, after a column of ones where there is a constant."""
    return nn.functional.pad(power_features(x.double() / 5, degree), (int(constant), 0), value=1.0)


def optimum(x, y, degree, constant=False):
    """Least-squares coefficients of the features, (..., p, 1)."""
    fit = QuadraticDynamics.from_regression(features(x, degree, constant), y.squeeze(-1))
    return fit.minimiser[..., None]


def held_out(trials, degree, n=140, noise=0.2, constant=False):
    """Errors on 60 held-out points, and these over the variance of their targets, each (trials,)."""
    with seeded(int(trials.seeds[0])):
        x, y = cubic_plus_sine(n, noise, sets=(trials.count,))
        x_held_out, y_held_out = cubic_plus_sine(60, noise, sets=(trials.count,))
    predictions = features(x_held_out, degree, constant) @ optimum(x, y, degree, constant)
    errors = (predictions - y_held_out).square().mean((1, 2))
    return errors, errors / y_held_out.squeeze(-1).var(1, correction=0)


def held_out_errors(trials, degrees, n=140, noise=0.2):
    return torch.stack([held_out(trials, degree, n, noise)[0] for degree in degrees])


def with_bias(inputs, outputs, bias):
    return LINEAR(inputs, outputs)


@claim(
    "generalization/polymodel-parameter-counts",
    controls=[replace("torch.nn.Linear", with_bias, name="with a bias")],
)
@pytest.mark.parametrize("degree", DEGREES)
def test_a_polynomial_model_has_as_many_parameters_as_its_degree(degree):
    model = PolynomialModel(degree)
    assert number_of_parameters(model, trainable=True) == degree


@claim(
    "generalization/linear-model-captures-only-trend",
    finding="The line through the origin explains 34 % of the held-out variance (median). What it lacks is not the "
    "curves alone: with an intercept, which PolyModel does not have, a line explains 64 %.",
    controls=[override("degree 2", degree=2)],
    trials=TRIALS,
)
def test_a_line_through_the_origin_explains_less_than_half_of_the_variance(trials, evidence, degree=1):
    r2, r2_with_intercept = (1 - held_out(trials, degree, constant=constant)[1] for constant in (False, True))
    samples = {"through the origin": r2, "with an intercept": r2_with_intercept}
    evidence.compare("held-out R²", samples, limit=0.5)
    trials.less(r2, 0.5, at_least=0.8, name="R² below one half")
    trials.less(0.5, r2_with_intercept, name="with an intercept: above")


@claim(
    "generalization/quadratic-beats-linear",
    finding="Held-out error 96 against 600 (medians), and lower in every trial.",
    controls=[override("no square", degree=1)],
    trials=TRIALS,
)
def test_a_parabola_has_a_lower_held_out_error_than_a_line(trials, evidence, degree=2):
    line, parabola = held_out_errors(trials, (1, degree))
    evidence.compare("held-out error", {"degree 1": line, "degree 2": parabola})
    trials.less(parabola, line, at_least=0.8, name="degree 2 has a lower held-out error than degree 1")


@claim(
    "generalization/degree6-matches-main-pattern",
    finding="Held-out R² is 0.998 (median): the cubic is the main pattern, and degree 3 has the same R². The sine is "
    "not matched: the error left is 1.8, where the noise has a variance of 0.04.",
    controls=[override("degree 2", degree=2)],
    trials=TRIALS,
)
def test_degree_6_matches_the_cubic_and_misses_the_sine(trials, evidence, degree=6):
    error, unexplained = held_out(trials, degree)
    with seeded(42):
        x, y = cubic_plus_sine()
    grid = torch.linspace(-5, 5, 201, dtype=torch.float64)[:, None]
    fits = {f"degree {d}": features(grid, d) @ optimum(x, y, d) for d in DEGREES}
    curves = {
        name: curve.squeeze(-1) for name, curve in {**fits, "law without noise": cubic_plus_sine_law(grid)}.items()
    }
    evidence.curve("fits to the document's 200 points", grid.squeeze(-1), curves, x_label="x")
    evidence.observe("held-out R²", 1 - unexplained, limit=0.99)
    trials.less(0.99, 1 - unexplained, at_least=0.8, name="R² above 0.99")
    trials.less(10 * 0.2**2, error, at_least=0.8, name="error over ten times the noise")


@claim(
    "generalization/degree10-memorises-noise",
    verdict=REFUTED,
    finding="With 140 points degree 10 generalises far better than degree 6, 0.18 against 1.8 (medians), in 99 % of "
    "trials, and still better with noise of 2: it needs its powers for the sine. It is worse, in nine trials of ten, "
    "with 20 points of noise 3.",
    controls=[
        override("20 points of noise 3", n=20, noise=3.0),
        override("never few points", few=140),
    ],
    trials=TRIALS,
)
@pytest.mark.parametrize("noise", [0.2, 2.0])
def test_degree_10_overfits_only_where_points_are_few(trials, evidence, noise, n=140, few=20):
    six, ten = held_out_errors(trials, (6, 10), n, noise)
    six_of_few, ten_of_few = held_out_errors(trials, (6, 10), few, noise=3.0)
    samples = {"6": six, "10": ten, "6, 20 points of noise 3": six_of_few, "10, 20 points of noise 3": ten_of_few}
    evidence.compare("held-out error by degree", samples, limit=noise**2)
    trials.less(ten, six, name="degree 10 has a lower held-out error than degree 6")
    trials.less(six_of_few, ten_of_few, name="of 20 points with noise 3: a higher one")


@claim(
    "generalization/degree-spectrum-shows-underfit-to-overfit",
    verdict=CONDITIONAL,
    finding="It takes few and noisy points: with 20 of noise 3 it is lowest at degree 2 or 6 in 92 % of trials. With "
    "the document's 140 points of noise 0.2 the validation error only falls: 600, 98, 1.8, 0.18 (medians), and it goes "
    "on falling to degree 13.",
    controls=[override("20 points of noise 3", n=20, noise=3.0), override("never few points", few=140)],
    trials=TRIALS,
)
def test_of_the_four_degrees_the_highest_is_best_unless_points_are_few(trials, evidence, n=140, noise=0.2, few=20):
    all_degrees = range(1, 16)
    many_points = held_out_errors(trials, all_degrees, n, noise)
    few_points = held_out_errors(trials, all_degrees, few, noise=3.0)
    medians = {"140 points, noise 0.2": many_points, "20 points, noise 3": few_points}
    evidence.curve(
        "median held-out error",
        all_degrees,
        {name: values.median(1).values for name, values in medians.items()},
        x_label="degree",
    )
    four = torch.tensor(DEGREES) - 1
    best, best_of_few = four[many_points[four].argmin(0)] + 1, four[few_points[four].argmin(0)] + 1
    trials.mostly((best == 10).numpy(), at_least=0.8, name="140 points: degree 10 is best")
    in_between = ((best_of_few == 2) | (best_of_few == 6)).numpy()
    trials.mostly(in_between, at_least=0.5, name="20 points of noise 3: degree 2 or 6 is best")
