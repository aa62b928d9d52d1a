"""Section 5.3.2: how the variance of a signal, and of its gradient, fares through deep networks at their start."""

from functools import partial
from itertools import pairwise

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn.functional import relu

from fitcore.testing import CONDITIONAL, REFUTED, claim, override, parameter

WIDTH, LAYERS = 100, 11


def kaiming(layer):
    nn.init.kaiming_normal_(layer.weight, nonlinearity="relu")


def xavier(layer):
    nn.init.xavier_uniform_(layer.weight)


def xavier_with_gain(layer):
    nn.init.xavier_uniform_(layer.weight, gain=nn.init.calculate_gain("tanh"))


def default(layer):
    layer.reset_parameters()


def standard_normal(layer):
    nn.init.normal_(layer.weight)


def small_normal(layer):
    nn.init.normal_(layer.weight, std=0.01)


def positive(layer):
    nn.init.uniform_(layer.weight, 0, 0.1)


def identity(x):
    return x


@torch.no_grad()
def through_one_network(draw, activation, scale, bias):
    layer, signal, measured = nn.Linear(WIDTH, WIDTH, bias=bias), scale * torch.randn(8, WIDTH), []
    for _ in range(LAYERS):
        draw(layer)
        z = layer(signal)
        measured.append(torch.stack([z.square().mean(), z.var(0).mean()]))
        signal = activation(z)
    return torch.stack(measured, dim=1)


def preactivation_variances(count, draw, activation, scale=1.0, bias=False):
    """Mean squares of the pre-activations of as many networks, over units and 8 normal inputs, layer after layer.

    The first entry is that, the second the variance between the inputs alone: (2, layers, count).
    """
    networks = [through_one_network(draw, activation, scale, bias) for _ in range(count)]
    return torch.stack(networks, dim=2).numpy()


@pytest.fixture
def variances(shared, trials):
    """``variances(draw, activation, ...)``, (2, layers, trials), computed once a session."""
    return lambda *setting, **options: shared(preactivation_variances, trials.count, *setting, **options)


def mean_factor(variances):
    """From one layer to the next, on average over the layers."""
    return (variances[1:] / variances[:-1]).mean(0)


def change(variances):
    """Logarithm of the factor from the first layer to the last."""
    return np.log(variances[-1] / variances[0])


def medians(*series):
    return {label: np.log10(np.median(values, axis=1)) for label, values in series}


@claim(
    "pytorch-notes/variance-factor-is-fan-in-times-weight-variance",
    finding="Layers of 100 after ReLU: 1 under Kaiming, 1/2 under Xavier, 1/6 under torch's default, 50 under N(0, 1) "
    "and 0.005 under N(0, 0.01²), to 2 % in the median. Without ReLU it is twice that.",
    controls=[override("weights of one sign", draw=positive)],
    trials=60,
)
@pytest.mark.parametrize(
    ("draw", "activation", "factor"),
    [
        (xavier, identity, 1),
        (default, identity, 1 / 3),
        (kaiming, relu, 1),
        (xavier, relu, 1 / 2),
        (default, relu, 1 / 6),
        (standard_normal, relu, WIDTH / 2),
        (small_normal, relu, 0.01**2 * WIDTH / 2),
    ],
    ids=["Xavier-linear", "default-linear", "Kaiming-ReLU", "Xavier-ReLU", "default-ReLU", "1-ReLU", "0.01-ReLU"],
)
def test_a_layer_multiplies_the_variance_by_a_factor_of_its_weights(
    variances, trials, evidence, *, draw, activation, factor
):
    measured = mean_factor(variances(draw, activation)[0])
    evidence.observe("factor of a layer", measured, limit=factor)
    trials.equivalent(1, measured / factor, within=0.15, name="as predicted, within 15 %")
    last = mean_factor(variances(draw, activation)[0][-3:])
    trials.equivalent(1, last / factor, within=0.4, name="in the last two layers too, within 40 %")


@claim(
    parameter("statement"),
    finding="Ten layers on it is what it was, up to the chance of the draw: times 0.8 to 0.9 after ReLU (median), "
    "1.0 without. Under torch's default weights it has fallen to a hundred-millionth, and without ReLU to 1/60,000.",
    controls=[override("torch's default weights", draw=default)],
    trials=60,
)
@pytest.mark.parametrize(
    ("statement", "draw", "activation"),
    [
        ("pytorch-notes/kaiming-keeps-the-variance-through-relu-layers", kaiming, relu),
        ("pytorch-notes/xavier-keeps-the-variance-through-linear-layers", xavier, identity),
    ],
    ids=["Kaiming", "Xavier"],
)
def test_the_variance_stays_through_depth(variances, trials, evidence, *, statement, draw, activation):
    kept, lost = variances(draw, activation)[0], variances(default, activation)[0]
    series = medians(("drawn so", kept), ("torch's default", lost))
    evidence.curve("log10 of the median variance", range(LAYERS), series, x_label="layer")
    trials.equivalent(0, change(kept), within=np.log(4), name="the same within a factor of 4")
    trials.equivalent(1, mean_factor(kept), within=0.15, name="a factor of 1 a layer, within 15 %")


@claim(
    parameter("statement"),
    verdict=REFUTED,
    finding="Through ten ReLU layers of 100 the variance falls to a thousandth under Xavier (1/2 a layer), to a "
    "hundred-millionth under torch's default (1/6) and to 1e-23 under N(0, 0.01²) (0.005); under N(0, 1) it grows to "
    "1e17 (50). Under Kaiming weights it stays.",
    controls=[override("Kaiming weights", draw=kaiming)],
    trials=60,
)
@pytest.mark.parametrize(
    ("statement", "draw"),
    [
        ("pytorch-notes/xavier-keeps-the-variance-through-relu-layers", xavier),
        ("pytorch-notes/default-weights-keep-the-variance-through-relu-layers", default),
        ("pytorch-notes/normal-weights-of-a-fixed-scale-keep-the-variance", standard_normal),
        ("pytorch-notes/normal-weights-of-a-fixed-scale-keep-the-variance", small_normal),
    ],
    ids=["Xavier", "default", "1", "0.01"],
)
def test_the_variance_leaves_its_scale_through_relu_layers(variances, trials, evidence, *, statement, draw):
    lost, kept = variances(draw, relu)[0], variances(kaiming, relu)[0]
    series = medians(("drawn so", lost), ("Kaiming", kept))
    evidence.curve("log10 of the median variance", range(LAYERS), series, x_label="layer")
    trials.less(np.log(100), abs(change(lost)), name="it changes by more than a factor of 100")
    trials.equivalent(0, change(kept), within=np.log(4), name="Kaiming: within a factor of 4")


@claim(
    "pytorch-notes/default-weights-keep-the-variance-through-relu-layers",
    verdict=REFUTED,
    finding="With torch's biases too the variance settles at 0.4/fan_in: what is left are the biases. The difference "
    "between inputs goes on falling, to less than a hundred-millionth in ten layers.",
    controls=[override("Kaiming weights", draw=kaiming)],
    trials=60,
)
def test_of_torchs_default_only_the_biases_are_left(variances, trials, evidence, draw=default):
    everything, between = variances(draw, relu, bias=True)
    series = medians(("over units and inputs", everything), ("between inputs", between))
    evidence.curve("log10 of the median variance", range(LAYERS), series, x_label="layer")
    settled = np.full(trials.count, 0.4 / WIDTH)  # the fixed point of v = v / 6 + 1 / (3 fan_in)
    trials.equivalent(settled, everything[-1], within=0.001, name="it settles at that of the biases")
    trials.less(change(between), np.log(1e-6), name="the inputs' share falls below a millionth")


@claim(
    "pytorch-notes/xavier-keeps-the-variance-through-tanh-layers",
    verdict=CONDITIONAL,
    finding="While the signal is small, where tanh x is nearly x: from 0.0025 it falls by a twentieth to a tenth in "
    "ten layers. From 1 it falls to 0.05, roughly like 1/(2 layers). With the gain of 5/3 it comes to about 1.2 from "
    "either.",
    controls=[override("no tanh", activation=identity)],
    trials=60,
)
def test_xavier_keeps_small_signals_through_tanh_layers(variances, trials, evidence, activation=torch.tanh):
    small, unit = variances(xavier, activation, scale=0.05)[0], variances(xavier, activation)[0]
    gained = variances(xavier_with_gain, activation)[0], variances(xavier_with_gain, activation, scale=0.05)[0]
    series = medians(("from 1", unit), ("from 0.0025", small), ("from 1, gain 5/3", gained[0]))
    evidence.curve("log10 of the median variance", range(LAYERS), series, x_label="layer")
    zero, settled = np.zeros(trials.count), np.full(trials.count, 1.15)
    trials.equivalent(zero, change(small), within=np.log(2), name="a small signal stays within a factor of 2")
    trials.less(change(unit), np.log(0.1), name="a large one falls below a tenth")
    trials.equivalent(settled, gained[0][-1], within=0.4, name="with the gain of 5/3 it settles from above")
    trials.equivalent(settled, gained[1][-1], within=0.4, name="and from below")


def spread_through_convolutions(mode, channels):
    """Factors by which three convolutions after ReLU change the variance, forward and of gradients backward."""
    convolution = partial(nn.Conv2d, kernel_size=3, padding=1, padding_mode="circular")  # no borders that lose any
    signal, outputs = torch.randn(4, channels[0], 4, 4), []
    for pair in pairwise((channels[0], *channels)):
        layer = convolution(*pair)
        nn.init.kaiming_normal_(layer.weight, mode=mode, nonlinearity="relu")
        nn.init.zeros_(layer.bias)
        outputs.append(layer(signal))
        signal = relu(outputs[-1])
    first, *_, last = outputs
    (gradient,) = torch.autograd.grad(last, first, torch.randn_like(last))
    return torch.stack([last.square().mean() / first.square().mean(), gradient.square().mean()]).detach()


def spreads_through_convolutions(count, mode, channels):
    """The two factors of as many networks, (2, count)."""
    return torch.stack([spread_through_convolutions(mode, channels) for _ in range(count)], dim=1).numpy()


@claim(
    "pytorch-notes/fan-out-keeps-the-variance-of-activations",
    verdict=CONDITIONAL,
    finding="Only from a layer to one of as many channels. Where channels double, as in the listing, each convolution "
    "halves it: the gradient's is what fan_out keeps. fan_in keeps that of activations, and doubles the gradient's.",
    controls=[override("fan_in", mode="fan_in")],
    trials=60,
)
def test_fan_out_keeps_the_variance_of_gradients(shared, trials, evidence, mode="fan_out", growing=(16, 32, 64, 128)):
    spreads = partial(shared, spreads_through_convolutions, trials.count)
    (forward, backward), with_fan_in = spreads(mode, growing), spreads("fan_in", growing)
    level = spreads(mode, (32, 32, 32, 32))
    factors = {"fan_out": forward, "fan_out, gradient": backward, "fan_in": with_fan_in[0]}
    evidence.compare("factor of three convolutions", factors | {"fan_in, gradient": with_fan_in[1]})
    zero, within = np.zeros(trials.count), np.log(2.5)
    trials.equivalent(zero, np.log(8 * forward), within, name="the variance of activations is halved three times")
    trials.equivalent(zero, np.log(backward), within, name="that of gradients stays")
    trials.equivalent(zero, np.log(with_fan_in[0]), within, name="with fan_in that of activations stays")
    trials.equivalent(zero, np.log(with_fan_in[1] / 8), within, name="and that of gradients doubles three times")
    trials.equivalent(zero, np.log(level[0]), within, name="with as many channels throughout fan_out keeps it too")
