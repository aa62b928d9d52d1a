"""Section 5.3.2: what the initialisation of the listing draws, and what it leaves as it was."""

from collections import Counter
from math import sqrt

import hypothesis.strategies as st
import numpy as np
import pytest
import torch
from hypothesis import example, given
from torch import nn

from fitcore import testing
from fitcore.models import CNN, ResidualNetwork, initialise_weights
from fitcore.seeding import seeded
from fitcore.testing import CONDITIONAL, REFUTED, claim, error_of, override

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
    finding="The 288 weights of the first convolution have it to about 4 %, the standard error of so few.",
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
