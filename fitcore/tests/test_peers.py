"""The contenders of the throughput claims train as the ensemble does, or there is nothing to compare."""

from functools import partial

import pytest
import torch
from torch import nn
from torch.optim import SGD, Adam

from fitcore.ensembles import Ensemble, fit
from fitcore.evaluation.peers import jax_training, training_loop
from fitcore.models import MLP

STEPS = 3


def perceptrons(n=7):
    torch.manual_seed(0)
    ensemble = Ensemble(lambda: MLP([2, 5, 1], nn.Tanh), range(3))
    x = torch.randn(n, 2)
    return ensemble, ensemble.share(x), ensemble.share(x.sum(1, keepdim=True))


def perceptrons_with_data_of_their_own(n=7):
    ensemble, x, y = perceptrons(n)
    return ensemble, x + torch.randn(3, n, 2), y + torch.randn(3, n, 1)


@pytest.mark.parametrize("optimizer", [SGD, Adam])
@pytest.mark.parametrize("setting", [perceptrons, perceptrons_with_data_of_their_own])
def test_jax_sees_the_losses_of_the_ensemble(setting, optimizer):
    pytest.importorskip("jax", reason="needs the extra peers")
    pytest.importorskip("optax", reason="needs the extra peers")
    ensemble, x, y = setting()
    losses = jax_training(ensemble, x, y, optimizer=optimizer, lr=0.01, steps=STEPS)()
    curves = fit(ensemble, (x, y), epochs=STEPS, optimizer=partial(optimizer, lr=0.01))
    torch.testing.assert_close(torch.tensor(losses.tolist()).T, curves.losses, rtol=1e-4, atol=1e-6)


def test_the_loop_trains_as_many_copies_as_it_is_told():
    ensemble, x, y = perceptrons_with_data_of_their_own()
    calls = []

    def optimizer(parameters):
        calls.append(SGD(parameters, lr=0.01))
        return calls[-1]

    training_loop(ensemble, x, y, optimizer=optimizer, loss=nn.MSELoss(), copies=2, steps=STEPS)()
    fit(ensemble, (x, y), epochs=STEPS, optimizer=partial(SGD, lr=0.01))
    assert len(calls) == 2
    for index, trained in enumerate(calls):
        expected = list(ensemble.module(index).parameters())
        torch.testing.assert_close(trained.param_groups[0]["params"], expected)
