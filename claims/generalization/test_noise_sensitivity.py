"""Section 4.2: the printed table of losses on disturbed inputs, and the trends that it is to show.

As printed the models of degree 6 and 10 diverge, so theirs are the exact least-squares fits to 140 of the 200 points;
the losses are over all 200, as in the listing. The expectation over the noise is exact: the loss is a polynomial of
degree 2d in it, which Gauss-Hermite quadrature on d + 1 nodes integrates without error.
"""

from itertools import pairwise
from math import pi, sqrt

import numpy as np
import pytest
import torch
from matplotlib import pyplot
from numpy.polynomial.hermite_e import hermegauss
from torch import nn

from fitcore.data import cubic_plus_sine
from fitcore.evaluation.noise_sensitivity import noisy_input_losses
from fitcore.models import PolynomialModel, power_features
from fitcore.seeding import seeded
from fitcore.testing import CONDITIONAL, REFUTED, claim, override, parameter

LEVELS = (0.1, 0.3, 0.5, 0.8, 1.0)
UNDISTURBED = (0.0,) * 5
DEGREES = LINE, SIX, TEN = 1, 6, 10
TRIALS = 200
TABLE = {
    LINE: (1.254, 1.267, 1.281, 1.302, 1.315),
    SIX: (0.873, 0.921, 1.135, 1.573, 2.014),
    TEN: (1.102, 1.857, 3.224, 6.551, 9.328),
}
LISTING = """
results = []
for noise in levels:
    noisy = X + noise * torch.randn_like(X)
    with torch.no_grad():
        results.append((noise, loss_fn(model(noisy), y).item()))
"""
IMPORTED = {"torch": torch, "plt": pyplot, "nn": nn, "levels": LEVELS}


def polynomials(x, y, degree):
    """The least-squares polynomial of each problem's first 140 points, as a function from x to predictions."""
    x, y = x[..., :140, :].double(), y[..., :140, :].double()
    coefficients = torch.linalg.lstsq(power_features(x / 5, degree), y).solution
    return lambda x: power_features(x / 5, degree) @ coefficients


def drawn_losses(seed, trials, degree, levels):
    """Losses with one draw of the noise for each level, as the listing takes them, (levels, trials)."""
    with seeded(seed):
        x, y = cubic_plus_sine(sets=(trials,))
        return noisy_input_losses(polynomials(x, y, degree), x.double(), y.double(), levels)


def expected_losses(seed, trials, degree, levels):
    """Losses in expectation over the noise, (levels, trials)."""
    with seeded(seed):
        x, y = cubic_plus_sine(sets=(trials,))
    x, y, predict = x.double(), y.double(), polynomials(x, y, degree)
    nodes, weights = hermegauss(degree + 1)
    losses = [[(predict(x + level * node) - y).square().mean((1, 2)) for node in nodes] for level in levels]
    return torch.einsum(
        "lns,n->ls", torch.stack([torch.stack(row) for row in losses]), torch.tensor(weights / sqrt(2 * pi))
    )


@pytest.fixture
def losses(shared, trials):
    """``losses(degree)``: in expectation, or by ``drawn_losses``; (levels, trials), computed once a session."""

    def run(degree, levels=LEVELS, how=expected_losses):
        return shared(how, int(shared.seeds(1)[0]), trials.count, degree, levels)

    return run


@claim(
    "generalization/noise-listing-runs",
    verdict=REFUTED,
    finding="It stops because loss_fn is a local name of train_model, and model no name at all. With both "
    "defined it runs, and (200, 1) predictions broadcast against (200,) targets: MSELoss warns and "
    "returns some 1,850 for a cubic whose loss is 6 to 6.5. Targets of shape (n, 1) repair it.",
    controls=[override("names defined and targets of shape (n, 1)", defined=("loss_fn", "model"), shape=(-1, 1))],
    trials=20,
)
def test_the_noise_listing_lacks_two_names_and_broadcasts(trials, evidence, defined=(), shape=(-1,)):
    def results(seed, defined, shape):
        x, y = cubic_plus_sine()
        predict = polynomials(x, y, 3)
        names = {"loss_fn": nn.MSELoss(), "model": lambda x: predict(x.double()).float()}
        names = IMPORTED | {"X": x, "y": y.reshape(shape)} | {name: names[name] for name in defined}
        exec(LISTING, names)
        return names["results"]

    with pytest.raises(NameError, match="loss_fn"):
        results(0, defined, shape)
    with pytest.raises(NameError, match="model"):
        results(0, {*defined, "loss_fn"}, shape)
    with pytest.warns(UserWarning, match="target size"):
        broadcast = trials.map(lambda seed: results(seed, ("loss_fn", "model"), shape))[:, 0, 1]
    repaired = trials.map(lambda seed: results(seed, ("loss_fn", "model"), (-1, 1)))[:, 0, 1]
    evidence.compare("loss of a cubic at noise 0.1", {"y of shape (n,)": broadcast, "y of shape (n, 1)": repaired})
    trials.always(broadcast > 20 * repaired, name="broadcast, twenty times the loss")


def finite_after_printed_training(degree):
    """Whether SGD at 0.01 on raw powers leaves a finite loss under the document's seed 42."""
    with seeded(42):
        x, y = cubic_plus_sine()
        model = PolynomialModel(degree)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.01)
    for _ in range(50):
        optimizer.zero_grad()
        loss = (model(x[:140]) - y[:140, 0]).square().mean()  # broadcast, as it is printed
        loss.backward()
        optimizer.step()
    return bool(loss.isfinite())


@claim(
    parameter("statement"),
    verdict=REFUTED,
    finding="No row can be had: trained as printed only the line stays finite. Fitted exactly, the losses are "
    "590 to 670 for the line, 6 to 510 for degree 6 and 5 to 45,000 for degree 10 (medians), and no "
    "unit of y suits two rows. What is true of the table: every row rises.",
    controls=[override("targets in a unit of 21.7, which suits the line", unit=21.7)],
    trials=TRIALS,
)
@pytest.mark.parametrize(
    ("statement", "degree"),
    [
        pytest.param("generalization/noise-table-linear-1.25-to-1.32", LINE, id="1"),
        pytest.param("generalization/noise-table-degree6-0.87-to-2.01", SIX, id="6"),
        pytest.param("generalization/noise-table-degree10-1.10-to-9.33", TEN, id="10"),
    ],
)
def test_the_noise_table_is_not_reproduced(losses, trials, evidence, *, statement, degree, unit=1.0):
    printed = np.array(TABLE[degree])
    of_seed_42 = drawn_losses(42, 1, degree, LEVELS)[:, 0]
    name = f"degree {degree}, loss at noise 0.1 to 1.0, seed 42"
    assert not evidence.figure(name, reported=printed, measured=of_seed_42, tolerance=5e-4)
    assert finite_after_printed_training(degree) == (degree == LINE)
    measured = losses(degree) / unit**2
    for level, figure, values in zip(LEVELS, printed, measured, strict=True):
        trials.always((values > 2 * figure).numpy(), name=f"more than twice the printed figure at noise {level}")
    trials.always((measured.diff(dim=0) > 0).all(0).numpy(), name="the row rises, as the printed one does")


@claim(
    "generalization/linear-loss-least-sensitive-to-noise",
    finding="Noise of 1.0 multiplies the clean loss by 1.1 for the line, 300 for degree 6 and 280,000 for "
    "degree 10 (medians, in expectation over the noise). The order is the table's, the factors are "
    "not: there they are 1.05, 2.3 and 8.5 from noise 0.1 on.",
    controls=[override("inputs left as they are", level=0.0)],
    trials=TRIALS,
)
def test_the_higher_the_degree_the_more_the_loss_grows_with_noise(losses, trials, evidence, level=1.0):
    growth = {}
    for degree in DEGREES:
        clean, noisy = losses(degree, (0.0, level))
        growth[degree] = noisy / clean
    evidence.compare(
        "loss at noise 1.0 over clean loss", {f"degree {degree}": ratio for degree, ratio in growth.items()}
    )
    for lower, higher in pairwise(DEGREES):
        trials.less(2 * growth[lower], growth[higher], at_least=0.8, name=f"degree {higher} grows more than {lower}")


@claim(
    "generalization/degree10-worse-than-6-at-every-noise",
    verdict=CONDITIONAL,
    finding="From noise 0.3 on degree 10 is worse, in expectation in every trial. At 0.1 it is better, 4.8 "
    "against 6.0 (medians), for it fits ten times closer and hardly suffers yet.",
    controls=[override("inputs left as they are", levels=UNDISTURBED), override("degree 6 for both", larger=SIX)],
    trials=TRIALS,
)
def test_degree_10_is_worse_than_6_except_at_the_lowest_noise(losses, trials, evidence, levels=LEVELS, larger=TEN):
    six, ten = losses(SIX, levels), losses(larger, levels)
    curves = {f"degree {degree}": losses(degree, levels).median(1).values.log10() for degree in DEGREES}
    evidence.curve("median loss, log10", LEVELS, curves, x_label="noise")
    trials.less(ten[0], six[0], at_least=0.8, name="noise 0.1: degree 10 is better")
    trials.less(0, (ten - six)[1:].min(0).values, at_least=0.8, name="from 0.3 on it is worse")


@claim(
    "generalization/linear-beats-degree6-at-large-noise",
    verdict=REFUTED,
    finding="At 0.8 and 1.0 the line is still worse, 640 against 310 and 665 against 510 (medians), in "
    "expectation in 99 % of trials. At noise of 1.5 it is the better one, in every trial.",
    controls=[override("noise of 1.5 and 2", large=(1.5, 2.0))],
    trials=TRIALS,
)
def test_degree_6_beats_the_line_up_to_noise_1(losses, trials, evidence, large=(0.8, 1.0)):
    line, six = losses(LINE, large), losses(SIX, large)
    evidence.compare("loss at noise 1.0", {"degree 1": line[-1], "degree 6": six[-1]})
    trials.less((six - line).max(0).values, 0, at_least=0.8, name="degree 6 is better at both")
    beyond = losses(LINE, (1.5,))[0], losses(SIX, (1.5,))[0]
    trials.less(*beyond, at_least=0.8, name="the line is better at noise 1.5")


@claim(
    "generalization/degree10-worse-than-linear-from-0.3",
    verdict=CONDITIONAL,
    finding="From noise 0.8 on it is, tenfold and more; at 0.3 and 0.5 it is still better: 55 and 340 against "
    "600 and 610 (medians). The table's crossing comes too early, since its line fits far better than "
    "a line can.",
    controls=[override("inputs left as they are", levels=UNDISTURBED)],
    trials=TRIALS,
)
def test_degree_10_is_worse_than_the_line_only_from_noise_0_8(losses, trials, evidence, levels=LEVELS):
    excess = losses(TEN, levels) - losses(LINE, levels)
    rows = [
        {"noise": level, "degree 10 minus line": row.median().item()} for level, row in zip(levels, excess, strict=True)
    ]
    evidence.table("median excess", rows)
    zero = np.zeros(trials.count)
    trials.less(zero, -excess[1:3].max(0).values, at_least=0.8, name="0.3 and 0.5: degree 10 is better")
    trials.less(zero, excess[3:].min(0).values, at_least=0.8, name="0.8 and 1.0: it is worse")


@claim(
    "generalization/loss-grows-monotonically-with-noise",
    verdict=CONDITIONAL,
    finding="In expectation it does, for each model in every trial. With one draw of the noise for each "
    "level, as the listing takes them, the line's five losses are in order in only a quarter of the "
    "trials: its loss grows by less than the draws differ.",
    controls=[override("inputs left as they are", levels=UNDISTURBED)],
    trials=TRIALS,
)
def test_losses_grow_with_noise_in_expectation_and_not_draw_by_draw(losses, trials, evidence, levels=LEVELS):
    rises = {degree: (losses(degree, levels).diff(dim=0) > 0).all(0) for degree in DEGREES}
    drawn = {degree: (losses(degree, levels, drawn_losses).diff(dim=0) > 0).all(0) for degree in DEGREES}
    rows = [{"degree": degree, "share of draws in order": drawn[degree].double().mean().item()} for degree in DEGREES]
    evidence.table("one draw for each level", rows)
    trials.always(torch.stack(list(rises.values())).all(0).numpy(), name="every model's expected loss rises")
    trials.mostly(~drawn[LINE].numpy(), at_least=0.3, name="a line's draws are not in order")
