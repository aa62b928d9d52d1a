"""What `fit` refuses, before it moves anything."""

from functools import partial

import pytest
import torch
from torch import nn, optim
from torch.optim import lr_scheduler

from fitcore.ensembles import Ensemble, fit
from fitcore.tests.plain_loop import (
    SEEDS,
    SGD,
    data,
    network,
)
from fitcore.training import EarlyStopping


@pytest.mark.parametrize(
    ("optimizer", "says"),
    [
        (optim.LBFGS, "without a closure, but: .*closure"),
        (optim.Muon, "one vector of all parameters .* 2D parameters"),
        (optim.Adafactor, "elementwise.*; Adafactor moves a number differently"),
        (partial(optim.SGD, lr=-1.0), "Invalid learning rate"),
    ],
)
def test_optimizers_that_couple_the_copies_are_refused(optimizer, says):
    with pytest.raises(ValueError, match=says):
        fit(Ensemble(network, SEEDS), data(), optimizer=optimizer, epochs=1)


class SlightlyCentred(optim.SGD):
    """Draws all numbers towards their mean by a millionth."""

    @torch.no_grad()
    def step(self):
        super().step()
        for vector in self.param_groups[0]["params"]:
            vector.lerp_(vector.mean(), 1e-6)


def test_the_slightest_coupling_is_refused():
    with pytest.raises(ValueError, match="SlightlyCentred moves a number differently"):
        fit(Ensemble(network, SEEDS), data(), optimizer=SlightlyCentred, epochs=1)


@pytest.mark.parametrize("optimizer", [optim.Rprop, optim.ASGD])
def test_plateaus_of_optimizers_whose_step_is_not_proportional_are_refused(optimizer):
    with pytest.raises(ValueError, match=f"{optimizer.__name__}'s step is not proportional"):
        fit(
            Ensemble(network, SEEDS),
            data(),
            optimizer=optimizer,
            epochs=1,
            scheduler=lr_scheduler.ReduceLROnPlateau,
            validation=data(),
        )


def test_a_plateau_cannot_step_after_every_batch():
    settings = {"scheduler": lr_scheduler.ReduceLROnPlateau, "schedule_every": "batch"}
    with pytest.raises(ValueError, match="sees a loss after each epoch: schedule_every must be 'epoch'"):
        fit(Ensemble(network, SEEDS), data(), optimizer=SGD, epochs=1, **settings)


@pytest.mark.parametrize(
    ("settings", "says"),
    [
        ({"epochs": 0}, "epochs, validate_every and batch_size must be at least 1, got 0, 1 and None"),
        ({"batch_size": 0}, "must be at least 1, got 1, 1 and 0"),
        ({"validate_every": 0}, "must be at least 1, got 1, 0 and None"),
        ({"max_norm": 0.0}, "max_norm must be positive, got 0.0"),
        ({"max_norm": torch.nan}, "max_norm must be positive, got nan"),
        ({"chunk_size": 0}, "chunk_size must be at least 1, got 0"),
        ({"schedule_every": "step"}, "schedule_every must be 'epoch' or 'batch', got 'step'"),
        ({"early_stopping": EarlyStopping(1)}, "early_stopping needs validation data"),
        ({"l1": torch.ones(2)}, r"l1 must be one number or one for each of the 3 copies, got shape \(2,\)"),
        ({"l2": torch.ones(3, 1)}, r"l2 must be one number or one for each of the 3 copies, got shape \(3, 1\)"),
        ({"loss": nn.functional.mse_loss}, r"loss must return one number a copy, \(S,\), got \(\) for one copy"),
        ({"validation": data(copies=2)}, r"validation inputs and targets must have a first dimension of the 3 copies"),
    ],
)
def test_settings_that_make_no_sense_are_refused(settings, says):
    ensemble = Ensemble(network, SEEDS)
    before = ensemble.flat.clone()
    with pytest.raises(ValueError, match=says):
        fit(ensemble, data(), **{"optimizer": SGD, "epochs": 1} | settings)
    assert torch.equal(ensemble.flat, before)


@pytest.mark.parametrize(
    ("inputs", "targets", "says"),
    [
        ((2, 7, 2), (2, 7, 1), r"first dimension of the 3 copies .* got \(2, 7, 2\) and \(2, 7, 1\); `Ensemble.share`"),
        ((7, 2), (7, 1), r"first dimension of the 3 copies"),
        ((3, 7, 2), (3,), r"got \(3, 7, 2\) and \(3,\)"),
        ((3, 7, 2), (3, 6, 1), "inputs and targets must be as many, got 7 and 6"),
        ((3, 7, 2), (3, 7), r"targets must have the shape of predictions \(1, 2, 1\), got \(1, 2\)"),
    ],
)
def test_data_that_do_not_fit_are_refused(inputs, targets, says):
    with pytest.raises(ValueError, match=says):
        fit(
            Ensemble(network, SEEDS),
            (torch.ones(inputs).double(), torch.ones(targets).double()),
            optimizer=SGD,
            epochs=1,
        )
