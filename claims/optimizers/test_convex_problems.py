"""Section 16.5: SGD on problems with a single minimum, and one on which Adam goes the wrong way."""

from functools import partial

import torch
from torch import nn
from torch.optim import SGD, Adam

from fitcore.ensembles import Ensemble, fit, mean_squared_errors
from fitcore.models import MLP
from fitcore.seeding import seeded
from fitcore.testing import CONDITIONAL, claim, override

FEATURES = 5
WORST = 1e6


def log_losses(logits, labels):
    losses = nn.functional.binary_cross_entropy_with_logits(logits, labels, reduction="none")
    return losses.flatten(1).mean(1)


PROBLEMS = {"least squares": mean_squared_errors, "logistic regression": log_losses}


def samples(seeds, problem, unit):
    """Inputs of which the last feature has another unit, and noisy targets, (trials, 200, features) and (..., 1)."""
    with seeded(seeds[0]):
        x, weights = torch.randn(len(seeds), 200, FEATURES), torch.randn(len(seeds), FEATURES, 1)
        if problem == "least squares":
            y = x @ weights + 0.3 * torch.randn(len(seeds), 200, 1)
        else:
            y = torch.bernoulli((x @ weights).sigmoid())
    return x * torch.tensor([1.0] * (FEATURES - 1) + [unit]), y


def lowest_losses(x, y, problem):
    """By Newton's method, (trials,): iteratively reweighted least squares."""
    x, y = torch.cat([x, torch.ones_like(y)], -1).double(), y.double()
    weights = torch.zeros(len(x), x.shape[2], 1, dtype=torch.float64)
    for _ in range(12):
        z = x @ weights
        mean, variance = (
            (z, torch.ones_like(z)) if problem == "least squares" else (z.sigmoid(), z.sigmoid() * (-z).sigmoid())
        )
        weights = weights - torch.linalg.solve(x.mT @ (x * variance), x.mT @ (mean - y))
    return PROBLEMS[problem](x @ weights, y)


def excess(seeds, problem, optimizer, lr, unit=1.0):
    """What is left above the lowest loss after 25 epochs, as a share of what there was at the start, (trials,)."""
    x, y = samples(seeds, problem, unit)
    loss, ensemble = PROBLEMS[problem], Ensemble(lambda: MLP([FEATURES, 1]), seeds)
    with torch.no_grad():
        at_zero, lowest = loss(torch.zeros_like(y), y), lowest_losses(x, y, problem)
        fit(ensemble, (x, y), epochs=25, optimizer=partial(optimizer, lr=lr), loss=loss, batch_size=20)
        left = loss(ensemble(x), y) - lowest
    return (left / (at_zero - lowest)).nan_to_num(WORST, WORST, WORST).clamp(max=WORST)


@claim(
    "pytorch-notes/sgd-suits-convex-problems",
    verdict=CONDITIONAL,
    finding="With features of one unit it does: of the excess over the lowest loss about 1 % is left of logistic "
    "regression, and less than 0.1 % of least squares, after 250 updates at 0.1, the upper end of the guide's range, "
    "where Adam at its 0.001 has 70 to 77 % left. With one feature thirty times larger SGD diverges on least squares, "
    "at 0.1 and at 0.01, while Adam at 0.1 leaves 0.1 to 0.2 %; a rate small enough for SGD, 0.001, leaves 35 to 49 % "
    "(medians).",
    controls=[
        override("one feature is thirty times larger", unit=30.0),
        override("Adam at its default", optimizer=(Adam, 0.001)),
    ],
    trials=54,
)
def test_sgd_finds_the_minimum_unless_the_features_differ_in_scale(
    shared, trials, evidence, unit=1.0, optimizer=(SGD, 0.1)
):
    left_by = partial(shared, excess, tuple(trials.seeds.tolist()))
    little, left = torch.full((trials.count,), 0.15), {}
    for problem in PROBLEMS:
        left[problem] = left_by(problem, *optimizer, unit)
        trials.less(left[problem], little, name=f"{problem}: little left")
        by_adam = left_by(problem, Adam, 0.001, 1.0)
        trials.less(left[problem], by_adam, by=0.05, name=f"{problem}: Adam at 0.001 has more left")
    for rate in (0.01, 0.1):
        trials.always(left_by("least squares", SGD, rate, 30.0) == WORST, name=f"SGD diverges at {rate}")
    by_adam, by_slow_sgd = (left_by("least squares", *arm, 30.0) for arm in ((Adam, 0.1), (SGD, 0.001)))
    trials.less(by_adam, 0.3, name="Adam does not")
    trials.less(by_adam, by_slow_sgd, by=0.05, name="SGD at 0.001 has more left")
    evidence.compare("excess loss left", left)


GRADIENTS = 3.0, -1.0, -1.0


def resting_places(optimizer, steps=900, **settings):
    """Where points of [-1, 1], which they may not leave, have gone under the same three gradients again and again."""
    points = torch.linspace(-1, 1, 21, dtype=torch.float64, requires_grad=True)
    used, points.grad = optimizer([points], lr=0.03, fused=True, **settings), torch.empty_like(points)
    for step in range(steps):
        points.grad.fill_(GRADIENTS[step % 3])
        used.step()
        with torch.no_grad():
            points.clamp_(-1, 1)
    return points.detach()


PERIOD, RARE = 2000, 2600.0


def drift(optimizer, **settings):
    """How far a point goes at 0.001 while the gradients, 2600 once and 1,999 times -1, come for the second time."""
    point = torch.zeros(1, dtype=torch.float64, requires_grad=True)
    used, point.grad = optimizer([point], lr=0.001, fused=True, **settings), torch.empty_like(point)
    for _ in range(2):
        start = point.item()
        for step in range(PERIOD):
            point.grad.fill_(-1.0 if step else RARE)
            used.step()
    return point.item() - start


@claim(
    "pytorch-notes/adam-may-not-converge",
    finding="At its default rate and betas too: where a gradient of 2600 comes once and then 1,999 times -1, Adam "
    "climbs by about 0.01 each time, where SGD and AMSGrad descend. On losses 3x, -x, -x in turn within [-1, 1] "
    "(Reddi et al., 2018) Adam with betas (0, 0.1) ends at the worst point, 1, wherever it began, and SGD and AMSGrad "
    "come to the best, -1; so does Adam with its default betas, whose longer memory is a cure for this short sequence.",
    controls=[override("AMSGrad", amsgrad=True), override("default betas", betas=(0.9, 0.999))],
)
def test_adam_climbs_where_sgd_descends_if_large_gradients_are_rarer_than_its_memory(
    shared, evidence, betas=(0.0, 0.1), amsgrad=False
):
    drifts = {
        "Adam": shared(drift, Adam, amsgrad=amsgrad),
        "SGD": shared(drift, SGD),
        "AMSGrad": shared(drift, Adam, amsgrad=True),
    }
    evidence.table("drift in a period", [{"optimizer": name, "drift": value} for name, value in drifts.items()])
    assert drifts.pop("Adam") > 0.005
    assert max(drifts.values()) < -0.002
    ends = {
        "SGD": shared(resting_places, SGD),
        "Adam, betas (0, 0.1)": shared(resting_places, Adam, betas=betas, amsgrad=amsgrad),
        "AMSGrad, betas (0, 0.1)": shared(resting_places, Adam, betas=(0.0, 0.1), amsgrad=True),
        "Adam, default betas": shared(resting_places, Adam, betas=(0.9, 0.999), amsgrad=False),
    }
    evidence.compare("resting place", ends)
    short_memory = ends.pop("Adam, betas (0, 0.1)")
    assert (short_memory > 0.9).all()
    assert all((places < -0.8).all() for places in ends.values())
