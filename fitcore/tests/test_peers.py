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


def perceptrons(n=7, activation=nn.Tanh):
    torch.manual_seed(0)
    ensemble = Ensemble(lambda: MLP([2, 5, 1], activation), range(3))
    x = torch.randn(n, 2)
    return ensemble, ensemble.share(x), ensemble.share(x.sum(1, keepdim=True))


def perceptrons_with_data_of_their_own(n=7):
    ensemble, x, y = perceptrons(n)
    return ensemble, x + torch.randn(3, n, 2), y + torch.randn(3, n, 1)


def perceptrons_with_inputs_of_their_own(n=7):
    ensemble, x, y = perceptrons(n, nn.ReLU)
    return ensemble, x + torch.randn(3, n, 2), y


@pytest.mark.parametrize(
    ("setting", "optimizer"),
    [
        (perceptrons, SGD),
        (perceptrons_with_data_of_their_own, Adam),
        (perceptrons_with_inputs_of_their_own, SGD),
    ],
)
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

    def losses(outputs, targets):
        return nn.functional.poisson_nll_loss(outputs, targets, reduction="none").flatten(1).mean(1)

    training_loop(ensemble, x, y, optimizer=optimizer, loss=nn.PoissonNLLLoss(), copies=2, steps=STEPS)()
    fit(ensemble, (x, y), epochs=STEPS, optimizer=partial(SGD, lr=0.01), loss=losses)
    assert len(calls) == 2
    for index, trained in enumerate(calls):
        expected = list(ensemble.module(index).parameters())
        torch.testing.assert_close(trained.param_groups[0]["params"], expected)
