"""Section 15.1.3: whether a CNN is safer from vanishing and exploding gradients than a fully connected network."""

from functools import cache

import hypothesis.strategies as st
import pytest
import torch
from hypothesis import example, given
from torch import nn

from fitcore.gradients.graph import graph_edges
from fitcore.models import CNN, MLP, number_of_parameters
from fitcore.testing import CONDITIONAL, REFUTED, claim, override

TRIALS = 40
CONVOLUTIONAL = {"layers": 15, "width": 16, "kernel": 3, "side": 8}
DENSE = {"layers": 15, "width": 64}


@claim(
    "pytorch-notes/cnn-resists-gradient-problems-better",
    verdict=CONDITIONAL,
    finding="Not vanishing ones: through 15 layers gradients vanish alike in 3x3 convolutions and in affine layers, to "
    "1e-6 after ReLU, 1e-4 after tanh and 1e-13 after sigmoid; convolutions, padded with zeros, leave half as much. "
    "For ReLU Kaiming's weights cure both.",
    controls=[override("shortcuts in the CNN", shortcuts=True)],
    trials=TRIALS,
)
@pytest.mark.parametrize("activation", [nn.ReLU, nn.Tanh, nn.Sigmoid])
def test_gradients_vanish_in_convolutions_as_in_affine_layers(shares, trials, evidence, *, activation, shortcuts=False):
    dense, convolutional = shares(activation, **DENSE), shares(activation, shortcuts=shortcuts, **CONVOLUTIONAL)
    cured = [shares(nn.ReLU, "kaiming", **size) for size in (DENSE, CONVOLUTIONAL)]
    samples = {"64 units": dense, "16 channels": convolutional}
    samples |= {"64 units, ReLU, Kaiming": cured[0], "16 channels, ReLU, Kaiming": cured[1]}
    evidence.compare("log10 of the share left", samples)
    trials.less(convolutional, -3, name="convolutions leave less than a thousandth")
    trials.equivalent(dense, convolutional, within=1.3, name="what affine layers do, within a factor of 20")
    trials.less(-1.2, cured[0], name="Kaiming: affine layers leave more than a 16th")
    trials.less(-1.2, cured[1], name="Kaiming: so do convolutions")


@claim(
    "pytorch-notes/cnn-resists-gradient-problems-better",
    verdict=CONDITIONAL,
    finding="From weights of N(0, 1) what counts is how many of them come together in a unit, in 3x3 convolutions of "
    "16 channels 144. Through 15 layers their gradient grows 4e13-fold: more slowly than in affine layers of 256 "
    "units, 6e15-fold, and faster than in those of 64 or 16, 2e11- and 3e6-fold (medians).",
    controls=[
        override("1x1 convolutions, which have as many as an affine layer", kernel=1),
        override("64 units for 256", wide=64),
    ],
    trials=TRIALS,
)
def test_from_standard_normal_weights_gradients_explode_by_the_weights_of_a_unit(
    shares, trials, evidence, kernel=3, wide=256
):
    convolutional = shares(nn.ReLU, "standard normal", **CONVOLUTIONAL | {"kernel": kernel})
    small, middle, large = (shares(nn.ReLU, "standard normal", layers=15, width=width) for width in (16, 64, wide))
    samples = {"16 units": small, "64 units": middle, "16 channels": convolutional, "256 units": large}
    evidence.compare("log10 of the growth", samples)
    trials.less(3, small, name="a thousandfold in 16 units")
    trials.less(small, convolutional, by=4, name="10,000 times that in convolutions")
    trials.less(middle, convolutional, by=1.3, name="20 times as much in convolutions as in 64 units")
    trials.less(convolutional, large, by=1.3, name="and 20 times that in 256 units")


@claim(
    "pytorch-notes/fewer-parameters-protect-gradients",
    verdict=CONDITIONAL,
    finding="Against exploding ones, if all weights are of one size: from N(0, 1) the gradient grows 3e6-fold through "
    "15 ReLU layers of 16 units, 6e15-fold through those of 256. But usually weights are drawn the smaller the more of "
    "them come together, and then the width does not matter: by torch's default ten layers of 16, 64 and 256 units "
    "leave 1e-4 of the gradient alike, with 3,000, 40,000 and 660,000 parameters (medians).",
    controls=[
        override("weights of one size for torch's default", default="standard normal"),
        override("weights by the width for those of one size", one_size="kaiming"),
    ],
    trials=TRIALS,
)
def test_narrow_networks_explode_less_from_weights_of_one_size_but_vanish_alike_by_default(
    shares, trials, evidence, default="default", one_size="standard normal"
):
    left = {width: shares(nn.ReLU, default, layers=10, width=width) for width in (16, 64, 256)}
    growth = {width: shares(nn.ReLU, one_size, layers=15, width=width) for width in (16, 256)}
    evidence.compare("log10 of the share left", {f"{width} units": share for width, share in left.items()})
    evidence.compare("log10 of the growth from N(0, 1)", {f"{width} units": share for width, share in growth.items()})
    sizes = [number_of_parameters(MLP([width] * 11)) for width in left]
    assert [round(size, -3) for size in sizes] == [3_000, 42_000, 658_000]
    trials.equivalent(left[256], left[16], within=1.2, name="16 and 256 units: the same within a factor of 16")
    trials.equivalent(left[256], left[64], within=1.2, name="64 and 256 units too")
    trials.less(left[16], -2.5, name="which has vanished, with the fewest parameters as well")
    trials.less(growth[16], growth[256], by=6, name="from N(0, 1): a million times less with 16 units than with 256")


def convolution(channels, kernel, side):
    return nn.Conv2d(*channels, kernel, padding=kernel // 2)


def dense(channels, kernel, side):
    """What maps the same images to the same maps, without small kernels and without shared weights."""
    return nn.Linear(channels[0] * side**2, channels[1] * side**2, device="meta")


@claim(
    "pytorch-notes/cnn-has-fewer-parameters-than-mlp",
    verdict=CONDITIONAL,
    finding="Layer by layer: a convolution has at most a share of 1/side² of the dense layer that makes the same maps. "
    "For the document's first that is 160 against 9,847,040.",
    controls=[override("every pixel connected with its own weight", layer=dense)],
)
@example(channels=(1, 16), kernel=3, side=28, layer=convolution)
@given(
    channels=st.tuples(st.integers(1, 32), st.integers(1, 32)),
    kernel=st.sampled_from([1, 3, 5]),
    side=st.integers(5, 28),
    layer=st.just(convolution),
)
def test_a_convolution_has_fewer_parameters_than_the_dense_layer_of_its_shape(channels, kernel, side, layer):
    sizes = [number_of_parameters(make(channels, kernel, side)) for make in (layer, dense)]
    assert side**2 * sizes[0] <= sizes[1]
    assert number_of_parameters(dense((1, 16), 3, 28)) == 9_847_040


@claim(
    "pytorch-notes/cnn-has-fewer-parameters-than-mlp",
    verdict=CONDITIONAL,
    finding="Of the document's networks for digits one CNN has 20,490 and its MLP 235,146. But its other CNN has "
    "390,410, of which 297,738 are in the dense layers after its convolutions.",
    controls=[override("no hidden layer after the convolutions", hidden=None)],
)
def test_a_whole_cnn_may_have_more_parameters_than_an_mlp(evidence, hidden=256):
    small, large = CNN(widths=(16, 32), hidden=None), CNN(widths=(32, 64, 128), hidden=hidden)
    networks = {"CNN, 16-32": small, "CNN, 32-64-128": large, "MLP, 784-256-128-10": MLP([784, 256, 128, 10])}
    sizes = {name: number_of_parameters(network) for name, network in networks.items()}
    evidence.table("parameters", [{"network": name, "parameters": size} for name, size in sizes.items()])
    assert list(sizes.values()) == [20_490, 390_410, 235_146]
    assert number_of_parameters(large.classifier) == 297_738


FACTORS = ("Addmm", "Convolution", "Relu", "MaxPool")


def chain(output):
    """Number of operations on the longest way back from ``output``; views, which have no factor, don't count."""
    edges = graph_edges(output)

    @cache
    def length(node):
        here = type(node).__name__.startswith(FACTORS)
        return here + max((length(operand) for parent, operand in edges if parent is node), default=0)

    return length(output.grad_fn)


@claim(
    "pytorch-notes/cnn-gradient-chain-is-shorter",
    verdict=REFUTED,
    finding="It is as long as the network is deep, whatever the layers. In the document's CNN the gradient of the "
    "first weights passes 7 operations, in its MLP of as many weighted layers, 3, it passes 5: pooling comes on top.",
    controls=[override("a CNN with one convolution less", widths=(16,))],
)
def test_the_chain_is_as_long_as_the_network_is_deep(widths=(16, 32)):
    images = torch.zeros(1, 1, 28, 28)
    cnn, mlp = CNN(widths=widths, hidden=None), MLP([784, 256, 128, 10], nn.ReLU)
    weighted = [[p for p in network.parameters() if p.ndim > 1] for network in (cnn, mlp)]
    assert len(weighted[0]) == len(weighted[1]) == 3
    assert (chain(cnn(images)), chain(mlp(images.flatten(1)))) == (7, 5)


@claim(
    "pytorch-notes/cnn-gradient-chain-is-shorter",
    verdict=REFUTED,
    finding="As many convolutions as affine layers, each before a ReLU, make chains of the same length.",
    controls=[override("half as many convolutions", share=2)],
)
@given(depth=st.integers(2, 12), share=st.just(1))
def test_chains_of_convolutions_and_of_affine_layers_are_equally_long(depth, share):
    convolutions = [nn.Sequential(nn.Conv2d(2, 2, 3, padding=1), nn.ReLU()) for _ in range(depth // share)]
    affine_layers = MLP([2] * (depth + 2), nn.ReLU)[:-1]
    assert chain(nn.Sequential(*convolutions)(torch.zeros(1, 2, 3, 3))) == 2 * depth
    assert chain(affine_layers(torch.zeros(1, 2))) == 2 * depth
