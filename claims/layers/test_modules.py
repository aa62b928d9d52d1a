"""Section 5: what nn.Module and nn.Linear provide, and what to() does to modules, losses and tensors."""

import copy
from functools import partial
from itertools import pairwise

import hypothesis.strategies as st
import pytest
import torch
from hypothesis import given
from torch import nn
from torch.testing import assert_close

from fitcore.evaluation.memory import shares_storage
from fitcore.gradients.graph import graph_leaves
from fitcore.models import MLP, number_of_parameters
from fitcore.testing import CONDITIONAL, claim, error_of, override, replace
from fitcore.testing.strategies import FLOATING, dtypes, strided, tensors

X = torch.tensor([[1.0], [2.0], [3.0]])
Y = 2 * X

sizes = st.tuples(st.just(1), st.just(10)) | st.tuples(st.integers(1, 6), st.integers(1, 6))
widths = st.just([1, 10, 1]) | st.lists(st.integers(1, 6), min_size=2, max_size=4)
batches = tensors(st.tuples(st.integers(1, 4), st.just(1)))


def network():
    return MLP([1, 10, 1], nn.ReLU)


class PlainNetwork:
    """The same computation and the same start, but no module: a class that holds four tensors."""

    def __init__(self, module):
        self.tensors = [parameter.detach().clone().requires_grad_() for parameter in module.parameters()]

    def __call__(self, x):
        w1, b1, w2, b2 = self.tensors
        return nn.functional.linear(nn.functional.linear(x, w1, b1).relu(), w2, b2)


def losses(model, parameters, epochs=20):
    """Losses of the introductory loop, (epochs,)."""
    optimizer = torch.optim.SGD(parameters, lr=0.01)
    history = []
    for _ in range(epochs):
        loss = nn.functional.mse_loss(model(X), Y)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        history.append(loss.detach())
    return torch.stack(history)


def all_of(held):
    return held


def biases_of(held):
    return held[1::2]


@claim(
    "pytorch-notes/subclassing-nn-module-is-required-to-train",
    verdict=CONDITIONAL,
    finding="It has to be, for what the listings call: parameters(), to(), train() and state_dict(); and to be part of "
    "another module. For the training itself it hasn't: a plain class whose tensors are handed to the optimizer one by "
    "one trains to the same bits.",
    controls=[override("only the biases handed over", handed=biases_of)],
)
def test_a_plain_class_trains_as_a_module_does(handed=all_of):
    module = network()
    plain, whole = PlainNetwork(module), nn.Module()
    of_module = losses(module, module.parameters())
    of_plain = losses(plain, handed(plain.tensors))
    assert torch.equal(of_plain, of_module)
    assert of_plain[-1] < of_plain[0]
    assert isinstance(error_of(getattr, plain, "parameters"), AttributeError)
    whole.part = plain
    assert (list(whole.parameters()), list(whole.state_dict())) == ([], [])
    whole.part = module
    assert len(list(whole.parameters())) == len(whole.state_dict()) == 4


def one_for_all(in_features, out_features, made={}):  # noqa: B006
    """Hand out the same layer to all who ask for one of its size."""
    return made.setdefault((in_features, out_features), nn.Linear(in_features, out_features))


@claim(
    "pytorch-notes/linear-creates-weight-and-bias",
    finding="The weight is (out_features, in_features), a row for each neuron, and the layer computes x Wᵀ + b.",
    controls=[override("no bias", make=partial(nn.Linear, bias=False)), override("a shared layer", make=one_for_all)],
)
@given(size=sizes, make=st.just(nn.Linear), data=st.data())
def test_linear_creates_a_weight_and_a_bias_of_its_own(size, make, data):
    in_features, out_features = size
    layer, other = make(*size), make(*size)
    parameters, others = dict(layer.named_parameters()), dict(other.named_parameters())
    shapes = {name: tuple(parameter.shape) for name, parameter in parameters.items()}
    assert shapes == {"weight": (out_features, in_features), "bias": (out_features,)}
    assert not any(shares_storage(parameters[name], others[name]) for name in parameters)
    x = data.draw(tensors((3, in_features)))
    assert_close(layer(x), x @ layer.weight.T + layer.bias)


def frozen(*size, dtype):
    return nn.Linear(*size, dtype=dtype).requires_grad_(False)


@claim(
    "pytorch-notes/linear-parameters-require-grad-by-default",
    finding="Also if the layer is made under no_grad, and in any floating dtype.",
    controls=[override("frozen", make=frozen)],
)
@given(
    size=sizes | st.just((10, 1)),
    dtype=st.sampled_from(FLOATING),
    guard=st.sampled_from([torch.enable_grad, torch.no_grad]),
    make=st.just(nn.Linear),
)
def test_the_parameters_of_linear_require_gradients_unasked(size, dtype, guard, make):
    with guard():
        layer = make(*size, dtype=dtype)
    assert layer.weight.dtype == dtype
    assert [parameter.requires_grad for parameter in layer.parameters()] == [True, True]
    assert [parameter.is_leaf for parameter in layer.parameters()] == [True, True]


def halve(x, inplace=False):
    return x / 2


@claim(
    "pytorch-notes/relu-is-nonlinear",
    finding="Of a > 0 > b ReLU keeps a alone, so f(a + b) is not f(a) + f(b), and f(-a) is not -f(a); only factors of "
    "zero or more can be taken out.",
    controls=[replace("torch.nn.functional.relu", halve)],
)
@given(
    a=tensors((4,), elements=st.integers(1, 9)),
    b=tensors((4,), elements=st.integers(-9, -1)),
    factor=st.integers(0, 9),
)
def test_relu_is_neither_additive_nor_homogeneous(a, b, factor):
    relu = nn.ReLU()
    assert (relu(a + b) != relu(a) + relu(b)).all()
    assert (relu(-a) != -relu(a)).all()
    assert torch.equal(relu(factor * (a + b)), factor * relu(a + b))


@claim(
    "pytorch-notes/relu-is-nonlinear",
    finding="Two linear layers in a row are one affine map: f(x) + f(-x) = 2 f(0). With ReLU between they are not.",
    controls=[replace("torch.nn.functional.relu", halve)],
    trials=40,
)
def test_relu_keeps_two_linear_layers_from_being_one(trials, evidence):
    def deviation_from_affine(seed):
        first, second = nn.Linear(1, 10).double(), nn.Linear(10, 1).double()
        x = 10 * torch.ones(1, dtype=torch.float64)
        networks = nn.Sequential(first, second), nn.Sequential(first, nn.ReLU(), second)
        return torch.cat([abs(f(x) + f(-x) - 2 * f(0 * x)) for f in networks])

    without, with_relu = trials.map(deviation_from_affine).T
    evidence.compare("deviation from an affine map", {"Linear, Linear": without, "Linear, ReLU, Linear": with_relu})
    trials.always(without < 1e-12, name="affine without ReLU")
    trials.always(with_relu > 1e-10, name="not affine with ReLU")


def without_biases(widths, activation):
    model = MLP(widths, activation)
    for layer in list(model)[::2]:
        layer.register_parameter("bias", None)
    return model


@claim(
    "pytorch-notes/intro-model-has-31-parameters",
    finding="A layer has in·out weights and out biases: 1·10 + 10 + 10·1 + 1.",
    controls=[override("no biases", make=without_biases)],
)
@given(widths=widths, make=st.just(MLP))
def test_each_layer_adds_its_weights_and_its_biases(widths, make):
    expected = sum(fan_in * fan_out + fan_out for fan_in, fan_out in pairwise(widths))
    assert number_of_parameters(make(widths, nn.ReLU), trainable=True) == expected
    assert number_of_parameters(make([1, 10, 1], nn.ReLU), trainable=True) == 31


def forward_alone(module, *inputs):
    return module.forward(*inputs)


def add_one(module, inputs, output=None):
    """Hook: one more than the output, or, before the forward pass, than the input."""
    return (inputs[0] if output is None else output) + 1


def keep_unhooked(model, hook):
    """Register nothing."""


@claim(
    "pytorch-notes/calling-model-equals-calling-forward",
    verdict=CONDITIONAL,
    finding="The same bits as long as no hook is registered. Hooks are run by the call alone: one that adds 1 changes "
    "what model(x) returns, and not what model.forward(x) does.",
    controls=[
        replace("torch.nn.Module.__call__", forward_alone),
        override("no hook", register=keep_unhooked, register_before=keep_unhooked),
    ],
)
@given(
    x=batches,
    widths=st.just([1, 10, 1]) | st.lists(st.integers(1, 6), min_size=1, max_size=3).map(lambda outer: [1, *outer]),
    register=st.just(nn.Module.register_forward_hook),
    register_before=st.just(nn.Module.register_forward_pre_hook),
)
def test_a_call_is_forward_and_the_hooks(x, widths, register, register_before):
    model = MLP(widths, nn.ReLU)
    expected = model.forward(x)
    assert torch.equal(model(x), expected)
    register(model, add_one)
    assert torch.equal(model(x), expected + 1)
    register_before(model, add_one)
    assert torch.equal(model(x), model.forward(x + 1) + 1)
    assert torch.equal(model.forward(x), expected)


def register_everywhere(model, hook):
    for part in model.modules():
        part.register_forward_hook(hook)


@claim(
    "pytorch-notes/module-call-runs-forward-hooks-only-via-call",
    finding="One run a call of the module, none for forward. Hooks of its parts do run then, since forward calls them.",
    controls=[
        replace("torch.nn.Module.__call__", forward_alone),
        override("never registered", register=keep_unhooked),
    ],
)
@given(calls=st.integers(1, 5), forwards=st.integers(1, 5), x=batches, register=st.just(register_everywhere))
def test_forward_hooks_run_with_each_call_and_never_with_forward(calls, forwards, x, register):
    model, ran = network(), []
    register(model, lambda module, *_: ran.append(module))
    outputs = [model(x) for _ in range(calls)]
    assert ran.count(model) == calls
    outputs += [model.forward(x) for _ in range(forwards)]
    assert ran.count(model) == calls
    assert ran.count(model[0]) == calls + forwards == len(outputs)


def to_a_copy(tensor, device):
    return torch.empty_like(tensor, device=device)


@claim(
    "pytorch-notes/double-to-device-is-a-no-op",
    finding="The second .to(device) returns the tensor itself, on the CPU and elsewhere (shown with the meta device).",
    controls=[replace("torch.Tensor.to", to_a_copy)],
)
@pytest.mark.parametrize("device", ["cpu", "meta"])
@given(x=st.just(X) | strided(tensors(dtype=dtypes(boolean=True, complex=True))))
def test_a_tensor_already_on_the_device_is_returned_itself(device, x):
    once = x.to(torch.device(device))
    assert once.device.type == device
    assert once.to(torch.device(device)) is once


def weighted_cross_entropy():
    return nn.CrossEntropyLoss(weight=torch.ones(1))


@claim(
    "pytorch-notes/mseloss-has-nothing-to-move-to-device",
    finding="A loss of predictions and targets on another device needs no moving. A loss with class weights does: they "
    "are a buffer.",
    controls=[override("a loss with weights", make=weighted_cross_entropy)],
)
@pytest.mark.parametrize("device", ["cpu", "meta"])
def test_mse_loss_carries_no_tensor(device, make=nn.MSELoss):
    criterion = make()
    before = dict(vars(criterion))
    assert criterion.to(device) is criterion
    assert vars(criterion) == before
    assert [*criterion.parameters(), *criterion.buffers()] == []
    never_moved = make()
    assert error_of(never_moved, X.to(device), Y.to(device)) is None
    assert len(list(weighted_cross_entropy().buffers())) == 1


def to_on_a_copy(module, *arguments):
    return copy.deepcopy(module)._apply(lambda tensor: tensor.to(*arguments))


def in_place_to(tensor, dtype):
    tensor.data = tensor.to(dtype)
    return tensor


@claim(
    "pytorch-notes/module-to-in-place-tensor-to-not",
    finding="A module returns itself with its parameters converted, the same Parameter objects under another dtype, "
    "so that an optimizer keeps hold of them. A tensor stays what it was.",
    controls=[
        replace("torch.nn.Module.to", to_on_a_copy),
        override("a tensor converted in place", convert=in_place_to),
    ],
)
@given(dtype=st.sampled_from(FLOATING[1:]), x=st.just(torch.ones(2)) | tensors(), convert=st.just(torch.Tensor.to))
def test_to_converts_a_module_itself_and_makes_a_new_tensor(dtype, x, convert):
    layer = nn.Linear(2, 2)
    parameters = list(layer.parameters())
    assert layer.to(dtype) is layer
    assert [parameter.dtype for parameter in layer.parameters()] == [dtype, dtype]
    assert all(now is before for now, before in zip(layer.parameters(), parameters, strict=True))
    converted = convert(x, dtype)
    assert converted is not x
    assert (x.dtype, converted.dtype) == (torch.float32, dtype)


@claim(
    "pytorch-notes/forward-builds-the-graph",
    finding="From the prediction's grad_fn every parameter can be reached, and only they: the data have no gradient.",
    controls=[override("under no_grad", guard=torch.no_grad)],
)
@given(widths=widths, rows=st.integers(1, 4), guard=st.just(torch.enable_grad))
def test_the_forward_pass_records_the_graph(widths, rows, guard):
    model = MLP(widths, nn.ReLU)
    with guard():
        prediction = model(torch.ones(rows, widths[0]))
    assert graph_leaves(prediction) == set(model.parameters())
