"""Section 9.1: a small network learns the sine, and what its width and activation have to do with it.

The document fixes the network, neither range nor training. Here it learns from 20 points of one period, or of three,
all at once, by Adam with a cosine schedule. Errors are root mean squares over 501 points; the sine's own is 0.71.
"""

import math
from dataclasses import dataclass, replace
from functools import partial

import hypothesis.strategies as st
import numpy as np
import pytest
import scipy.special
import torch
from hypothesis import given, settings
from torch import nn
from torch.optim.lr_scheduler import CosineAnnealingLR
from torch.testing import assert_close

from fitcore.ensembles import Ensemble, fit
from fitcore.models import MLP, number_of_parameters
from fitcore.seeding import seeded
from fitcore.testing import CONDITIONAL, REFUTED, claim, override
from fitcore.testing.strategies import tensors

TRIALS = 60


@dataclass(frozen=True)
class Setting:
    """Hidden neurons a layer, how much of which sine is learned from how many points, and for how long."""

    width: int = 32
    periods: int = 1
    points: int = 20
    amplitude: float = 1.0
    lr: float = 0.02
    epochs: int = 500


LONG, SHORT, WIDE = Setting(), Setting(lr=0.01, epochs=100), Setting(periods=3, lr=0.03, epochs=300)
TALL = Setting(amplitude=10.0, lr=0.03, epochs=300)


def network(activation=nn.Tanh, width=32):
    return MLP([1, width, width, 1], activation)


def logistic_regression(*_):
    return nn.Sequential(nn.Linear(1, 1), nn.Sigmoid())


def grid(periods=1):
    return torch.linspace(-periods * math.pi, periods * math.pi, 501)[:, None]


def fitted_curves(seeds, activation, setting, model):
    """Predictions on the grid of one network a seed over the amplitude, (trials, 501)."""
    x = torch.linspace(-setting.periods * math.pi, setting.periods * math.pi, setting.points)[:, None]
    ensemble = Ensemble(partial(model, activation, setting.width), seeds)
    adam, schedule = (
        partial(torch.optim.Adam, lr=setting.lr, fused=True),
        partial(CosineAnnealingLR, T_max=setting.epochs),
    )
    data = ensemble.share(x), ensemble.share(setting.amplitude * x.sin())
    fit(ensemble, data, epochs=setting.epochs, optimizer=adam, scheduler=schedule)
    with torch.no_grad():
        return ensemble(ensemble.share(grid(setting.periods)))[..., 0] / setting.amplitude


@pytest.fixture
def curves(shared):
    """``curves(activation, setting)``, learned once a session."""

    def learned(activation=nn.Tanh, setting=LONG, model=network):
        return shared(fitted_curves, tuple(shared.seeds(TRIALS).tolist()), activation, setting, model)

    return learned


@pytest.fixture
def errors(curves):
    """``errors(activation, setting)``, root mean square errors on the grid, (trials,)."""

    def of(activation=nn.Tanh, setting=LONG, model=network):
        truth = grid(setting.periods)[:, 0].sin()
        return (curves(activation, setting, model) - truth).square().mean(1).sqrt()

    return of


class OneLayerLess(MLP):
    def __init__(self, widths, activation):
        super().__init__(widths[:-2] + widths[-1:], activation)


@claim(
    "pytorch-notes/sin-net-has-three-linear-layers",
    finding="It has 1,153 parameters: 64, 1,056 and 33.",
    controls=[override("one hidden layer", model=OneLayerLess)],
)
@given(count=st.integers(1, 50), model=st.just(MLP))
def test_the_network_is_three_linear_layers_with_tanh_between(count, model):
    net = model([1, 32, 32, 1], nn.Tanh)
    assert [type(layer) for layer in net] == [nn.Linear, nn.Tanh, nn.Linear, nn.Tanh, nn.Linear]
    assert [tuple(layer.weight.shape) for layer in net[::2]] == [(32, 1), (32, 32), (1, 32)]
    assert number_of_parameters(net) == 1153
    assert net(torch.zeros(count, 1)).shape == (count, 1)


@claim(
    "pytorch-notes/tanh-beats-relu-on-sin",
    verdict=CONDITIONAL,
    finding="Trained for long, yes: after 500 updates on one period the error is 0.003 with Tanh and 0.007 to 0.008 "
    "with ReLU (medians). But ReLU learns faster: after a schedule of 100 updates its error is 0.03 to 0.04, and that "
    "of Tanh 0.13. On three periods ReLU is far worse, not slightly: 0.33 to 0.34 against 0.13 to 0.16 after 300 "
    "updates at 0.03.",
    controls=[override("ReLU against ReLU", better=nn.ReLU, worse=nn.ReLU)],
)
@pytest.mark.parametrize(
    ("setting", "better", "worse"),
    [(LONG, nn.Tanh, nn.ReLU), (SHORT, nn.ReLU, nn.Tanh), (WIDE, nn.Tanh, nn.ReLU)],
    ids=["one period", "one period, short training", "three periods"],
)
def test_tanh_fits_better_after_long_training_and_relu_after_short(
    *, errors, curves, trials, evidence, setting, better, worse
):
    arms, x = {arm.__name__: arm for arm in (nn.Tanh, nn.ReLU)}, grid(setting.periods)[:, 0]
    evidence.compare("error", {name: errors(arm, setting) for name, arm in arms.items()})
    fits = {name: curves(arm, setting)[0] for name, arm in arms.items()}
    evidence.curve("the first trial", x, {"sin(x)": x.sin(), **fits}, x_label="x")
    trials.less(errors(better, setting), errors(worse, setting), name=f"{better.__name__} has the smaller error")


@claim(
    "pytorch-notes/tanh-range-suits-sin",
    verdict=CONDITIONAL,
    finding="The notes name the range, and do not say that it is why. A range that matches the target's helps: of "
    "10·sin(x) Tanh misses 18 % of the amplitude after 300 updates, and ReLU less than one percent. But it is not what "
    "makes Tanh better on the sine itself: Hardtanh has the same range, and misses it by 0.008, much as ReLU does, "
    "where Tanh misses it by 0.003 (medians). It is the curve.",
    controls=[
        override("the sine itself", tall=LONG),
        override("Tanh for Hardtanh", straight=nn.Tanh),
    ],
)
def test_a_straight_line_of_the_same_range_fits_no_better_than_relu(
    errors, trials, evidence, straight=nn.Hardtanh, tall=TALL
):
    arms = {arm.__name__: errors(arm) for arm in (nn.Tanh, nn.ReLU)} | {"Hardtanh": errors(straight)}
    evidence.compare("error, sin(x)", arms)
    evidence.compare("error over amplitude, 10·sin(x)", {arm.__name__: errors(arm, tall) for arm in (nn.Tanh, nn.ReLU)})
    trials.less(errors(nn.Tanh), errors(straight), name="sin(x): Hardtanh is worse than Tanh")
    trials.equivalent(errors(straight).log(), errors(nn.ReLU).log(), within=math.log(3), name="and much like ReLU")
    trials.less(errors(nn.ReLU, tall), errors(nn.Tanh, tall), name="10·sin(x): ReLU is better")


@claim(
    "pytorch-notes/relu-also-fits-sin",
    finding="One period to an error of 0.007 to 0.008 (median), less than one percent of its amplitude.",
    controls=[override("no activation", activation=nn.Identity)],
)
def test_relu_fits_one_period_too(errors, curves, trials, evidence, activation=nn.ReLU):
    evidence.observe("error", errors(activation), limit=0.03)
    x = grid()[:, 0]
    fits = curves(activation)
    evidence.curve("the first trial", x, {"sin(x)": x.sin(), "ReLU": fits[0], "error": fits[0] - x.sin()}, x_label="x")
    trials.mostly(errors(activation) < 0.03, at_least=0.5, name="an error below 0.03")


@claim(
    "pytorch-notes/hidden-10-to-64-all-fit-sin",
    finding="One period, to errors of 0.004 with 10 neurons a layer, 0.003 with 32 and 0.004 with 64 (medians). With 2 "
    "it stays near 0.2.",
    controls=[override("2 neurons", width=2)],
)
@pytest.mark.parametrize("width", [10, 32, 64])
def test_ten_to_sixty_four_neurons_fit_one_period(errors, trials, evidence, width):
    of_this_width = errors(setting=replace(LONG, width=width))
    evidence.observe("error", of_this_width, limit=0.05)
    trials.mostly(of_this_width < 0.05, at_least=0.5, name="an error below 0.05")


@claim(
    "pytorch-notes/linear-net-cannot-fit-sin",
    finding="Whatever its weights it is one straight line, and the best of them misses one period by 0.44, the square "
    "root of 1/2 - 3/π². 500 updates bring it to 0.45.",
    controls=[override("Tanh after all", activation=nn.Tanh)],
)
def test_without_activations_the_network_is_a_straight_line(errors, curves, trials, evidence, activation=nn.Identity):
    fits, x = curves(activation), grid()[:, 0]
    least_squares = np.polynomial.Polynomial.fit(x.numpy(), x.sin().numpy(), 1)(x.numpy())
    best = np.sqrt(np.mean((least_squares - x.sin().numpy()) ** 2))
    assert best == pytest.approx(math.sqrt(0.5 - 3 / math.pi**2), abs=2e-3)
    evidence.curve("the first trial", x, {"sin(x)": x.sin(), "no activation": fits[0]}, x_label="x")
    trials.always(fits.diff(n=2).abs().amax(1) < 1e-5, name="a straight line")
    trials.always(errors(activation) > best - 1e-6, name="no better than the best line")
    trials.mostly(errors(activation) < best + 0.01, at_least=0.5, name="and close to it")


@claim(
    "pytorch-notes/linear-net-cannot-fit-sin",
    controls=[override("Tanh after all", activation=nn.Tanh)],
)
@settings(max_examples=10)
@given(
    x=tensors((7, 1), torch.float64, st.integers(-99, 99).map(lambda tenths: tenths / 10)),
    seed=st.integers(0, 2**32 - 1),
    activation=st.just(nn.Identity),
)
def test_three_linear_layers_are_one(x, seed, activation):
    with seeded(seed):
        net = network(activation).double()
    slope = net[4].weight @ net[2].weight @ net[0].weight
    intercept = net[4].weight @ (net[2].weight @ net[0].bias + net[2].bias) + net[4].bias
    assert_close(net(x), x @ slope.T + intercept)
    assert_close(net(x + 1) - net(x), slope.expand_as(x))


@claim(
    "pytorch-notes/sin-regression-is-logistic-regression",
    verdict=REFUTED,
    finding="Section 9.1 is regression: the network misses the sine by 0.003. Logistic regression, a sigmoid of a "
    "straight line, is between 0 and 1 and misses it by 0.5 at least. It predicts the probability of a class. At most "
    "the title fits 9.2, whose two logits do so too: their softmax is the sigmoid of their difference.",
    controls=[override("the network in its place", logistic=network)],
)
def test_the_sine_is_beyond_logistic_regression(errors, curves, trials, evidence, logistic=logistic_regression):
    network_errors, logistic_errors = errors(), errors(model=logistic)
    evidence.compare("error", {"network": network_errors, "logistic regression": logistic_errors})
    predictions, x = curves(model=logistic), grid()[:, 0]
    fits = {"sin(x)": x.sin(), "network": curves()[0], "logistic regression": predictions[0]}
    evidence.curve("the first trial", x, fits, x_label="x")
    positive_part = x.sin().clamp(min=0)  # the best of all functions between 0 and 1
    floor = (positive_part - x.sin()).square().mean().sqrt()
    trials.always(((predictions >= 0) & (predictions <= 1)).all(1), name="a probability")
    trials.always(logistic_errors >= floor, name="an error of 0.5 and more")
    trials.mostly(network_errors < 0.03, at_least=0.5, name="the network: an error below 0.03")
    two_logits = trials.map(lambda _: torch.randn(9, 2))
    probabilities = scipy.special.softmax(two_logits, axis=-1)[..., 1]
    of_difference = scipy.special.expit(np.diff(two_logits)[..., 0])
    trials.always(abs(probabilities - of_difference).max(1) < 1e-6, name="two logits: the sigmoid of their difference")
