"""Every pullback is held against autograd, in float64, over families of shapes."""

import hypothesis.strategies as st
import pytest
import torch
from hypothesis import given, settings
from torch import nn
from torch.nn import functional
from torch.testing import assert_close

from fitcore.gradients import pullbacks
from fitcore.gradients.pullbacks import backpropagation, layers_of, mean_squared_error
from fitcore.models import CNN, MLP
from fitcore.seeding import seeded
from fitcore.testing.strategies import tensors

few = st.integers(1, 4)
seeds = st.integers(0, 2**32 - 1)


def normal(*shape):
    return torch.randn(shape, dtype=torch.float64)


def assert_is_the_pullback_of(function, written_out, *arguments):
    """``written_out(*arguments)`` has the output of ``function``, and sends any G back as autograd does."""
    leaves = [argument.clone().requires_grad_() for argument in arguments]
    expected = function(*leaves)
    g = torch.randn_like(expected)
    output, pullback = written_out(*arguments)
    assert_close(output, expected.detach())
    assert_close(pullback(g), torch.autograd.grad(expected, leaves, g))


@settings(max_examples=15)
@given(seed=seeds, n=few, fan_in=few, fan_out=few)
def test_affine(seed, n, fan_in, fan_out):
    with seeded(seed):
        arguments = normal(n, fan_in), normal(fan_out, fan_in), normal(fan_out)
        assert_is_the_pullback_of(functional.linear, pullbacks.affine, *arguments)


@pytest.mark.parametrize("name", ["relu", "tanh", "sigmoid"])
@settings(max_examples=10)
@given(x=tensors(dtype=torch.float64))
def test_activations(name, x):
    assert_is_the_pullback_of(getattr(torch, name), getattr(pullbacks, name), x)


@settings(max_examples=10)
@given(seed=seeds, shape=st.lists(few, min_size=2, max_size=4))
def test_flatten(seed, shape):
    with seeded(seed):
        assert_is_the_pullback_of(lambda x: x.flatten(1), pullbacks.flatten, normal(*shape))


@given(
    seed=seeds,
    channels=st.tuples(few, few),
    kernel=st.tuples(few, few),
    beyond=st.tuples(st.integers(0, 3), st.integers(0, 3)),
    stride=st.tuples(few, few),
    padding=st.tuples(st.integers(0, 2), st.integers(0, 2)),
)
def test_convolution(*, seed, channels, kernel, beyond, stride, padding):
    height, width = (k + more for k, more in zip(kernel, beyond, strict=True))
    with seeded(seed):
        arguments = normal(2, channels[0], height, width), normal(*channels[::-1], *kernel), normal(channels[1])
    assert_is_the_pullback_of(
        lambda *leaves: functional.conv2d(*leaves, stride, padding),
        lambda *leaves: pullbacks.convolution(*leaves, stride, padding),
        *arguments,
    )


def test_a_convolution_goes_by_ones_and_pads_nothing_by_default():
    assert_is_the_pullback_of(
        functional.conv2d, pullbacks.convolution, normal(2, 1, 5, 4), normal(3, 1, 2, 2), normal(3)
    )


@given(data=st.data(), size=st.integers(1, 3), blocks=st.tuples(few, few), beyond=st.integers(0, 2))
def test_max_pooling_with_equals_and_left_over_edges(data, size, blocks, beyond):
    height, width = (size * count + min(beyond, size - 1) for count in blocks)
    x = data.draw(tensors((2, 2, height, width), torch.float64, st.integers(0, 3)))
    assert_is_the_pullback_of(
        lambda leaf: functional.max_pool2d(leaf, size), lambda image: pullbacks.max_pooling(image, size), x
    )


@settings(max_examples=15)
@given(seed=seeds, n=few, classes=few)
def test_losses(seed, n, classes):
    with seeded(seed):
        logits, labels, targets = normal(n, classes), torch.randint(classes, (n,)), normal(n, classes)
        assert_is_the_pullback_of(
            lambda z: functional.cross_entropy(z, labels),
            lambda z: pullbacks.softmax_cross_entropy(z, labels),
            logits,
        )
        assert_is_the_pullback_of(
            lambda p: functional.mse_loss(p, targets), lambda p: mean_squared_error(p, targets), logits
        )


def test_layers_stand_in_the_order_of_their_application():
    kinds = [type(layer).__name__ for layer in layers_of(CNN(widths=(2,), hidden=None))]
    assert kinds == ["Conv2d", "ReLU", "MaxPool2d", "Flatten", "Linear"]
    assert [type(layer).__name__ for layer in layers_of(MLP([1, 2, 1], nn.ReLU))] == ["Linear", "ReLU", "Linear"]


@settings(max_examples=10)
@given(seed=seeds, times=few)
def test_a_layer_that_serves_several_times_gets_the_sum(seed, times):
    with seeded(seed):
        layer, x, y = nn.Linear(3, 3).double(), normal(4, 3), normal(4, 3)
    layers = [layer, nn.Tanh()] * times
    value, gradients = backpropagation(layers, x, y, mean_squared_error)
    expected = functional.mse_loss(nn.Sequential(*layers)(x), y)
    assert_close(value, expected.detach())
    assert list(gradients) == [layer.weight, layer.bias]
    assert_close(tuple(gradients.values()), torch.autograd.grad(expected, list(layer.parameters())))


@pytest.mark.parametrize("activation", [nn.ReLU, nn.Sigmoid, nn.Tanh])
def test_convolutional_networks_have_autograds_gradients(activation):
    with seeded(0):
        inner = nn.Sequential(nn.Conv2d(1, 2, (2, 3), padding=(0, 1)), activation(), nn.MaxPool2d(2))
        network = nn.Sequential(inner, nn.Flatten(), nn.Linear(8, 3)).double()
        x, labels = normal(4, 1, 5, 4), torch.tensor([0, 2, 1, 2])
    value, gradients = backpropagation(layers_of(network), x, labels)
    expected = functional.cross_entropy(network(x), labels)
    assert_close(value, expected.detach())
    wanted = list(network.parameters())
    assert_close([gradients[parameter] for parameter in wanted], list(torch.autograd.grad(expected, wanted)))


@pytest.mark.parametrize(
    "layer",
    [
        nn.Dropout(),
        nn.Conv2d(2, 2, 1, dilation=(2, 1)),
        nn.Conv2d(2, 2, 1, dilation=(1, 2)),
        nn.Conv2d(2, 2, 3, padding=1, padding_mode="reflect"),
        nn.MaxPool2d(2, padding=1),
        nn.MaxPool2d(2, dilation=2),
        nn.MaxPool2d(3, ceil_mode=True),
        nn.Flatten(1, 2),
        nn.Linear(2, 2, bias=False),
        nn.Conv2d(2, 2, 1, groups=2),
        nn.Conv2d(2, 2, 1, padding="same"),
        nn.MaxPool2d(3, 2),
        nn.Flatten(0),
    ],
    ids=lambda layer: type(layer).__name__,
)
def test_what_is_not_written_out_is_refused_by_name(layer):
    with pytest.raises(TypeError, match=f"got {type(layer).__name__}"):
        backpropagation([layer], torch.ones(2, 2, 4, 4), torch.zeros(2, dtype=torch.int64))
