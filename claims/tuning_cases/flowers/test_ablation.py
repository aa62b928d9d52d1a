"""What each part of case 2's bundle does on the stand-in for its photographs, and the weight decay of the others."""

from functools import partial

import numpy as np
import pytest
import torch
from sklearn.datasets import make_regression
from torch import nn
from torch.nn.functional import avg_pool2d

from fitcore.data import mnist
from fitcore.ensembles import Ensemble, cross_entropies, fit
from fitcore.models import MLP
from fitcore.seeding import seeded
from fitcore.testing import CONDITIONAL, claim, override
from fitcore.training import compare

IMPROVED = {"deep": True, "batch_norm": True, "dropout": 0.3, "decay": True}


@claim(
    "tuning-cases/bn-speeds-up-convergence-simple",
    finding="With 16 batches an epoch the first has a lower running loss, 1.52 against 1.60; with four, where most of "
    "the first epoch is the start, all from the second on do, after five epochs by 0.4.",
    controls=[override("left out", batch_norm=False)],
)
def test_batch_norm_speeds_up_the_simple_network(greenhouse, evidence, batch_norm=True):
    changes = {"batch normalisation": {"batch_norm": batch_norm}}
    few = greenhouse.compare(changes)
    first = greenhouse.compare(changes, copies=6, samples=500, others=4, epochs=1)
    evidence.table(f"500 images of {greenhouse.source}", first.rows("running loss of epoch 1"))
    gains = [few.difference(f"running loss of epoch {epoch}", *changes).mean for epoch in range(2, 16)]
    evidence.curve("running loss, gained", range(2, 16), {"125 images": gains}, x_label="epoch")
    assert first.difference("running loss of epoch 1", *changes).mean < 0
    assert np.max(gains) < -0.05


@claim(
    "tuning-cases/bn-speeds-up-convergence-deep",
    finding="With 16 batches an epoch the first has a lower running loss, 1.49 against 1.60; with four all from the "
    "second on do, after five epochs by 0.7.",
    controls=[override("left out", batch_norm=False)],
)
def test_batch_norm_speeds_up_the_deeper_network(greenhouse, evidence, batch_norm=True):
    changes, deep = {"batch normalisation": {"batch_norm": batch_norm}}, {"deep": True, "dropout": 0.3}
    few = greenhouse.compare(changes, **deep)
    first = greenhouse.compare(changes, copies=5, samples=500, others=4, epochs=1, **deep)
    evidence.table(f"500 images of {greenhouse.source}", first.rows("running loss of epoch 1"))
    gains = [few.difference(f"running loss of epoch {epoch}", *changes).mean for epoch in range(2, 16)]
    evidence.curve("running loss, gained", range(2, 16), {"125 images": gains}, x_label="epoch")
    assert first.difference("running loss of epoch 1", *changes).mean < 0
    assert np.max(gains) < -0.05


@claim(
    "tuning-cases/light-dropout-curbs-overfitting-flower",
    verdict=CONDITIONAL,
    finding="Where the network overfits, at a constant rate, it narrows the gap between training and test loss a "
    "little, by 0.07 to 0.10 of about 1.3, and lowers the test loss by 0.01 to 0.04. With the listing's decay, where "
    "it overfits less, the test loss stays, 0.01 higher with it: it raises the training loss by 0.11, so that the gap "
    "narrows from the wrong side. The test accuracy stays too, at 44 to 47 %, lower by half a point with it.",
    controls=[override("left out both times", dropout=0.0)],
)
def test_light_dropout_narrows_the_gap_and_with_the_decay_from_the_wrong_side(greenhouse, evidence, dropout=0.3):
    changes, without = {"dropout": {"dropout": dropout}}, IMPROVED | {"dropout": 0.0}
    decaying = greenhouse.compare(changes, copies=5, **without)
    constant = greenhouse.compare(changes, copies=5, **without | {"decay": False})
    losses = "training loss", "test loss"
    for schedule, comparison in (("decay", decaying), ("constant rate", constant)):
        effects = {loss: comparison.difference(loss, "dropout").values for loss in losses}
        evidence.compare(f"{schedule}: with dropout, less without; {greenhouse.source}", effects)
    evidence.table("test accuracy, decay", decaying.rows("test accuracy"))
    training, test = (constant.difference(loss, "dropout").mean for loss in losses)
    assert test - training < 0
    training, test = (decaying.difference(loss, "dropout").mean for loss in losses)
    assert training > 0.05
    assert test > -0.02
    assert abs(decaying.difference("test accuracy", "dropout").mean) < 0.04


def digits(seeds, dropout=0.0, weight_decay=0.0):
    """Case 1's parts: accuracy (S,) on 1,000 digits of 10x10 pixels, of fully connected networks."""
    training, test = mnist(), mnist(train=False)[:1000]
    x, test_x = (avg_pool2d(part.scaled[..., 4:-4, 4:-4], 2).flatten(1) for part in (training, test))
    with seeded(seeds[0]):
        rows = torch.stack([torch.randperm(len(x))[:500] for _ in seeds])
        ensemble = Ensemble(lambda: MLP([100, 128, 10], nn.ReLU, dropout=dropout), seeds)
        adam = partial(torch.optim.Adam, lr=1e-3, weight_decay=weight_decay)
        data = x[rows], training.labels[rows]
        fit(ensemble, data, epochs=10, batch_size=64, optimizer=adam, loss=cross_entropies)
    with torch.no_grad():
        return {"accuracy": (ensemble.eval()(ensemble.share(test_x)).argmax(-1) == test.labels).float().mean(1)}


def house_prices(seeds, network=((32,), False), weight_decay=0.0):
    """Case 3's parts: mean absolute error (S,) on 200 of its 1,000 houses, in standard deviations of their prices."""
    x, y = make_regression(n_samples=1000, n_features=10, random_state=42)
    x, y = torch.from_numpy(x).float(), torch.from_numpy(y / y.std()).float()
    hidden, batch_norm = network
    ensemble = Ensemble(lambda: MLP([10, *hidden, 1], nn.ReLU, batch_norm), seeds)
    adam = partial(torch.optim.Adam, lr=1e-3, weight_decay=weight_decay)
    data = ensemble.share(x[:800]), ensemble.share(y[:800, None])
    fit(ensemble, data, epochs=5, batch_size=32, optimizer=adam)
    with torch.no_grad():
        prices = ensemble.eval()(ensemble.share(x[800:]))[..., 0]
    return {"error": (prices - y[800:]).abs().mean(1)}


OTHERS = {
    "case 1": (digits, {"dropout": {"dropout": 0.5}}, 1e-4, "accuracy"),
    "case 3": (house_prices, {"network": {"network": ((64, 32), True)}}, 1e-5, "error"),
}


@claim(
    "tuning-cases/single-factor-ablation-exposes-idle-parts",
    finding="The weight decay of cases 1 and 3 does nothing, alone or added to the rest: it moves accuracy by 0.1 "
    "points at most, and the error by less than 0.001 standard deviations. (Case 1's parts on smaller digits and "
    "without convolution, case 3's for 5 epochs.)",
    controls=[override("a weight decay of 0.3", decay=0.3)],
)
@pytest.mark.parametrize("case", OTHERS)
def test_the_weight_decay_of_cases_1_and_3_is_idle(shared, evidence, case, decay=None):
    study, other, printed, metric = OTHERS[case]
    seeds = tuple(shared.seeds(4).tolist())
    changes = other | {"weight decay": {"weight_decay": decay or printed}}
    comparison = compare(partial(shared, study, seeds), changes)
    evidence.table(f"parts of {case}", comparison.rows(metric))
    assert abs(comparison.difference(metric, "weight decay").mean) < 0.03
    assert abs(comparison.difference(metric, "together", to=next(iter(other))).mean) < 0.03


@claim(
    "tuning-cases/single-factor-ablation-exposes-idle-parts",
    finding="In case 2's deeper network dropout moves the test accuracy by a point at most. The decay of the rate "
    "raises the training loss by 0.5, alone or in the bundle. Without batch normalisation the bundle loses 7 to 13 "
    "points of 45.",
    controls=[
        override("a rate that stays", decay=False),
        override("without batch normalisation", batch_norm=False),
    ],
)
def test_one_part_of_case_2_is_idle_one_holds_up_training_and_one_does_the_work(
    greenhouse, evidence, decay=True, batch_norm=True
):
    changes = {"batch normalisation": {"batch_norm": batch_norm}, "decay": {"decay": decay}}
    comparison = greenhouse.compare(changes, deep=True, dropout=0.3)
    for metric in ("test accuracy", "training loss"):
        evidence.table(f"{metric} on {greenhouse.source}", comparison.rows(metric))
    dropout = greenhouse.compare({"dropout": {"dropout": 0.3}}, copies=5, **IMPROVED | {"dropout": 0.0})
    assert abs(dropout.difference("test accuracy", "dropout").mean) < 0.04
    assert comparison.difference("training loss", "decay").mean > 0.2
    assert comparison.difference("training loss", "together", to="batch normalisation").mean > 0.2
    assert comparison.difference("test accuracy", "together", to="decay").mean > 0
