"""Section 5.3.2: what the initialisation of the listing draws and what it leaves, and signals through deep networks."""

from collections import Counter
from functools import partial
from itertools import pairwise
from math import sqrt

import hypothesis.strategies as st
import numpy as np
import pytest
import torch
from hypothesis import example, given
from torch import nn
from torch.nn.functional import relu

from fitcore import testing
from fitcore.models import CNN, ResidualNetwork, initialise_weights
from fitcore.seeding import seeded
from fitcore.testing import CONDITIONAL, REFUTED, claim, error_of, override, parameter

sides, seeds = st.integers(1, 6), st.integers(0, 2**32 - 1)


def as_printed(layer):
    """What the listing does to a layer."""
    match layer:
        case nn.Linear():
            nn.init.xavier_uniform_(layer.weight)
            nn.init.constant_(layer.bias, 0)
        case nn.Conv2d():
            nn.init.kaiming_normal_(layer.weight, mode="fan_out", nonlinearity="relu")
        case nn.BatchNorm2d():
            nn.init.constant_(layer.weight, 1)
            nn.init.constant_(layer.bias, 0)


WEIGHTS = ["conv1", "conv2", "conv3", "fc1", "fc2"]
SIZES = np.array([288, 18_432, 73_728, 294_912, 2_560])
STDS = np.sqrt([2 / (32 * 9), 2 / (64 * 9), 2 / (128 * 9), 2 / (1152 + 256), 2 / (256 + 10)])


def of_weights(network):
    """Every parameter that the listing prints, those with "weight" in their names."""
    return [value.detach() for name, value in network.named_parameters() if "weight" in name]


def moments(seed):
    """Mean, standard deviation and largest absolute value of each weight tensor, (3, 5)."""
    weights = of_weights(CNN().apply(as_printed))
    return torch.stack([torch.stack([weight.mean(), weight.std(), weight.abs().max()]) for weight in weights], dim=1)


xavier_uniform, kaiming_normal = nn.init.xavier_uniform_, nn.init.kaiming_normal_


def xavier_normal(weight):
    return nn.init.xavier_normal_(weight)


def default_of_linear(weight):
    return nn.init.kaiming_uniform_(weight, a=sqrt(5))


def by_fan_in(weight, mode, nonlinearity):
    return kaiming_normal(weight, nonlinearity=nonlinearity)


@torch.no_grad()
def positive_kaiming(weight, mode, nonlinearity):
    return kaiming_normal(weight, mode=mode, nonlinearity=nonlinearity).abs_()


@torch.no_grad()
def positive_xavier(weight):
    return xavier_uniform(weight).abs_()


@claim(
    "pytorch-notes/xavier-uniform-standard-deviation",
    finding="It is the standard deviation of a uniform distribution within those bounds.",
    controls=[
        testing.replace("torch.nn.init.xavier_uniform_", xavier_normal),
        testing.replace("torch.nn.init.xavier_uniform_", default_of_linear),
    ],
    trials=10,
)
def test_xavier_draws_uniformly_between_its_bounds(trials, evidence):
    _, stds, largest = trials.map(moments)[:, :, 3:].swapaxes(0, 1)
    standard_errors = STDS[3:] * np.sqrt(0.2 / SIZES[3:])  # the fourth moment of a uniform variable is 1.8 σ⁴
    bounds = np.sqrt(6 / np.array([1152 + 256, 256 + 10]))
    evidence.figure("fc1 and fc2", reported=[0.0377, 0.0867], measured=stds.mean(0), tolerance=0.001)
    assert STDS[3:].round(4).tolist() == [0.0377, 0.0867]
    trials.always((abs(stds - STDS[3:]) < 7 * standard_errors).all(1), name="within seven standard errors")
    trials.always((largest <= bounds * (1 + 1e-6)).all(1), name="within the bounds")
    trials.always((largest > 0.98 * bounds).all(1), name="up to the bounds")


@claim(
    "pytorch-notes/kaiming-fan-out-standard-deviation",
    finding="The 288 weights of the first convolution have it within 4 %, the standard error of so few.",
    controls=[testing.replace("torch.nn.init.kaiming_normal_", by_fan_in)],
    trials=10,
)
def test_kaiming_draws_with_the_variance_of_two_over_fan_out(trials, evidence):
    stds = trials.map(moments)[:, 1, :3]
    evidence.figure("convolutions", reported=[0.0833, 0.0589, 0.0417], measured=stds.mean(0), tolerance=0.005)
    assert STDS[:3].round(4).tolist() == [0.0833, 0.0589, 0.0417]
    evidence.compare("standard deviations", dict(zip(WEIGHTS, stds.T, strict=False)))
    standard_errors = STDS[:3] / np.sqrt(2 * SIZES[:3])
    trials.always((abs(stds - STDS[:3]) < 7 * standard_errors).all(1), name="within seven standard errors")


@claim(
    "pytorch-notes/initialised-weight-means-are-near-zero",
    finding="What the listing prints are then figures like 0.005 for the first convolution and 0.0001 for the first "
    "linear layer: σ/√n.",
    controls=[
        testing.replace("torch.nn.init.kaiming_normal_", positive_kaiming),
        testing.replace("torch.nn.init.xavier_uniform_", positive_xavier),
    ],
    trials=10,
)
def test_the_means_of_the_weights_are_zero_within_their_standard_errors(trials, evidence):
    means = trials.map(moments)[:, 0]
    evidence.compare("mean in standard errors", dict(zip(WEIGHTS, (means / STDS * np.sqrt(SIZES)).T, strict=True)))
    trials.always((abs(means) < 7 * STDS / np.sqrt(SIZES)).all(1), name="within seven standard errors")


def without_bias():
    network = CNN()
    network.classifier[0] = nn.Linear(1152, 256, bias=False)
    return network


@claim(
    "pytorch-notes/init-listing-runs",
    finding="Five lines, of three convolutions and two linear layers; no biases, and there is no normalisation.",
    controls=[override("a linear layer without bias", make=without_bias)],
    trials=1,
)
def test_the_listing_initialises_the_network_and_prints_its_weights(trials, evidence, make=CNN):
    def printed(seed):
        network = make()
        assert error_of(network.apply, as_printed) is None
        named = [(name, value) for name, value in network.named_parameters() if "weight" in name]
        assert [value.ndim for _, value in named] == [4, 4, 4, 2, 2]
        rows = [{"name": name, "mean": f"{value.mean():.6f}", "std": f"{value.std():.6f}"} for name, value in named]
        evidence.table("weights after the initialisation", rows)
        return [float(row["std"]) for row in rows]

    trials.always((trials.map(printed) > 0.03).all(1), name="five standard deviations")


def left_alone(tensor, value):
    return tensor


@claim(
    "pytorch-notes/init-weights-zeroes-linear-biases",
    controls=[testing.replace("torch.nn.init.constant_", left_alone)],
)
@given(widths=st.lists(sides, min_size=1, max_size=4), seed=seeds)
def test_biases_of_linear_layers_become_zero(widths, seed):
    with seeded(seed):
        network = nn.Sequential(*(nn.Linear(width, width) for width in widths))
    network.apply(as_printed)
    assert all((layer.bias == 0).all() for layer in network)


def of_convolutions(network):
    return torch.cat([layer.bias.detach() for layer in network.modules() if isinstance(layer, nn.Conv2d)])


@claim(
    "pytorch-notes/init-weights-zeroes-every-bias",
    verdict=REFUTED,
    finding="The 224 biases of the convolutions keep what the constructor drew, uniform within 1/√fan_in: up to a "
    "third in the first layer. All are zero if the function clears those of convolutions too.",
    controls=[override("those of convolutions too", initialise=initialise_weights)],
    trials=10,
)
def test_biases_of_convolutions_stay_as_they_were(trials, evidence, initialise=as_printed):
    def biases(seed):
        network = CNN()
        before = of_convolutions(network)
        after = of_convolutions(network.apply(initialise))
        return torch.stack([before, after, of_convolutions(network.apply(initialise_weights))])

    before, after, repaired = trials.map(biases).swapaxes(0, 1)
    assert after.shape[1] == 224
    evidence.observe("largest bias of the first convolution", abs(after[:, :32]).max(1), limit=1 / 3)
    trials.always((after == before).all(1), name="the biases of convolutions keep their values")
    trials.always((after != 0).sum(1) > 200, name="which are not zero")
    trials.always((repaired == 0).all(1), name="none is left where the function clears them")


def without_the_branch(layer):
    if not isinstance(layer, nn.BatchNorm2d):
        as_printed(layer)


def trained_normalisation():
    layer = nn.BatchNorm2d(3)
    nn.init.constant_(layer.weight, 2)
    nn.init.constant_(layer.bias, -1)
    return layer


@claim(
    "pytorch-notes/init-weights-batchnorm-branch-fires-for-cnn",
    verdict=REFUTED,
    finding="The CNN has no normalisation, so that the branch changes no bit of it; nor in a fresh network that has "
    "some, whose scales are 1 and shifts 0 from the start. It resets what was trained.",
    controls=[override("a trained normalisation in the network", make=trained_normalisation)],
    trials=5,
)
@pytest.mark.parametrize("make", [CNN, lambda: ResidualNetwork(widths=(2, 3))], ids=["CNN", "ResidualNetwork"])
def test_the_branch_for_batch_normalisation_changes_nothing(trials, make):
    def same(seed):
        with seeded(seed):
            with_it = make().apply(as_printed).state_dict()
        with seeded(seed):
            without = make().apply(without_the_branch).state_dict()
        return all(torch.equal(with_it[name], without[name]) for name in without)

    trials.always(trials.map(same), name="every bit is the same without the branch")
    assert not any(isinstance(layer, nn.BatchNorm2d) for layer in CNN().modules())
    reset = trained_normalisation().apply(as_printed)
    assert torch.equal(torch.stack([reset.weight, reset.bias]), torch.tensor([[1.0] * 3, [0.0] * 3]))


@claim(
    "pytorch-notes/init-weights-handles-layers-without-bias",
    verdict=REFUTED,
    finding="A linear layer without bias has None in its place, and the function stops with an AttributeError. Asking "
    "whether there is one is all that it takes.",
    controls=[override("asking first", initialise=initialise_weights)],
)
@example(biases=[True, False], width=3, initialise=as_printed)
@given(biases=st.lists(st.booleans(), min_size=1, max_size=4), width=sides, initialise=st.just(as_printed))
def test_the_function_fails_on_linear_layers_without_bias(biases, width, initialise):
    network = nn.Sequential(*(nn.Linear(width, width, bias=bias) for bias in biases), nn.Conv2d(1, 1, 1, bias=False))
    error = error_of(network.apply, initialise)
    assert (error is None) == all(biases)
    assert error is None or (isinstance(error, AttributeError) and "'NoneType' object has no" in str(error))
    assert error_of(network.apply, initialise_weights) is None


def nested(children):
    return st.lists(children, min_size=1, max_size=3).map(lambda layers: nn.Sequential(*layers))


def parents_first(self, function):
    for module in self.modules():
        function(module)
    return self


def children_first(module):
    return [below for child in module.children() for below in children_first(child)] + [module]


@claim(
    "pytorch-notes/apply-visits-every-submodule-children-first",
    verdict=CONDITIONAL,
    finding="Once where every module has one parent, as in the document's networks. One that two parents hold is "
    "visited under each of them, although modules() lists it once; one that a parent holds twice is visited once.",
    controls=[testing.replace("torch.nn.Module.apply", parents_first)],
)
@given(network=nested(st.recursive(st.builds(nn.Identity), nested, max_leaves=6)))
def test_apply_visits_children_first_and_shared_modules_once_for_each_parent(network):
    visits = []
    assert network.apply(visits.append) is network
    assert visits == children_first(network)
    assert Counter(visits) == Counter(network.modules())
    assert visits[-1] is network
    visits.clear()
    nn.Sequential(nn.Sequential(network), nn.Sequential(network)).apply(visits.append)
    assert visits.count(network) == 2
    visits.clear()
    nn.Sequential(network, network).apply(visits.append)
    assert visits.count(network) == 1


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
    trials.equivalent(np.ones(trials.count), measured / factor, within=0.15, name="as predicted, within 15 %")
    last = mean_factor(variances(draw, activation)[0][-3:])
    trials.equivalent(np.ones(trials.count), last / factor, within=0.4, name="in the last two layers too, within 40 %")


@claim(
    parameter("statement"),
    finding="Ten layers on it is what it was, up to the chance of the draw: times 0.8 after ReLU (median), 1.0 "
    "without. Under torch's default weights it has fallen to a hundred-millionth, and without ReLU to 1/60,000.",
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
    trials.equivalent(np.zeros(trials.count), change(kept), within=np.log(4), name="the same within a factor of 4")
    trials.equivalent(np.ones(trials.count), mean_factor(kept), within=0.15, name="a factor of 1 a layer, within 15 %")


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
    trials.less(np.full(trials.count, np.log(100)), abs(change(lost)), name="it changes by more than a factor of 100")
    trials.equivalent(np.zeros(trials.count), change(kept), within=np.log(4), name="Kaiming: within a factor of 4")


@claim(
    "pytorch-notes/default-weights-keep-the-variance-through-relu-layers",
    verdict=REFUTED,
    finding="With torch's biases too the variance settles at 0.4/fan_in: what is left are the biases. The difference "
    "between inputs goes on falling, to a hundred-millionth in ten layers.",
    controls=[override("Kaiming weights", draw=kaiming)],
    trials=60,
)
def test_of_torchs_default_only_the_biases_are_left(variances, trials, evidence, draw=default):
    everything, between = variances(draw, relu, bias=True)
    series = medians(("over units and inputs", everything), ("between inputs", between))
    evidence.curve("log10 of the median variance", range(LAYERS), series, x_label="layer")
    settled = np.full(trials.count, 0.4 / WIDTH)  # the fixed point of v = v / 6 + 1 / (3 fan_in)
    trials.equivalent(settled, everything[-1], within=0.001, name="it settles at that of the biases")
    trials.less(change(between), np.full(trials.count, np.log(1e-6)), name="the inputs' share falls below a millionth")


@claim(
    "pytorch-notes/xavier-keeps-the-variance-through-tanh-layers",
    verdict=CONDITIONAL,
    finding="While the signal is small, where tanh x is nearly x: from 0.0025 it falls by a tenth in ten layers. "
    "From 1 it falls to 0.05, roughly like 1/(2 layers). With the gain of 5/3 it comes to 1.15 from either.",
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
    trials.less(change(unit), np.full(trials.count, np.log(0.1)), name="a large one falls below a tenth")
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
    return torch.stack([last.square().mean() / first.square().mean(), gradient.square().mean()])


@claim(
    "pytorch-notes/fan-out-keeps-the-variance-of-activations",
    verdict=CONDITIONAL,
    finding="Only from a layer to one of as many channels. Where channels double, as in the listing, each convolution "
    "halves it: the gradient's is what fan_out keeps. fan_in keeps that of activations, and doubles the gradient's.",
    controls=[override("fan_in", mode="fan_in")],
    trials=60,
)
def test_fan_out_keeps_the_variance_of_gradients(trials, evidence, mode="fan_out", growing=(16, 32, 64, 128)):
    forward, backward = trials.map(lambda seed: spread_through_convolutions(mode, growing)).T
    with_fan_in = trials.map(lambda seed: spread_through_convolutions("fan_in", growing)).T
    level = trials.map(lambda seed: spread_through_convolutions(mode, (32, 32, 32, 32))).T
    factors = {"fan_out": forward, "fan_out, gradient": backward, "fan_in": with_fan_in[0]}
    evidence.compare("factor of three convolutions", factors | {"fan_in, gradient": with_fan_in[1]})
    zero, within = np.zeros(trials.count), np.log(2.5)
    trials.equivalent(zero, np.log(8 * forward), within, name="the variance of activations is halved three times")
    trials.equivalent(zero, np.log(backward), within, name="that of gradients stays")
    trials.equivalent(zero, np.log(with_fan_in[0]), within, name="with fan_in that of activations stays")
    trials.equivalent(zero, np.log(with_fan_in[1] / 8), within, name="and that of gradients doubles three times")
    trials.equivalent(zero, np.log(level[0]), within, name="with as many channels throughout fan_out keeps it too")
