"""Section 5.2.1: the linear layer, and the fully connected network for digits with batch normalisation and dropout."""

from itertools import pairwise

import hypothesis.strategies as st
import pytest
import torch
from hypothesis import example, given
from torch import nn
from torch.testing import assert_close

from fitcore.data import mnist
from fitcore.evaluation.memory import shares_storage
from fitcore.models import CNN, MLP, number_of_parameters
from fitcore.seeding import seeded
from fitcore.testing import REFUTED, claim, error_of, override, replace

SEEDS = st.integers(0, 2**32 - 1)
PIXELS = 28 * 28

linear, log_softmax, dropout = nn.functional.linear, nn.functional.log_softmax, nn.functional.dropout


def rows_of_784(images):
    return images.view(-1, PIXELS)


class FullyConnectedNet(MLP):
    """The document's network."""

    def __init__(self, batch_norm=True, flatten=rows_of_784):
        super().__init__([PIXELS, 256, 128, 10], nn.ReLU, batch_norm, dropout=0.2)
        self.flattened = flatten

    def forward(self, images):
        return nn.functional.log_softmax(super().forward(self.flattened(images)), dim=1)


def without_bias(x, weight, bias=None):
    return linear(x, weight)


def by_the_weight_itself(x, weight, bias=None):
    return linear(x, weight.reshape(weight.T.shape).T, bias)


@claim(
    "pytorch-notes/linear-computes-x-w-transpose-plus-b",
    finding="To the bit, on whole numbers, for any number of leading dimensions. The weight is kept as (out, in): "
    "that is why it is transposed.",
    controls=[
        replace("torch.nn.functional.linear", without_bias),
        replace("torch.nn.functional.linear", by_the_weight_itself),
    ],
)
@example(leading=(7,), fan_in=784, fan_out=256, seed=0)
@given(
    leading=st.lists(st.integers(1, 3), max_size=3).map(tuple),
    fan_in=st.integers(1, 9),
    fan_out=st.integers(1, 9),
    seed=SEEDS,
)
def test_linear_is_the_product_with_the_transposed_weight_plus_the_bias(leading, fan_in, fan_out, seed):
    with seeded(seed):
        x, w, b = (
            torch.randint(-9, 10, shape).float() for shape in ((*leading, fan_in), (fan_out, fan_in), (fan_out,))
        )
    layer = nn.Linear(fan_in, fan_out)
    layer.load_state_dict({"weight": w, "bias": b})
    assert torch.equal(layer(x), torch.einsum("...i,oi->...o", x, w) + b)


def one_column_an_image(images):
    return images.reshape(PIXELS, -1).T


@claim(
    "pytorch-notes/view-minus-one-784-flattens-images",
    finding="Row i holds the pixels of image i in reading order, and nothing is copied. It counts on one channel: of "
    "an image in colour it makes three rows.",
    controls=[override("columns for rows", flatten=one_column_an_image)],
)
@given(n=st.integers(2, 9), shape=st.sampled_from([(1, 28, 28), (28, 28), (784,)]), flatten=st.just(rows_of_784))
def test_view_makes_a_row_of_784_of_each_image(n, shape, flatten):
    images = torch.arange(n * PIXELS).view(n, *shape)
    rows = flatten(images)
    assert torch.equal(rows, torch.stack([image.flatten() for image in images]))
    assert shares_storage(rows, images)
    assert flatten(torch.zeros(n, 3, 28, 28)).shape == (3 * n, PIXELS)


def as_they_are(images):
    return images


@claim(
    "pytorch-notes/fcnet-runs-on-mnist-shapes",
    finding="It takes images (n, 1, 28, 28), (n, 28, 28) and rows (n, 784), in training and in evaluation, and gives "
    "(n, 10), with a gradient for every parameter. One thing stops it: a training batch of one image.",
    controls=[override("images that are not flattened", flatten=as_they_are)],
)
@given(n=st.integers(2, 6), shape=st.sampled_from([(1, 28, 28), (28, 28), (784,)]), flatten=st.just(rows_of_784))
def test_the_fully_connected_network_gives_ten_values_for_each_digit(n, shape, flatten):
    digits, net = mnist()[:n], FullyConnectedNet(flatten=flatten)
    images = digits.scaled.view(n, *shape)
    assert error_of(net, images) is None
    assert net.eval()(images).shape == (n, 10)
    nn.functional.nll_loss(net.train()(images), digits.labels).backward()
    assert all(parameter.grad is not None for parameter in net.parameters())


@claim(
    "pytorch-notes/fcnet-parameter-count",
    finding="(784 + 1) 256 + (256 + 1) 128 + (128 + 1) 10 in the linear layers, 2 (256 + 128) in the two BatchNorms, "
    "none in dropout. 85 % are in the first layer.",
    controls=[
        override("without batch normalisation", batch_norm=False),
        replace("torch.nn.BatchNorm1d", nn.InstanceNorm1d),
    ],
)
@given(hidden=st.lists(st.integers(1, 20), min_size=1, max_size=3), batch_norm=st.just(True))
def test_parameters_are_weights_and_biases_and_two_for_each_normalised_neuron(hidden, batch_norm, evidence, torchinfo):
    net = FullyConnectedNet(batch_norm)
    normalisations = [layer for layer in net if not isinstance(layer, nn.Linear)]
    measured = [number_of_parameters(net), number_of_parameters(*normalisations)]
    assert evidence.figure("parameters, and of normalisation", reported=[235_914, 768], measured=measured, tolerance=0)
    assert torchinfo.summary(net, (2, 1, 28, 28), verbose=0).trainable_params == 235_914
    widths = [9, *hidden, 4]
    weights_and_biases = sum((fan_in + 1) * fan_out for fan_in, fan_out in pairwise(widths))
    assert number_of_parameters(MLP(widths, nn.ReLU, batch_norm, dropout=0.2)) == weights_and_biases + 2 * sum(hidden)


def convolutional_net():
    return nn.Sequential(CNN(), nn.LogSoftmax(dim=1))


def logits_as_they_are(x, dim=None, *_, **__):
    return x


def over_the_batch(x, dim=None, *_, **__):
    return log_softmax(x, dim=0)


@claim(
    "pytorch-notes/fcnet-outputs-log-probabilities",
    finding="All are at most 0 and their exponentials add to 1, whatever the images, in training and in evaluation. "
    "NLLLoss is the loss that goes with them. CrossEntropyLoss gives the same: what it normalises first is so already.",
    controls=[
        replace("torch.nn.functional.log_softmax", logits_as_they_are),
        replace("torch.nn.functional.log_softmax", over_the_batch),
    ],
)
@pytest.mark.parametrize("make", [FullyConnectedNet, convolutional_net])
@given(n=st.integers(2, 4), seed=SEEDS, training=st.booleans(), scale=st.sampled_from([1.0, 100.0]))
def test_outputs_are_log_probabilities(make, n, seed, training, scale):
    with seeded(seed):
        net, images = make(), scale * torch.randn(n, 1, 28, 28)
        outputs = net.train(training)(images)
    assert (outputs <= 0).all()
    assert_close(outputs.exp().sum(1), torch.ones(n))
    labels = torch.arange(n)
    assert_close(nn.functional.nll_loss(outputs, labels), nn.functional.cross_entropy(outputs, labels))


@claim(
    "pytorch-notes/fcnet-trains-on-any-batch-size",
    verdict=REFUTED,
    finding="In training one image is refused: BatchNorm1d has no variance to divide by. From two images on any batch "
    "is taken, and in evaluation so is one. The last batch of an epoch is such a one if n % batch_size is 1: "
    "drop_last=True leaves it out.",
    controls=[override("without batch normalisation", batch_norm=False)],
)
@given(n=st.integers(2, 40), batch_norm=st.just(True))
def test_a_training_batch_of_one_is_refused_by_batch_normalisation(n, batch_norm):
    net, images = FullyConnectedNet(batch_norm), mnist()[:n].scaled
    assert error_of(net.train(), images) is None
    assert net.eval()(images[:1]).shape == (1, 10)
    with pytest.raises(ValueError, match=r"more than 1 value per channel when training, got .*\[1, 256\]"):
        net.train()(images[:1])


def calls_twice(seed):
    layer, ones = nn.Dropout(0.2), torch.ones(256)
    first, second = layer(ones) == 0, layer(ones) == 0
    return torch.stack([first, second, first & second]).float().mean(1)


def always_the_same_mask(x, p=0.5, training=True, inplace=False):
    with seeded(0):
        return dropout(x, p, training)


@claim(
    "pytorch-notes/one-dropout-module-used-twice-draws-new-masks",
    finding="Each call drops its own fifth: 4 % of the units are dropped by both, as of independent masks, and "
    "backward uses for each call the mask of that call. The module has neither parameters nor buffers.",
    controls=[replace("torch.nn.functional.dropout", always_the_same_mask)],
)
def test_two_calls_of_one_dropout_module_draw_independent_masks(trials, evidence):
    first, second, both = trials.map(calls_twice).T
    evidence.compare("share of units dropped", {"first call": first, "second call": second, "both": both})
    error = (0.04 * 0.96 / (256 * trials.count)) ** 0.5
    assert abs(both.mean() - 0.04) < 6 * error
    trials.always((both < first) & (both < second), name="the masks differ")
    assert nn.Dropout(0.2).state_dict() == {}


@claim(
    "pytorch-notes/one-dropout-module-used-twice-draws-new-masks",
    controls=[replace("torch.nn.functional.dropout", always_the_same_mask)],
)
@given(seed=SEEDS)
def test_each_call_of_a_dropout_module_has_the_gradient_of_its_own_mask(seed):
    layer, x = nn.Dropout(0.2), torch.ones(2, 256, requires_grad=True)
    with seeded(seed):
        outputs = torch.stack([layer(x[0]), layer(x[1])])
    outputs.sum().backward()
    assert torch.equal(x.grad, outputs)
    assert not torch.equal(x.grad[0], x.grad[1])


def normalised_convolution(batch_norm=True):
    normalisation = [nn.BatchNorm2d(4)] if batch_norm else []
    layers = nn.Conv2d(1, 4, 3), *normalisation, nn.ReLU(), nn.MaxPool2d(4), nn.Flatten()
    return nn.Sequential(*layers, nn.Linear(4 * 6 * 6, 10), nn.LogSoftmax(dim=1))


@claim(
    "pytorch-notes/bias-before-batchnorm-has-no-gradient",
    verdict=REFUTED,
    finding="BatchNorm subtracts the batch's mean, and the bias with it: in training its gradient is 0 (below 1e-11 in "
    "float64, where the weights' reaches 1e-2), and any other bias gives the same output. The bias of BatchNorm does "
    "its work: Linear(..., bias=False) loses nothing. A convolution before BatchNorm is no different.",
    controls=[
        override("without batch normalisation", batch_norm=False),
        override("statistics held fixed, as in evaluation", training=False),
    ],
)
@pytest.mark.parametrize("make", [FullyConnectedNet, normalised_convolution])
@given(seed=SEEDS, shift=st.floats(-9, 9), batch_norm=st.just(True), training=st.just(True))
def test_a_bias_before_batch_normalisation_changes_nothing(make, seed, shift, batch_norm, training):
    with seeded(seed):
        net = make(batch_norm).double().train(training)
        images, labels = torch.rand(64, 1, 28, 28).double(), torch.randint(10, (64,))
    net.apply(without_dropout)
    outputs = net(images)
    nn.functional.nll_loss(outputs, labels).backward()
    largest = {name: parameter.grad.abs().max() for name, parameter in net.named_parameters()}
    assert largest["0.bias"] < 1e-11
    assert min(largest["0.weight"], largest["1.bias"]) > 1e-4
    nn.init.constant_(net[0].bias, shift)
    assert_close(net(images), outputs)


def without_dropout(module):
    if isinstance(module, nn.Dropout):
        module.p = 0.0
