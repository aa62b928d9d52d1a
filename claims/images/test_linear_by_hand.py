"""Section 10.6.3: the fully connected layer by hand, and a class of one's own in its place."""

import math

import hypothesis.strategies as st
import torch
from hypothesis import example, given
from torch import nn

from fitcore.seeding import seeded
from fitcore.testing import REFUTED, claim, error_of, override, replace

SEEDS = st.integers(0, 2**32 - 1)
SIZES = st.integers(1, 9)
FEATURES = 1568

linear, Linear = nn.functional.linear, nn.Linear


def without_bias(x, weight, bias=None):
    return linear(x, weight)


def without_the_last_input(x, weight, bias=None):
    return linear(x[..., :-1], weight[:, :-1], bias)


def outputs_first(fan_in, fan_out):
    return Linear(fan_out, fan_in)


def whole_numbers(*shape):
    return torch.randint(-9, 10, shape).float()


@claim(
    "pytorch-notes/linear-formula-1568",
    finding="To the bit, on whole numbers. One more in input j adds weight (i, j) to every output i, and one more in "
    "bias i changes output i alone.",
    controls=[
        replace("torch.nn.functional.linear", without_bias),
        replace("torch.nn.functional.linear", without_the_last_input),
    ],
)
@example(seed=0, i=9, j=FEATURES - 1)
@given(seed=SEEDS, i=st.integers(0, 9), j=st.integers(0, FEATURES - 1))
def test_every_output_is_the_weighted_sum_of_all_inputs_and_its_bias(seed, i, j):
    with seeded(seed):
        x, w, b = whole_numbers(FEATURES), whole_numbers(10, FEATURES), whole_numbers(10)
    layer = nn.Linear(FEATURES, 10)
    layer.load_state_dict({"weight": w, "bias": b})
    y = layer(x)
    assert y[i] == sum(weight * value for weight, value in zip(w[i].tolist(), x.tolist(), strict=True)) + b[i]
    assert torch.equal(layer(x.index_add(0, torch.tensor([j]), torch.ones(1))) - y, w[:, j])
    layer.load_state_dict({"weight": w, "bias": b.index_add(0, torch.tensor([i]), torch.ones(1))})
    assert torch.equal(layer(x) - y, torch.eye(10)[i])


@claim(
    "pytorch-notes/print-shape-is-list",
    finding="(outputs, inputs), and a bias for each output. What print shows of the shape is torch.Size([10, 1568]).",
    controls=[replace("torch.nn.Linear", outputs_first)],
)
@example(fan_in=FEATURES, fan_out=10)
@given(fan_in=st.integers(1, 50), fan_out=st.integers(51, 99))
def test_a_linear_layer_has_weights_of_outputs_by_inputs(fan_in, fan_out, evidence):
    layer = nn.Linear(FEATURES, 10)
    assert evidence.figure("shape of the weight", reported=[10, 1568], measured=list(layer.weight.shape), tolerance=0)
    assert evidence.figure("shape of the bias", reported=[10], measured=list(layer.bias.shape), tolerance=0)
    assert f"{layer.weight.shape}, {layer.bias.shape}" == "torch.Size([10, 1568]), torch.Size([10])"
    assert nn.Linear(fan_in, fan_out).weight.shape == (fan_out, fan_in)


class SimpleLinear:
    """As the document has it: no module, and standard normal weights and biases."""

    def __init__(self, fan_in, fan_out):
        self.weights, self.bias = torch.randn(fan_out, fan_in), torch.randn(fan_out)

    def forward(self, x):
        return x @ self.weights.T + self.bias


class WithoutBias(SimpleLinear):
    def forward(self, x):
        return x @ self.weights.T


class SimpleModule(SimpleLinear, nn.Module):
    def __init__(self, fan_in, fan_out):
        nn.Module.__init__(self)
        super().__init__(fan_in, fan_out)


@claim(
    "pytorch-notes/simple-linear-layer-matches",
    finding="To the bit, on whole numbers, given the same weights and biases.",
    controls=[override("without the bias", simple=WithoutBias)],
)
@example(n=64, fan_in=FEATURES, fan_out=10, seed=0, simple=SimpleLinear)
@given(n=SIZES, fan_in=SIZES, fan_out=SIZES, seed=SEEDS, simple=st.just(SimpleLinear))
def test_the_class_computes_what_linear_does(n, fan_in, fan_out, seed, simple):
    by_hand, layer = simple(fan_in, fan_out), nn.Linear(fan_in, fan_out)
    with seeded(seed):
        x, weights, bias = whole_numbers(n, fan_in), whole_numbers(fan_out, fan_in), whole_numbers(fan_out)
    by_hand.weights, by_hand.bias = weights, bias
    layer.load_state_dict({"weight": weights, "bias": bias})
    assert by_hand.forward(x).shape == (n, fan_out)
    assert torch.equal(by_hand.forward(x), layer(x))


@claim(
    "pytorch-notes/simple-linear-layer-callable",
    verdict=REFUTED,
    finding="layer(x) is a TypeError: forward has to be called by name, since only nn.Module brings the __call__ that "
    "leads to it. As a subclass of nn.Module it can be called.",
    controls=[override("a module", simple=SimpleModule)],
)
@given(n=SIZES, fan_in=SIZES, fan_out=SIZES, simple=st.just(SimpleLinear))
def test_the_class_cannot_be_called(n, fan_in, fan_out, simple):
    layer, x = simple(fan_in, fan_out), torch.ones(n, fan_in)
    error = error_of(lambda: layer(x))
    assert isinstance(error, TypeError)
    assert "object is not callable" in str(error)
    assert error_of(layer.forward, x) is None
    module = SimpleModule(fan_in, fan_out)
    assert torch.equal(module(x), module.forward(x))


def rms(outputs):
    return outputs.square().mean().sqrt()


@claim(
    "pytorch-notes/simple-linear-randn-init-scale",
    verdict=REFUTED,
    finding="Its outputs are √(3·1568) = 68.6 times as large, about 39.6 against 0.58: standard normal weights add up "
    "to a variance of 1569, where nn.Linear draws uniformly from ±1/√1568, of variance 1/(3·1568). Divided by 68.6, "
    "they give the same scale.",
    controls=[override("divided by √(3·1568)", initial=math.sqrt(1 / (3 * FEATURES)))],
    trials=20,
)
def test_standard_normal_weights_make_outputs_of_another_scale(trials, evidence, initial=1.0):
    factor = math.sqrt(3 * FEATURES)

    def scales(seed):
        simple, layer, x = SimpleLinear(FEATURES, 10), nn.Linear(FEATURES, 10), torch.randn(256, FEATURES)
        simple.weights, simple.bias = initial * simple.weights, initial * simple.bias
        before = rms(simple.forward(x))
        simple.weights, simple.bias = simple.weights / factor, simple.bias / factor
        return torch.stack([before, rms(simple.forward(x)), rms(layer(x))]).detach()

    names = "standard normal", "divided by 68.6", "nn.Linear"
    simple, divided, ordinary = trials.map(scales).T
    evidence.compare("rms of the outputs", dict(zip(names, (simple, divided, ordinary), strict=True)))
    trials.always(abs(simple / ordinary / factor - 1) < 0.25, name="68.6 times as large")
    trials.always(abs(divided / ordinary - 1) < 0.25, name="of the same scale, once divided")
