"""Sections 15.1.2 and 15.1.3: what ReLU, its weights, shortcuts and normalisation do to the gradient at depth."""

from functools import reduce

import hypothesis.strategies as st
import numpy as np
import pytest
import torch
from hypothesis import example, given, settings
from torch import nn
from torchvision.models import get_model

from fitcore.gradients import gradient
from fitcore.testing import CONDITIONAL, claim, override, replace
from fitcore.testing.strategies import tensors

TRIALS = 40

doubles = tensors(dtype=torch.float64, elements=st.floats(-30, 30))


@claim(
    "pytorch-notes/relu-gradient-is-constant",
    verdict=CONDITIONAL,
    finding="Where x > 0 it is 1, and 1 again after any number of them. Elsewhere it is 0, and nothing passes.",
    controls=[replace("torch.relu", torch.nn.functional.silu), replace("torch.relu", torch.nn.functional.leaky_relu)],
)
@example(x=torch.tensor([-1.0, 0.0, 1.0], dtype=torch.float64), layers=50)
@given(x=doubles, layers=st.integers(1, 50))
def test_a_chain_of_relus_passes_the_gradient_whole_or_not_at_all(x, layers):
    of_chain = gradient(lambda h: reduce(lambda h, _: torch.relu(h), range(layers), h).sum(), x)
    assert torch.equal(of_chain, (x > 0).double())


@claim(
    "pytorch-notes/relu-gradient-is-constant",
    verdict=CONDITIONAL,
    finding="In a layer half of the units are off, so that of the gradient's norm 0.71 passes. With weights that keep "
    "the norm by themselves 0.001 is left after 20 layers: the activation does shrink it.",
    controls=[override("no activation", activation=nn.Identity)],
    trials=TRIALS,
)
def test_a_layer_of_relus_shrinks_the_gradient_by_the_root_of_a_half(shares, trials, evidence, activation=nn.ReLU):
    left = shares(activation, "xavier")
    evidence.observe("log10 of the share left by 20 layers", left)
    halves = np.full(trials.count, 20 * np.log10(0.5) / 2)
    trials.equivalent(halves, left, within=0.8, name="twenty times a factor of 0.71, within a factor of 6")


@claim(
    "pytorch-notes/relu-prevents-vanishing",
    verdict=CONDITIONAL,
    finding="With Kaiming's weights: 0.8 to 1.1 of the gradient is left after 20 layers (medians), of sigmoid 1e-10. "
    "With torch's default weights 1e-8 is left, which vanishes as well: more than sigmoid's 1e-17, and less than "
    "tanh's 1e-5.",
    controls=[
        override("tanh", activation=nn.Tanh),
        override("Kaiming's weights throughout", default="kaiming"),
        override("torch's weights throughout", better="default"),
    ],
    trials=TRIALS,
)
def test_relu_prevents_vanishing_with_kaimings_weights_only(
    shares, trials, evidence, *, activation=nn.ReLU, default="default", better="kaiming"
):
    kaiming, relu, tanh = shares(activation, better), shares(activation, default), shares(nn.Tanh, default)
    sigmoid = {init: shares(nn.Sigmoid, init) for init in (better, default)}
    samples = {"ReLU, Kaiming": kaiming, "ReLU": relu, "tanh": tanh, "sigmoid": sigmoid[default]}
    evidence.compare("log10 of the share that 20 layers leave", samples | {"sigmoid, Kaiming": sigmoid[better]})
    trials.equivalent(0, kaiming, within=1, name="Kaiming: all of it, within a factor of 10")
    trials.less(relu, -6, name="default: less than a millionth is left")
    trials.less(relu, tanh, by=1, name="default: less than a tenth of tanh's")
    trials.less(sigmoid[better], kaiming, by=8, name="Kaiming: 1e8 times sigmoid's")
    trials.less(sigmoid[default], relu, by=6, name="default: a million times sigmoid's")


@claim(
    "pytorch-notes/kaiming-is-made-for-relu",
    finding="The signal and the gradient come through 30 layers within a factor of 2 (median). With Xavier's weights "
    "2e-5 to 3e-5 of either is left; without ReLU Kaiming's make it grow 30,000-fold. √2 is what makes up for ReLU's "
    "half.",
    controls=[override("no activation", activation=nn.Identity), override("tanh", activation=nn.Tanh)],
    trials=TRIALS,
)
def test_kaiming_keeps_signal_and_gradient_through_thirty_relu_layers(
    shares, signals, trials, evidence, activation=nn.ReLU
):
    deep = {"layers": 30, "width": 128}
    settings = {
        "Kaiming": (activation, "kaiming"),
        "Xavier": (activation, "xavier"),
        "no ReLU": (nn.Identity, "kaiming"),
    }
    forward = {name: signals(*setting, **deep) for name, setting in settings.items()}
    backward = {name: shares(*setting, **deep) for name, setting in settings.items()}
    evidence.compare("log10 of the factor of the signal", forward)
    evidence.compare("log10 of the factor of the gradient", backward)
    zero, far = np.zeros(trials.count), 15 * np.log10(2)
    trials.equivalent(zero, forward["Kaiming"], within=1, name="the signal stays within a factor of 10")
    trials.equivalent(zero, backward["Kaiming"], within=1, name="so does the gradient")
    trials.equivalent(zero - far, forward["Xavier"], within=1.2, name="Xavier: half the variance a layer")
    trials.equivalent(zero + far, forward["no ReLU"], within=1.2, name="without ReLU: twice the variance a layer")


def silent_block(width):
    """ReLU of a layer that has learned nothing yet: its output and its derivative are zero."""
    layer = nn.Linear(width, width).double()
    nn.init.zeros_(layer.weight)
    nn.init.zeros_(layer.bias)
    return nn.Sequential(layer, nn.ReLU())


def plain(x, block):
    return block(x)


def with_shortcut(x, block):
    return x + block(x)


def relu_after(x, block):
    """The document's own residual block activates the sum."""
    return torch.relu(x + block(x))


@claim(
    "pytorch-notes/residual-keeps-the-gradient",
    finding="Through 50 blocks whose own derivative is zero the gradient comes as it was, to the bit; without "
    "shortcuts it is 0. Where a ReLU follows the sum, as in the document's block, the same goes for what is positive.",
    controls=[override("no shortcut", connection=plain)],
)
@settings(max_examples=10)
@given(x=tensors((3, 4), torch.float64), upstream=tensors((3, 4), torch.float64), connection=st.just(with_shortcut))
def test_shortcuts_pass_the_gradient_by_blocks_whose_derivative_is_zero(x, upstream, connection):
    x[0], upstream[0] = torch.tensor([1.0, -1, 2, -2]), 1
    blocks = [silent_block(4) for _ in range(50)]

    def through(connect):
        return gradient(lambda h: (reduce(connect, blocks, h) * upstream).sum(), x)

    assert torch.equal(through(connection), upstream)
    assert not through(plain).any()
    assert torch.equal(through(relu_after), upstream * (x > 0))


@claim(
    "pytorch-notes/residual-fixes-vanishing",
    finding="x + F(x) leaves after 20 layers 1.1 times the gradient of sigmoid, 4 times that of tanh and 12 times that "
    "of ReLU, where without shortcuts 1e-17, 1e-5 and 1e-8 are left. It may well explode: ReLU's 7,000-fold with "
    "Kaiming's weights.",
    controls=[override("no shortcuts", shortcuts=False)],
    trials=TRIALS,
)
@pytest.mark.parametrize("activation", [nn.Sigmoid, nn.Tanh, nn.ReLU])
def test_with_shortcuts_the_gradient_does_not_vanish(shares, trials, evidence, *, activation, shortcuts=True):
    kept, lost = shares(activation, shortcuts=shortcuts), shares(activation)
    kaiming = shares(activation, "kaiming", shortcuts=shortcuts)
    evidence.compare("log10 of the share left", {"shortcuts": kept, "none": lost, "shortcuts, Kaiming": kaiming})
    trials.less(-0.1, kept, name="with shortcuts four fifths are left, or more")
    trials.less(-0.1, kaiming, name="so they are with Kaiming's weights")
    trials.less(kept, 2, name="and it does not grow a hundredfold")
    trials.less(lost, -4, name="without them it is less than 1e-4")


@claim(
    "pytorch-notes/bn-fixes-vanishing",
    finding="Whatever the weights' scale, which it divides out: 20 layers leave 0.38 of the gradient of sigmoid, 4.5 "
    "times that of tanh and 30 times that of ReLU, where it grows with depth (batches of 64).",
    controls=[override("no normalisation", batch_norm=False)],
    trials=TRIALS,
)
@pytest.mark.parametrize("init", ["default", "standard normal"])
@pytest.mark.parametrize("activation", [nn.Sigmoid, nn.Tanh, nn.ReLU])
def test_with_batch_normalisation_the_gradient_does_not_vanish(
    shares, trials, evidence, *, activation, init, batch_norm=True
):
    left = shares(activation, init, batch_norm=batch_norm, batch=64)
    evidence.observe("log10 of the share that 20 layers leave", left)
    trials.less(-1, left, name="more than a tenth is left")
    trials.less(left, 2, name="and it does not grow a hundredfold")


ARCHITECTURES = {
    "alexnet": 2012,
    "vgg11": 2014,
    "resnet18": 2015,
    "densenet121": 2016,
    "squeezenet1_0": 2016,
    "mobilenet_v2": 2018,
    "efficientnet_b0": 2019,
    "vit_b_16": 2020,
    "swin_t": 2021,
    "convnext_tiny": 2022,
}
ACTIVATIONS = (nn.ReLU, nn.ReLU6, nn.SiLU, nn.GELU, nn.Hardswish, nn.Tanh, nn.Sigmoid)


def activations_of(name):
    """Names of a known network's activations and their kinds; without memory for its weights."""
    with torch.device("meta"):
        network = get_model(name, weights=None)
    return {path: type(module).__name__ for path, module in network.named_modules() if isinstance(module, ACTIVATIONS)}


def sigmoid_in_its_place(inplace=False):
    return nn.Sigmoid()


@claim(
    "pytorch-notes/sigmoid-is-rare-in-hidden-layers",
    finding="In none of ten image networks of 2012 to 2022 does it follow a layer: that is ReLU, later SiLU and GELU. "
    "EfficientNet has 16 sigmoids beside its 49 SiLUs, all of them gates that scale channels.",
    controls=[replace("torch.nn.ReLU", sigmoid_in_its_place)],
)
def test_known_deep_networks_use_sigmoid_for_gates_only(evidence):
    found = {name: activations_of(name) for name in ARCHITECTURES}
    kinds = {name: ", ".join(sorted(set(paths.values()))) for name, paths in found.items()}
    evidence.table("activations", [{"network": n, "year": ARCHITECTURES[n], "activations": kinds[n]} for n in found])
    sigmoids = [path for paths in found.values() for path, kind in paths.items() if kind == "Sigmoid"]
    assert all(path.endswith("scale_activation") for path in sigmoids)
    assert len(sigmoids) == 16
    assert all(len(paths) > len(sigmoids) / 4 for paths in found.values())
