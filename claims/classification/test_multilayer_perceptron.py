"""Section 9.2.1: the multilayer perceptron for MNIST."""

from functools import partial

import hypothesis.strategies as st
import torch
from hypothesis import example, given
from torch import nn
from torch.testing import assert_close

from fitcore.data import mnist
from fitcore.models import MLP, number_of_parameters
from fitcore.seeding import seeded
from fitcore.testing import claim, error_of, override

PIXELS, CLASSES = 28 * 28, 10


def flattened(images):
    return images.view(images.size(0), -1)


class DigitMLP(nn.Module):
    """The document's network: it flattens the images itself, and ends in scores."""

    def __init__(self, hidden=(256, 128), layer=nn.Linear, flatten=flattened):
        super().__init__()
        self.flatten = flatten
        self.fc1 = layer(PIXELS, hidden[0])
        self.fc2 = layer(hidden[0], hidden[1])
        self.out = layer(hidden[1], CLASSES)

    def forward(self, x):
        x = torch.relu(self.fc1(self.flatten(x)))
        return self.out(torch.relu(self.fc2(x)))


without_bias = partial(nn.Linear, bias=False)


@claim(
    "pytorch-notes/mnist-mlp-params",
    finding="(784 + 1) a + (a + 1) b + (b + 1) 10 for hidden layers of a and b. Of the first network 85 % are in its "
    "first layer, of the second 60 %.",
    controls=[override("without biases", layer=without_bias)],
)
@example(hidden=(256, 128), layer=nn.Linear)
@given(hidden=st.tuples(st.integers(1, 300), st.integers(1, 300)), layer=st.just(nn.Linear))
def test_parameters_are_a_weight_for_each_input_of_a_neuron_and_a_bias(hidden, layer):
    a, b = hidden
    count = number_of_parameters(DigitMLP(hidden, layer))
    assert count == (PIXELS + 1) * a + (a + 1) * b + (b + 1) * CLASSES
    assert number_of_parameters(DigitMLP((256, 128), layer)) == 235_146
    assert number_of_parameters(DigitMLP((256, 512), layer)) == 337_674
    assert number_of_parameters(MLP([PIXELS, *hidden, CLASSES])) == count


def as_they_are(images):
    return images


@claim(
    "pytorch-notes/mnist-mlp-forward-gives-10-scores",
    finding="The scores of a digit don't depend on the others in its batch.",
    controls=[override("not flattened", flatten=as_they_are)],
)
@example(batch=64, seed=0, flatten=flattened)
@given(batch=st.integers(1, 8), seed=st.integers(0, 2**32 - 1), flatten=st.just(flattened))
def test_the_network_gives_ten_scores_for_each_digit(batch, seed, flatten):
    with seeded(seed):
        network, digits = DigitMLP(flatten=flatten), mnist()[:batch].scaled
    assert digits.shape == (batch, 1, 28, 28)
    assert error_of(network, digits) is None
    scores = network(digits)
    assert scores.shape == (batch, CLASSES)
    assert_close(scores, torch.cat([network(digit[None]) for digit in digits]))
