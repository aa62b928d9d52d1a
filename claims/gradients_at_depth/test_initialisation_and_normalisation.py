"""Section 15.1.1: what initialisation and normalisation make of the gradient's growth through depth, at the start."""

import math

import hypothesis.strategies as st
import numpy as np
import pytest
import torch
from hypothesis import example, given, settings
from torch import nn

from fitcore.gradients.depth import gradient_norms_by_layer
from fitcore.seeding import seeded
from fitcore.testing import CONDITIONAL, claim, override

LAYERS, WIDTH = 20, 64


def rates(norms):
    """The factor of a layer, on average over the layers, for each network."""
    return ((norms[:, 0] / norms[:, -1]).log() / (norms.shape[1] - 1)).exp()


def growth(norms):
    """log10 of the growth of the gradient through k layers, median of the networks, (layers + 1,)."""
    return (norms / norms[:, -1:]).log10().median(0).values.flip(0)


@claim(
    "pytorch-notes/better-init-prevents-explosion",
    finding="Twenty ReLU layers of 64 multiply the gradient by 1e15 under N(0, 1), leave it under Kaiming's "
    "weights and take it to about 1/1,000 under Xavier's, which are made for tanh: factors of 5.6, 1.0 and 0.70 a "
    "layer (medians).",
    controls=[override("N(0, 1)", init="standard normal")],
    trials=40,
)
@pytest.mark.parametrize(("init", "factor"), [("kaiming", 1.0), ("xavier", math.sqrt(1 / 2))])
def test_a_better_start_keeps_the_gradient_from_growing(norms, trials, evidence, *, init, factor):
    better, worse = norms(nn.ReLU, init), norms(nn.ReLU, "standard normal")
    series = {"N(0, 1)": growth(worse), init: growth(better)}
    evidence.curve("log10 of the growth of the gradient", range(LAYERS + 1), series, x_label="layers passed")
    trials.equivalent(factor, rates(better), within=0.1, name="the factor predicted")
    trials.less(5.0, rates(worse), name="N(0, 1): above 5")


def weight_gradients(init):
    """Norms of the gradients of the weights, first layer first, (layers,); L is linear in the outputs."""
    network = nn.Sequential(*(nn.Sequential(nn.Linear(WIDTH, WIDTH, bias=False), nn.ReLU()) for _ in range(LAYERS)))
    for block in network:
        init(block[0].weight)
    outputs = network(torch.randn(8, WIDTH))
    (outputs * torch.randn_like(outputs)).mean().backward()
    return torch.stack([block[0].weight.grad.double().norm() for block in network])


def kaiming(weight):
    return nn.init.kaiming_normal_(weight, nonlinearity="relu")


@claim(
    "pytorch-notes/better-init-prevents-explosion",
    finding="It shows in the size of the weights' gradients, 1e14 times as large in every layer, but not in the "
    "ratio of the first layer's to the last one's, which is about 1 either way: where the gradient has grown "
    "through all layers, the signal that multiplies it has through none, and the other way round.",
    controls=[override("N(0, 1)", init=nn.init.normal_)],
    trials=40,
)
def test_the_explosion_shows_in_the_size_of_weight_gradients_not_in_their_ratio(trials, evidence, init=kaiming):
    better = trials.map(lambda seed: weight_gradients(init))
    worse = trials.map(lambda seed: weight_gradients(nn.init.normal_))
    sizes = {"N(0, 1)": np.log10(np.median(worse, axis=0)), "Kaiming": np.log10(np.median(better, axis=0))}
    evidence.curve("log10 of the gradient's norm", range(1, LAYERS + 1), sizes, x_label="layer")
    trials.less(1e12 * better.max(1), worse.min(1), name="N(0, 1): 1e12 times as large in every layer")
    ratios = {"N(0, 1)": np.log(worse[:, 0] / worse[:, -1]), "Kaiming": np.log(better[:, 0] / better[:, -1])}
    for name, ratio in ratios.items():
        trials.equivalent(0, ratio, within=np.log(10), name=f"{name}: first over last, within 10")


FACTOR = math.sqrt(math.pi / (math.pi - 1))


@claim(
    "pytorch-notes/bn-stops-gradient-explosion",
    verdict=CONDITIONAL,
    finding="Under N(0, 1) weights it takes the factor of a layer from 5.6 down to 1.22. But Kaiming's, with 1.0 "
    "before, get 1.22 as well, so that BatchNorm makes the gradient explode: some 2,700-fold through 40 layers. "
    "For large batches theory has √(π/(π-1)) = 1.21, whatever the weights: the mean that ReLU adds is no signal to "
    "the next normalisation, which stretches what remains.",
    controls=[override("no normalisation", batch_norm=False)],
    trials=40,
)
@pytest.mark.parametrize("init", ["kaiming", "standard normal"])
def test_batch_normalisation_sets_the_growth_of_a_layer(norms, trials, evidence, init, batch_norm=True):
    """G. Yang et al., "A mean field theory of batch normalization", ICLR 2019."""
    normalised = norms(nn.ReLU, init, batch=32, batch_norm=batch_norm, layers=40)
    plain = {start: norms(nn.ReLU, start) for start in ("kaiming", "standard normal")}
    series = {"with BatchNorm": growth(normalised)[: LAYERS + 1]} | {name: growth(n) for name, n in plain.items()}
    evidence.curve("log10 of the growth of the gradient", range(LAYERS + 1), series, x_label="layers passed")
    evidence.observe("factor of a layer with BatchNorm", rates(normalised), limit=FACTOR)
    trials.equivalent(FACTOR, rates(normalised), within=0.05, name="as predicted, within 0.05")
    trials.less(1e3, normalised[:, 0] / normalised[:, -1], name="1,000-fold through 40 layers")
    trials.less(5.0, rates(plain["standard normal"]), name="N(0, 1), without: above 5")
    trials.equivalent(1, rates(plain["kaiming"]), within=0.1, name="Kaiming, without: 1")


def batch_normalisation(channels, copies):
    return nn.BatchNorm2d(channels)


def layer_normalisation(channels, copies):
    """Of each copy's channels by themselves."""
    return nn.GroupNorm(copies, channels)


def through_normalised_layers(copies, normalisation):
    """The gradient's norms through networks of N(0, 1) weights side by side, (copies, layers + 1)."""
    layers = []
    for _ in range(LAYERS):
        weights = nn.Conv2d(copies * WIDTH, copies * WIDTH, 1, groups=copies, bias=False)
        nn.init.normal_(weights.weight)
        layers.append(nn.Sequential(weights, normalisation(copies * WIDTH, copies), nn.ReLU()))
    return gradient_norms_by_layer(layers, torch.randn(8, copies * WIDTH, 1, 1), groups=copies)


@claim(
    "pytorch-notes/bn-stops-gradient-explosion",
    verdict=CONDITIONAL,
    finding="LayerNorm, named in the same line, does keep it: a factor of 0.98 a layer under N(0, 1) weights. It "
    "divides each sample by its own size, as wide ReLU layers scale it.",
    controls=[override("BatchNorm", normalisation=batch_normalisation)],
    trials=40,
)
def test_layer_normalisation_keeps_the_gradient(shared, trials, evidence, normalisation=layer_normalisation):
    kept = shared(through_normalised_layers, trials.count, normalisation)
    evidence.observe("factor of a layer", rates(kept), limit=1.0)
    trials.equivalent(1, rates(kept), within=0.1, name="a factor of 1, within a tenth")


def moments(activations, over):
    return activations.mean(over), activations.var(over, unbiased=False)


def trained_scale(layer):
    """Give the layer a scale and a shift that are not those of its start."""
    nn.init.constant_(layer.weight, 3.0)
    nn.init.constant_(layer.bias, -1.0)
    return layer


def unchanged(layer):
    return layer


@claim(
    "pytorch-notes/norm-layers-keep-activations-stable",
    verdict=CONDITIONAL,
    finding="BatchNorm in training does for every feature over the batch, LayerNorm for every sample over its "
    "features, at the start and where they vary: a variance v becomes v/(v + 1e-5). Neither does along the other axis.",
    controls=[override("a trained scale", prepare=trained_scale)],
)
@pytest.mark.parametrize(("norm", "over"), [(nn.BatchNorm1d, 0), (nn.LayerNorm, 1)], ids=["BatchNorm", "LayerNorm"])
@settings(max_examples=10)
@example(mean=5.0, std=7.0, seed=0, prepare=unchanged)
@given(
    mean=st.floats(-50, 50),
    std=st.floats(0.01, 100),
    seed=st.integers(0, 2**32 - 1),
    prepare=st.just(unchanged),
)
def test_normalised_activations_have_mean_zero_and_variance_one(norm, over, *, mean, std, seed, prepare):
    with seeded(seed):
        x = mean + std * torch.randn(256, 32, dtype=torch.float64)
    outputs = prepare(norm(32).double())(x).detach()
    means, variances = moments(outputs, over)
    _, of_inputs = moments(x, over)
    torch.testing.assert_close(means, torch.zeros_like(means), rtol=0, atol=1e-9)
    torch.testing.assert_close(variances, of_inputs / (of_inputs + 1e-5), rtol=1e-9, atol=0)
    others, _ = moments(outputs, 1 - over)
    assert others.abs().max() > 0.01


@claim(
    "pytorch-notes/norm-layers-keep-activations-stable",
    verdict=CONDITIONAL,
    finding="In evaluation BatchNorm uses the running statistics, and those of a fresh layer leave 5 ± 7 as it is; "
    "one batch of training moves them a tenth of the way. LayerNorm is the same in evaluation. And a trained scale "
    "γ and shift β make it mean β and variance γ².",
    controls=[override("training mode", train=True)],
)
@settings(max_examples=10)
@given(seed=st.integers(0, 2**32 - 1), train=st.just(False))
def test_in_evaluation_batch_normalisation_leaves_what_running_statistics_do_not_know(seed, train):
    with seeded(seed):
        x = 5 + 7 * torch.randn(256, 32, dtype=torch.float64)
    batch_norm, layer_norm = nn.BatchNorm1d(32).double().train(train), nn.LayerNorm(32).double()
    torch.testing.assert_close(batch_norm(x), x, rtol=1e-4, atol=0)
    assert torch.equal(layer_norm.eval()(x), layer_norm.train()(x))
    batch_norm.train()(x)
    torch.testing.assert_close(batch_norm.running_mean, 0.1 * x.mean(0))
    means, variances = moments(trained_scale(nn.BatchNorm1d(32).double())(x).detach(), 0)
    torch.testing.assert_close(means, torch.full_like(means, -1.0))
    torch.testing.assert_close(variances, torch.full_like(means, 9.0), rtol=1e-4, atol=0)
