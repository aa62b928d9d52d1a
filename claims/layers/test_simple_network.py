"""Section 5.1 and the introduction to 5: a module, what it prints, and what its parameters are."""

import hypothesis.strategies as st
import pytest
import torch
from hypothesis import example, given
from torch import nn
from torch.nn import functional
from torch.testing import assert_close

from fitcore.testing import REFUTED, claim, error_of, override, replace

DOCUMENT = (10, 20, 5)  # inputs, hidden units, outputs
sizes_of_networks = st.tuples(*[st.integers(1, 8)] * 3)


class SimpleNet(nn.Module):
    def __init__(self, inputs, hidden, outputs):
        super().__init__()
        self.fc1 = nn.Linear(inputs, hidden)
        self.fc2 = nn.Linear(hidden, outputs)

    def forward(self, x):
        return self.fc2(functional.relu(self.fc1(x)))


class UnregisteredNet(nn.Module):
    """The same layers in a plain list, in which a module doesn't look for them."""

    def __init__(self, inputs, hidden, outputs):
        super().__init__()
        self.layers = [nn.Linear(inputs, hidden), nn.Linear(hidden, outputs)]


class LastLayerFirst(nn.Module):
    """The same layers, set in the other order."""

    def __init__(self, inputs, hidden, outputs):
        super().__init__()
        self.fc2 = nn.Linear(hidden, outputs)
        self.fc1 = nn.Linear(inputs, hidden)


layers_in_a_list = override("layers in a plain list", network=UnregisteredNet)


@claim("pytorch-notes/simplenet-listing-prints-structure", controls=[layers_in_a_list])
@example(sizes=DOCUMENT, network=SimpleNet)
@given(sizes=sizes_of_networks, network=st.just(SimpleNet))
def test_print_shows_both_layers_with_their_sizes_and_biases(sizes, network):
    inputs, hidden, outputs = sizes
    assert str(network(*sizes)).splitlines() == [
        "SimpleNet(",
        f"  (fc1): Linear(in_features={inputs}, out_features={hidden}, bias=True)",
        f"  (fc2): Linear(in_features={hidden}, out_features={outputs}, bias=True)",
        ")",
    ]


class Activated(nn.Module):
    """Two layers, and between them the activation, a function or a module."""

    def __init__(self, activation):
        super().__init__()
        self.fc1 = nn.Linear(1, 10)
        self.activation = activation
        self.fc2 = nn.Linear(10, 1)

    def forward(self, x):
        return self.fc2(self.activation(self.fc1(x)))


ACTIVATIONS = {"ReLU": functional.relu, "Tanh": torch.tanh, "GELU": functional.gelu, "Softplus": functional.softplus}


@claim(
    "pytorch-notes/functional-relu-is-absent-from-printout",
    finding="The two compute the same. A printout lists the attributes that are modules, not what forward calls.",
    controls=[override("a module both times", function_of=lambda name: getattr(nn, name)())],
)
@pytest.mark.parametrize("name", ACTIVATIONS)
def test_print_shows_an_activation_that_is_a_module_and_no_function(name, function_of=ACTIVATIONS.get):
    with_module, with_function = Activated(getattr(nn, name)()), Activated(function_of(name))
    with_function.load_state_dict(with_module.state_dict())
    x = torch.tensor([[1.0], [2.0], [3.0]])
    assert torch.equal(with_module(x), with_function(x))
    lines = str(with_module).splitlines()
    assert sum(name in line for line in lines) == 1
    assert str(with_function).splitlines() == [line for line in lines if name not in line]


class NeverInitialised(nn.Module):
    def __init__(self, member):
        self.fc = member


class InitialisedLate(nn.Module):
    def __init__(self, member):
        self.fc = member
        super().__init__()


class Initialised(nn.Module):
    def __init__(self, member):
        super().__init__()
        self.fc = member


MEMBERS = {
    "a layer": nn.Linear(1, 1),
    "a list of layers": nn.ModuleList([nn.Linear(1, 1)]),
    "a parameter": nn.Parameter(torch.ones(1)),
    "a buffer": nn.Buffer(torch.ones(1)),
}


@claim(
    "pytorch-notes/super-init-is-required-before-layers",
    finding="Without it, or with it only after the layer, setting the layer is an AttributeError that says so.",
    controls=[replace("torch.nn.Module.__setattr__", object.__setattr__, "attributes set as in any object")],
)
@pytest.mark.parametrize("forgetful", [NeverInitialised, InitialisedLate])
@pytest.mark.parametrize("member", MEMBERS)
def test_a_module_takes_layers_only_after_its_own_initialisation(forgetful, member):
    with pytest.raises(AttributeError, match=r"cannot assign .* before Module.__init__\(\) call"):
        forgetful(MEMBERS[member])
    assert error_of(Initialised, MEMBERS[member]) is None
    assert next(iter(Initialised(MEMBERS[member]).state_dict())).startswith("fc")


def left_out(module):
    """Don't initialise what nn.Module needs."""


USES = {
    "call": lambda module: module(torch.ones(1)),
    "print": str,
    "parameters": lambda module: list(module.parameters()),
    "train": nn.Module.train,
    "state_dict": nn.Module.state_dict,
    "to": lambda module: module.to("cpu"),
}


@claim(
    "pytorch-notes/super-init-missing-always-fails-at-construction",
    verdict=REFUTED,
    finding="Only setting a layer, parameter or buffer fails. A module that sets numbers alone is built, and its "
    "forward works if called by name; calling or printing the module, its parameters, train, state_dict and to all "
    "raise AttributeError.",
    controls=[override("initialised", initialise=nn.Module.__init__)],
)
@pytest.mark.parametrize("use", USES)
def test_a_module_without_layers_is_built_uninitialised_and_fails_at_its_first_use(use, initialise=left_out):
    class Scale(nn.Module):
        def __init__(self):
            initialise(self)
            self.k = 3

        def forward(self, x):
            return x * self.k

    assert error_of(Scale) is None
    assert Scale().forward(2) == 6
    error = error_of(USES[use], Scale())
    assert isinstance(error, AttributeError)
    assert "'Scale' object has no attribute '_" in str(error)


linear = functional.linear


def linear_of_the_batch_as_a_whole(x, weight, bias=None):
    return linear(x.sum(0, keepdim=True), weight, bias)


@claim(
    "pytorch-notes/simplenet-maps-batch-to-five-outputs",
    finding="For any batch, an empty one included; every row as if it were alone.",
    controls=[replace("torch.nn.functional.linear", linear_of_the_batch_as_a_whole)],
)
@example(batch=4)
@given(batch=st.integers(0, 6))
def test_a_batch_of_ten_features_becomes_a_batch_of_five_outputs(batch):
    model, x = SimpleNet(*DOCUMENT).double(), torch.arange(batch * 10).reshape(batch, 10).double()
    outputs = model(x)
    assert outputs.shape == (batch, 5)
    assert_close(outputs, torch.stack([torch.zeros(5).double(), *map(model, x)])[1:])


@claim(
    "pytorch-notes/simplenet-parameter-names-and-shapes",
    finding="The order is that in which the layers were set.",
    controls=[layers_in_a_list, override("the second layer set first", network=LastLayerFirst)],
)
@example(sizes=DOCUMENT, network=SimpleNet)
@given(sizes=sizes_of_networks, network=st.just(SimpleNet))
def test_named_parameters_go_layer_by_layer_weight_before_bias(sizes, network):
    inputs, hidden, outputs = sizes
    assert [(name, tuple(parameter.shape)) for name, parameter in network(*sizes).named_parameters()] == [
        ("fc1.weight", (hidden, inputs)),
        ("fc1.bias", (hidden,)),
        ("fc2.weight", (outputs, hidden)),
        ("fc2.bias", (outputs,)),
    ]


class StoredInByOut(nn.Linear):
    """A linear layer with the weight of x W + b."""

    def __init__(self, in_features, out_features):
        super().__init__(in_features, out_features)
        self.weight = nn.Parameter(self.weight.detach().T)

    def forward(self, x):
        return x @ self.weight + self.bias


@claim(
    "pytorch-notes/linear-weight-is-stored-out-by-in",
    controls=[override("stored in by out", layer=StoredInByOut)],
)
@example(in_features=10, out_features=20, layer=nn.Linear)
@given(in_features=st.integers(1, 8), out_features=st.integers(1, 8), layer=st.just(nn.Linear))
def test_a_linear_layer_stores_a_row_of_weights_for_each_output(in_features, out_features, layer):
    built = layer(in_features, out_features)
    assert (built.weight.shape, built.bias.shape) == ((out_features, in_features), (out_features,))
    assert torch.equal(built(torch.eye(in_features)), built.weight.T + built.bias)


def count(parameters):
    return sum(parameter.numel() for parameter in parameters)


@claim(
    "pytorch-notes/simplenet-has-325-parameters",
    finding="A weight for each input and a bias for each unit: 11·20 + 21·5 = 325. torchinfo counts the same.",
    controls=[layers_in_a_list],
)
@example(sizes=DOCUMENT, network=SimpleNet)
@given(sizes=sizes_of_networks, network=st.just(SimpleNet))
def test_a_network_has_a_weight_for_each_input_of_a_unit_and_a_bias(sizes, network, torchinfo):
    inputs, hidden, outputs = sizes
    model = network(*sizes)
    assert count(model.parameters()) == (inputs + 1) * hidden + (hidden + 1) * outputs
    assert count(network(*DOCUMENT).parameters()) == 325
    assert all(parameter.requires_grad for parameter in model.parameters())
    assert torchinfo.summary(model, verbose=0).total_params == count(model.parameters())


def freeze(parameter):
    parameter.requires_grad_(False)


def freeze_what_is_detached(parameter):
    parameter.detach().requires_grad_(False)


PARAMETERS = ["fc1.weight", "fc1.bias", "fc2.weight", "fc2.bias"]


@claim(
    "pytorch-notes/trainable-count-follows-requires-grad",
    finding="With fc1 frozen 105 of the 325 are left to train. Any set of parameters can be frozen.",
    controls=[override("what detach returns is frozen", freeze=freeze_what_is_detached)],
)
@example(frozen={"fc1.weight", "fc1.bias"}, freeze=freeze)
@given(frozen=st.sets(st.sampled_from(PARAMETERS), min_size=1), freeze=st.just(freeze))
def test_freezing_lowers_the_trainable_count_and_not_the_total(frozen, freeze, torchinfo):
    model = SimpleNet(*DOCUMENT)
    for name in frozen:
        freeze(model.get_parameter(name))
    trainable = count(parameter for parameter in model.parameters() if parameter.requires_grad)
    assert count(model.parameters()) == 325
    assert trainable == 325 - count(map(model.get_parameter, frozen))
    assert torchinfo.summary(model, verbose=0).trainable_params == trainable
