"""Section 3.1: the table of losses by weight decay, its figures and, apart from them, the trends that it illustrates.

The document doesn't say of which degree its table is. The loss is quadratic in the weights, so what a decay leads to is
known exactly: the minimum, and the weights after any number of updates of a stable rate. The smallest repair of the
listing, which diverges on raw powers, divides x by 5 and gives the targets the shape (n, 1).
"""

from dataclasses import dataclass, replace

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.testing import assert_close

from fitcore.data import cubic_plus_sine
from fitcore.ensembles import QuadraticDynamics
from fitcore.models import PolynomialModel, power_features
from fitcore.seeding import seeded
from fitcore.testing import CONDITIONAL, REFUTED, claim, override, parameter

TRIALS, MORE_TRIALS = 200, 500  # more where an effect shows in four trials of five
LR = 0.01
DECAYS = (0.0, 0.01, 0.1, 1.0)
TABLE = {0.0: (0.012, 0.158), 0.01: (0.035, 0.087), 0.1: (0.102, 0.121), 1.0: (0.351, 0.382)}
HALF_A_UNIT = 0.0005
FINE_DECAYS = tuple(10 ** (k / 4) for k in range(-24, 5))


@dataclass(frozen=True)
class Setting:
    """Powers of x / scale, fitted to so many training points: to the minimum, or for so many epochs of SGD."""

    degree: int = 10
    training: int = 140
    scale: float = 5.0
    epochs: int | None = None
    unit_targets: bool = False


DOCUMENT, FEW = Setting(), Setting(training=12)
BRIEFLY = replace(FEW, epochs=1_000)
RAW, RAW_FEW = Setting(6, scale=1.0), Setting(6, training=12, scale=1.0)
EVERY_DEGREE = tuple(
    Setting(degree, scale=scale, epochs=epochs)
    for degree in (1, 2, 6, 10)
    for scale, epochs in ((1.0, None), (5.0, None), (5.0, 1_000))
)
WITH_UNIT_TARGETS = tuple(replace(setting, unit_targets=True) for setting in EVERY_DEGREE)


@dataclass(frozen=True)
class Losses:
    """Mean squared errors, without the penalty, by weight decay: (decays, trials)."""

    training: Tensor
    validation: Tensor


def losses_of(setting, decays, start, x, y):
    """Losses of every decay, from points (..., n, 1); those beyond ``setting.training`` are held out."""
    features, y = power_features(x.double() / setting.scale, setting.degree), y.double()[..., 0]
    y = y / y.std(-1, keepdim=True) if setting.unit_targets else y
    n = setting.training
    l2 = torch.tensor(decays).double().view(-1, *(1 for _ in y.shape[:-1])) / 2
    decayed = QuadraticDynamics.from_regression(features[..., :n, :], y[..., :n], l2=l2)
    if setting.epochs is None:
        weights = decayed.minimiser
    else:
        weights = decayed.parameters(start, LR, [setting.epochs])[..., 0, :]
    path = weights.movedim(0, -2)
    on = (slice(None, n), slice(n, None))
    parts = (QuadraticDynamics.from_regression(features[..., part, :], y[..., part]).loss(path).mT for part in on)
    return Losses(*parts)


def first_weights(degree, *sets):
    """Weights (*sets, degree) as torch.nn.Linear draws them."""
    return nn.init.uniform_(torch.empty(*sets, degree), -(degree**-0.5), degree**-0.5)


def losses_over_trials(seed, trials, setting, decays):
    """Losses on fresh points, of which 60 are held out as in the document."""
    with seeded(seed):
        x, y = cubic_plus_sine(setting.training + 60, sets=(trials,))
        start = first_weights(setting.degree, trials)
    return losses_of(setting, decays, start, x, y)


def document_points(degree):
    """The first weights, and the points in the order of the document's split, from its seed: a single trial."""
    with seeded(42):
        x, y = cubic_plus_sine()
        start, order = PolynomialModel(degree).coefficients.weight.detach(), torch.randperm(200)
    return start, x[order][None], y[order][None]


def at_seed_42(setting):
    """Losses of every decay under the document's seed, (decays, 1)."""
    return losses_of(setting, DECAYS, *document_points(setting.degree))


def row(setting, found, decay):
    """A row of the report's table."""
    which = DECAYS.index(decay)
    return {
        "degree": setting.degree,
        "inputs": f"x/{setting.scale:g}",
        "epochs": str(setting.epochs or "to the minimum"),
        "targets": "of unit variance" if setting.unit_targets else "as generated",
        "training": found.training[which].item(),
        "validation": found.validation[which].item(),
    }


def figures(row):
    return np.array([row["training"], row["validation"]])


@pytest.fixture
def losses(shared, trials):
    """``losses(setting)`` over the trials, computed once a session."""

    def of(setting, decays=DECAYS):
        return shared(losses_over_trials, int(shared.seeds(1)[0]), trials.count, setting, decays)

    return of


def trained_by_sgd(start, x, y, decays, epochs):
    """Weights (decays, p) after the printed loop, with one parameter group for each decay, in float32."""
    weights = [start.clone().requires_grad_() for _ in decays]
    groups = [{"params": w, "weight_decay": decay} for w, decay in zip(weights, decays, strict=True)]
    optimizer = torch.optim.SGD(groups, lr=LR)
    for _ in range(epochs):
        optimizer.zero_grad()
        # Each decay's predictions (n, 1) against the targets, which broadcast to (n, n) where they are (n,).
        errors = (x @ torch.stack(weights, dim=1))[:, None] - y[..., None]
        errors.square().flatten(0, 1).mean(0).sum().backward()
        optimizer.step()
    return torch.stack(weights).detach()


@claim(
    "generalization/l2-table-listing-runs",
    verdict=REFUTED,
    finding="On raw powers of degree 10 the largest eigenvalue of the Hessian is some 1e13, so that SGD at 0.01 leaves "
    "float32 within 10 updates whatever the decay, with targets of shape (n,) as printed and of (n, 1).",
    controls=[override("inputs divided by 5", scale=5.0)],
    trials=10,
)
@pytest.mark.parametrize("as_printed", [True, False], ids=["targets-(n,)", "targets-(n,1)"])
def test_the_printed_setup_diverges_at_every_decay(trials, evidence, as_printed, scale=1.0):
    def outcome(seed):
        x, y = cubic_plus_sine(140)
        targets = y[:, 0] if as_printed else y
        diverging = trained_by_sgd(first_weights(10), power_features(x / scale, 10), targets, DECAYS, epochs=10)
        raw = QuadraticDynamics.from_regression(power_features(x.double(), 10), y[:, 0])
        return torch.tensor([diverging.isfinite().any(), raw.largest_stable_lr])

    survived, stable = trials.map(outcome).T
    evidence.observe("largest stable learning rate on raw powers", stable, limit=LR)
    trials.always(survived == 0, name="every weight is infinite or NaN after ten updates")
    trials.always(stable < LR / 1e9, name="the rate is a billion times too large")


@claim(
    "generalization/l2-table-listing-runs",
    verdict=REFUTED,
    finding="With powers of x/5 and targets of shape (n, 1) the printed loop runs: at seed 42 it ends, after 1,000 "
    "epochs, at training losses of 23, 24, 39 and 308 from decay 0 to 1, and goes where the exact dynamics say.",
    controls=[override("raw powers", scale=1.0)],
)
def test_the_repaired_listing_runs(evidence, scale=5.0):
    start, x, y = document_points(10)
    weights = trained_by_sgd(start[0], power_features(x[0, :140] / scale, 10), y[0, :140], DECAYS, epochs=1_000)
    assert weights.isfinite().all()
    losses = (power_features(x[0] / scale, 10) @ weights.mT - y[0]).square()
    found = torch.stack([losses[:140].mean(0), losses[140:].mean(0)], dim=1)
    exact = at_seed_42(Setting(epochs=1_000))
    names = ("training", "validation")
    rows = [
        {"decay": decay, **dict(zip(names, pair, strict=True))}
        for decay, pair in zip(DECAYS, found.tolist(), strict=True)
    ]
    evidence.table("repaired listing, degree 10, seed 42", rows)
    assert_close(found.double(), torch.cat([exact.training, exact.validation], dim=1), rtol=1e-3, atol=0)


@claim(
    parameter("statement"),
    verdict=REFUTED,
    finding="No degree 1, 2, 6 or 10 gives these figures, on raw powers or on those of x/5, at the minimum or after "
    "1,000 epochs. With y as generated every training loss is above the table's. At degree 10 on powers of x/5, seed "
    "42, training and validation losses are 0.13 and 0.43 without decay, 5.2 and 5.1 at 0.01, 34 and 32 at 0.1, 308 "
    "and 345 at 1; no weights reach less than 0.13, which rules out the first three rows. With targets scaled to unit "
    "variance the last row comes near, 0.350 and 0.392, but not the others: 0.0001 and 0.0005 without decay, or 0.03 "
    "and 0.02 after 1,000 epochs.",
    controls=[override("targets of unit variance", settings=WITH_UNIT_TARGETS)],
    trials=TRIALS,
)
@pytest.mark.parametrize(
    ("statement", "decay"),
    [
        pytest.param("generalization/l2-table-lambda0-train-0.012-val-0.158", 0.0, id="0"),
        pytest.param("generalization/l2-table-lambda0.01-train-0.035-val-0.087", 0.01, id="0.01"),
        pytest.param("generalization/l2-table-lambda0.1-train-0.102-val-0.121", 0.1, id="0.1"),
        pytest.param("generalization/l2-table-lambda1-train-0.351-val-0.382", 1.0, id="1"),
    ],
)
def test_no_degree_gives_the_figures_of_the_table(
    losses, shared, trials, evidence, *, statement, decay, settings=EVERY_DEGREE
):
    everything = (*EVERY_DEGREE, *WITH_UNIT_TARGETS)
    rows = [row(setting, shared(at_seed_42, setting), decay) for setting in everything]
    nearest = figures(min(rows, key=lambda row: np.abs(np.log(figures(row) / TABLE[decay])).sum()))
    evidence.table("losses at seed 42", rows)
    assert not evidence.figure("nearest", reported=TABLE[decay], measured=nearest, tolerance=HALF_A_UNIT)
    found = [losses(setting).training[DECAYS.index(decay)] for setting in settings]
    evidence.observe("lowest training loss of any degree", np.min(found, axis=0), limit=TABLE[decay][0])
    trials.less(TABLE[decay][0], np.min(found, axis=0), at_least=0.8, name="above the table's training loss")


@claim(
    "generalization/l2-train-loss-increases-with-lambda",
    finding="In every trial, at any degree, on raw powers as on those of x/5, at the minimum and, on powers of x/5, "
    "after 1,000 epochs. On raw powers of degree 6 the rise is from 1.65 to 2.0 only.",
    controls=[override("the same decay throughout", decays=(0.01, 0.01, 0.01, 0.01))],
    trials=TRIALS,
)
@pytest.mark.parametrize("epochs", [None, 1_000], ids=["at the minimum", "1000 epochs"])
@pytest.mark.parametrize("degree", [2, 6, 10])
def test_the_training_loss_rises_with_the_decay(losses, trials, evidence, *, degree, epochs, decays=DECAYS):
    scaled = losses(Setting(degree, epochs=epochs), decays).training
    raw = losses(Setting(degree, scale=1.0), decays).training
    evidence.compare(
        "training loss, powers of x/5", {f"decay {decay}": loss for decay, loss in zip(DECAYS, scaled, strict=True)}
    )
    trials.always((scaled.diff(dim=0) > 0).all(0).numpy(), name="it rises on powers of x/5")
    trials.always((raw.diff(dim=0) > 0).all(0).numpy(), name="it rises on raw powers")


@claim(
    "generalization/l2-best-lambda-is-0.01",
    verdict=CONDITIONAL,
    finding="Not on the document's data: with 140 points there is hardly anything to overfit, and no decay is best in "
    "all but a few of a thousand trials. With 12 points, degree 10 and powers of x/5 it is true in four trials of "
    "five: there 0.01 brings the median validation loss from thousands to 16.",
    controls=[
        override("as many points as the document's", few=DOCUMENT),
        override("too few points for the document's", document=FEW),
    ],
    trials=MORE_TRIALS,
)
def test_the_best_decay_is_0_01_where_points_are_few(losses, trials, evidence, few=FEW, document=DOCUMENT):
    fine = {f"{s.training} points": losses(s, FINE_DECAYS).validation.median(1).values.log10() for s in (few, document)}
    evidence.curve("median validation loss, log10", np.log10(FINE_DECAYS), fine, x_label="log10 of the weight decay")
    best_of_few, best = (losses(setting).validation.argmin(0).numpy() for setting in (few, document))
    trials.mostly(best_of_few == DECAYS.index(0.01), at_least=0.5, name="12 points: 0.01 is best")
    trials.mostly(best == DECAYS.index(0.0), at_least=0.75, name="140 points: no decay is best")


@claim(
    "generalization/l2-lambda0.1-still-beats-none",
    verdict=CONDITIONAL,
    finding="True of 12 points and degree 10 at the minimum, in four trials of five. On the document's 140 points it "
    "raises the validation loss from 0.18 to 32, and after 1,000 epochs at 0.01 it loses even with 12 points, in as "
    "many, probably because stopping early has already kept the weights small.",
    controls=[
        override("as many points as the document's", few=DOCUMENT),
        override("trained to the minimum", briefly=FEW),
    ],
    trials=MORE_TRIALS,
)
def test_a_decay_of_0_1_beats_none_where_points_are_few(
    losses, trials, evidence, *, few=FEW, document=DOCUMENT, briefly=BRIEFLY
):
    none, _, tenth, _ = losses(few).validation
    evidence.compare("log10 of the validation loss, 12 points", {"0": none.log10(), "0.1": tenth.log10()})
    trials.less(tenth, none, name="12 points: lower with a decay of 0.1")
    trials.less(losses(document).validation[0], losses(document).validation[2], name="140 points: lower without")
    trials.less(losses(briefly).validation[0], losses(briefly).validation[2], name="1,000 epochs: lower without")


@claim(
    "generalization/l2-lambda0.1-mild-underfit",
    verdict=CONDITIONAL,
    finding="True on powers of x/5: with 140 points the validation loss is not slightly but five to six times as high, "
    "with 12 three times. What a decay does depends on the units of x: on raw powers of degree 6 it is too weak to "
    "matter at 140 points, and with 12 points 0.1 is better than 0.01.",
    controls=[override("raw powers", scaled=RAW_FEW), override("powers of x/5", raw=Setting(6, training=12))],
    trials=MORE_TRIALS,
)
@pytest.mark.parametrize("scaled", [DOCUMENT, Setting(6), FEW], ids=["140-10", "140-6", "12-10"])
def test_a_decay_of_0_1_underfits_where_powers_are_scaled(losses, trials, evidence, scaled, raw=RAW_FEW):
    _, hundredth, tenth, _ = losses(scaled).validation
    evidence.compare("validation loss, powers of x/5", {"0.01": hundredth, "0.1": tenth})
    trials.less(1.2 * hundredth, tenth, name="powers of x/5: a fifth higher at 0.1 than at 0.01")
    trials.less(losses(raw).validation[2], losses(raw).validation[1], name="raw powers, 12 points: lower at 0.1")


@claim(
    "generalization/l2-zero-lambda-is-typical-overfit",
    verdict=CONDITIONAL,
    finding="Of 12 points yes, by far: at degree 10 the training loss without decay is a millionth of that on "
    "other points. Of the document's 140 points the two are 0.14 and 0.18, less than twice apart.",
    controls=[
        override("as many points as the document's", few=DOCUMENT),
        override("too few points for the document's", document=FEW),
    ],
    trials=TRIALS,
)
def test_without_decay_a_few_points_are_overfitted_and_140_are_not(
    losses, trials, evidence, few=FEW, document=DOCUMENT
):
    of_few, of_many = losses(few), losses(document)
    ratios = [(found.validation[0] / found.training[0]).log10() for found in (of_few, of_many)]
    evidence.compare("log10 of validation / training loss", {"12 points": ratios[0], "140 points": ratios[1]})
    trials.mostly((ratios[0] > 1).numpy(), at_least=0.75, name="12 points: more than ten times")
    trials.mostly((ratios[1] < np.log10(3)).numpy(), at_least=0.5, name="140 points: less than three times")


@claim(
    "generalization/l2-lambda1-severe-underfit",
    verdict=CONDITIONAL,
    finding="On powers of x/5 it underfits beyond measure: the training loss is 200 times higher at degree 6, 2,000 "
    "times at degree 10. On raw powers of degree 6, whose weights are small, the same decay raises it by a fifth only.",
    controls=[override("raw powers", scaled=RAW), override("powers of x/5", raw=Setting(6))],
    trials=TRIALS,
)
@pytest.mark.parametrize("scaled", [Setting(6), DOCUMENT], ids=["6", "10"])
def test_a_decay_of_1_underfits_severely_where_powers_are_scaled(losses, trials, evidence, scaled, raw=RAW):
    none, *_, one = losses(scaled).training
    evidence.observe("times the training loss without decay", one / none, limit=10)
    trials.always((one > 10 * none).numpy(), name="powers of x/5: over ten times")
    trials.less(losses(raw).training[-1], 2 * losses(raw).training[0], name="raw powers: less than twice")
