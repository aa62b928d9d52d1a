"""Section 10.6: what ReLU does for a network, and what max-pooling does in its place."""

from functools import partial

import hypothesis.strategies as st
import pytest
import torch
from hypothesis import given, settings
from torch import nn
from torch.testing import assert_close

from fitcore.ensembles import Ensemble, fit
from fitcore.models import MLP
from fitcore.seeding import seeded
from fitcore.testing import REFUTED, claim, override


def cnn_without_relu(pooling):
    """The network of section 10 for 12x12 pixels, without its ReLUs and with another pooling."""
    first, second = (nn.Conv2d(a, b, 3, padding=1) for a, b in ((1, 16), (16, 32)))
    return nn.Sequential(first, pooling(2), second, pooling(2), nn.Flatten(), nn.Linear(32 * 3 * 3, 10))


def without_relu():
    return cnn_without_relu(nn.MaxPool2d)


def linear_throughout():
    return cnn_without_relu(nn.AvgPool2d)


def bend(model, a, b):
    """f(a + b) - f(a) - f(b) + f(0), which is 0 for a model that is linear but for a constant."""
    with torch.no_grad():
        return model(a + b) - model(a) - model(b) + model(torch.zeros_like(a))


@claim(
    "pytorch-notes/nonlinearity-relu-needed-in-cnn",
    verdict=REFUTED,
    finding="A maximum is no linear function either, so that this network stays nonlinear without its ReLUs. Only with "
    "average pooling as well it is linear.",
    controls=[override("average pooling", network=linear_throughout)],
)
@settings(max_examples=10)
@given(seed=st.integers(0, 2**32 - 1), network=st.just(without_relu))
def test_without_relu_max_pooling_keeps_the_network_nonlinear(seed, network):
    with seeded(seed):
        model, linear = network().double(), linear_throughout().double()
        a, b = torch.randn(2, 4, 1, 12, 12, dtype=torch.float64)
    assert bend(model, a, b).abs().mean() > 1e-3
    assert_close(bend(linear, a, b), torch.zeros(4, 10, dtype=torch.float64))


@claim(
    "pytorch-notes/nonlinearity-relu-needed-in-cnn",
    verdict=REFUTED,
    finding="It learns digits as well: from 300 of them, in 12x12 pixels, both networks learn to recognise 88 % of "
    "others. With average pooling as well, and so linear, it is 80 % (measured once, apart).",
    controls=[override("average pooling as well", network=linear_throughout)],
)
def test_without_relu_the_network_learns_digits_as_well(learn_by_heart, evidence, network=without_relu):
    rectified, unrectified = learn_by_heart().accuracies(), learn_by_heart(network, copies=5).accuracies()
    evidence.compare("test accuracy", {"with ReLU": rectified, "without": unrectified})
    assert unrectified.mean() > rectified.mean() - 0.04


def sine():
    """200 points of sin(x): what a straight line leaves of their mean square, 0.4975, is 0.1996."""
    x = torch.linspace(-torch.pi, torch.pi, 200)[:, None]
    return x, x.sin()


def quadrants():
    """A grid over the square whose values are the signs of x₁x₂, which no plane follows at all."""
    side = torch.linspace(-1, 1, 14)
    x = torch.cartesian_prod(side, side)
    return x, x.prod(1, keepdim=True).sign()


def least_linear_error(x, y):
    """Mean squared error of the best straight line or plane."""
    x, y = torch.cat([x, torch.ones(len(x), 1)], dim=1).double(), y.double()
    return (x @ torch.linalg.lstsq(x, y).solution - y).square().mean()


def errors_after_training(seeds, task, activation):
    """Mean squared errors of an MLP of each seed, (copies,)."""
    x, y = task()
    ensemble = Ensemble(lambda: MLP([x.shape[1], 32, 32, 1], activation), seeds)
    adam = partial(torch.optim.Adam, lr=0.01)
    fit(ensemble, (ensemble.share(x), ensemble.share(y)), epochs=300, optimizer=adam)
    with torch.no_grad():
        return (ensemble(ensemble.share(x)) - y).square().mean((1, 2))


@claim(
    "pytorch-notes/relu-nonlinearity-enables-complex-patterns",
    finding="With ReLU an MLP with two hidden layers of 32 comes close to sin(x) and to the signs of the four "
    "quadrants. Without it its layers make one straight line or plane, which leaves errors of at least 0.1996 and 1.",
    controls=[override("no ReLU", activation=nn.Identity)],
    trials=6,
)
@pytest.mark.parametrize("task", [sine, quadrants])
def test_with_relu_an_mlp_learns_what_no_linear_model_can(shared, trials, evidence, task, activation=nn.ReLU):
    seeds, limit = tuple(shared.seeds(trials.count).tolist()), least_linear_error(*task())
    rectified, linear = (shared(errors_after_training, seeds, task, kind) for kind in (activation, nn.Identity))
    evidence.compare("mean squared error", {"with ReLU": rectified, "without": linear}, limit=limit)
    trials.always((rectified < 0.4 * limit).numpy(), name="with ReLU: far below the best linear model")
    trials.always((linear > (1 - 1e-4) * limit).numpy(), name="without: not below it")
