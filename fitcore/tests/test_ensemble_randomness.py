"""Dropout masks and noise: drawn for every copy, and reproducible."""

from functools import partial

import pytest
import torch
from torch import nn, optim
from torch.testing import assert_close

from fitcore.ensembles import Ensemble, fit, mean_squared_errors
from fitcore.models import GaussianNoise
from fitcore.tests.plain_loop import (
    SEEDS,
    SGD,
    data,
    exactly,
    noisy,
    noisy_graph,
)


@pytest.mark.parametrize("wrap", [nn.Sequential, lambda *layers: nn.Sequential(nn.Sequential(*layers))])
@pytest.mark.parametrize("p", [0.0, 0.3, 1.0])
def test_dropout_draws_for_every_copy_and_epoch(p, wrap):
    seen = []

    def loss(outputs, targets):
        seen.append(outputs.detach().clone())
        return outputs.flatten(1).mean(1)

    def make_model():
        return wrap(nn.Linear(1, 200), nn.Dropout(p))

    ensemble, x = Ensemble(make_model, [5, 5]), torch.ones(2, 50, 1)
    fit(ensemble, (x, x), optimizer=partial(optim.SGD, lr=0.0), epochs=2, loss=loss)
    masks = torch.stack(seen[1:]) / ensemble.eval()(x).detach()  # the first call checks the shapes
    assert_close(masks[masks != 0], torch.full_like(masks[masks != 0], 1 / (1 - p or 1)))
    kept = (masks != 0).double().reshape(4, -1)
    standard_error = (p * (1 - p) / kept.shape[1]) ** 0.5
    assert ((kept.mean(1) - (1 - p)).abs() <= 6 * standard_error).all()
    if 0 < p < 1:
        correlations = torch.corrcoef(kept) - torch.eye(4)
        assert correlations.abs().max() < 6 / kept.shape[1] ** 0.5


@pytest.mark.parametrize("make_model", [noisy, noisy_graph])
def test_what_a_chunk_draws_depends_on_the_seed_of_its_first_copy(make_model):
    first, second, third = (
        fit(Ensemble(make_model, seeds), data(copies=2), optimizer=SGD, epochs=2).losses
        for seeds in ([5, 1], [5, 2], [3, 1])
    )
    assert torch.equal(first[:, 0], second[:, 0])
    assert not torch.equal(first[:, 1], third[:, 1])


@pytest.mark.parametrize("make_model", [noisy, noisy_graph])
def test_masks_and_noise_are_reproducible_whatever_the_global_state(make_model):
    first, second = Ensemble(make_model, range(4)).eval(), Ensemble(make_model, range(4))
    torch.manual_seed(1)
    curves = fit(first, data(copies=4), optimizer=SGD, epochs=5, chunk_size=2)
    state = torch.manual_seed(2).get_state()
    again = fit(second, data(copies=4), optimizer=SGD, epochs=5, chunk_size=2)
    assert torch.equal(torch.get_rng_state(), state)
    assert torch.equal(first.flat, second.flat)
    assert torch.equal(curves.losses, again.losses)


def test_noise_on_the_inputs_has_its_standard_deviation():
    seen = []

    def loss(outputs, targets):
        seen.append(outputs.detach().clone())
        return outputs.flatten(1).mean(1)

    ensemble = Ensemble(lambda: nn.Sequential(nn.Linear(1, 100), GaussianNoise(0.5)), [5, 5])
    x = torch.ones(2, 50, 1)
    fit(ensemble, (x, x), optimizer=partial(optim.SGD, lr=0.0), epochs=2, loss=loss)
    noise = (torch.stack(seen[1:]) - ensemble.eval()(x).detach()).reshape(4, -1)
    assert_close(noise.std(1), torch.full((4,), 0.5), rtol=0.05, atol=0.0)
    assert_close(torch.corrcoef(noise), torch.eye(4), rtol=0.0, atol=0.09)


@pytest.mark.parametrize("make_model", [noisy, noisy_graph])
def test_validation_draws_no_masks(make_model):
    ensemble, (x, y) = Ensemble(make_model, SEEDS), data()
    curves = fit(ensemble, (x, y), optimizer=SGD, epochs=3, validation=(x, y))
    exactly(curves.validation_losses[-1], mean_squared_errors(ensemble.eval()(x), y))
