"""Gradient norms by layer, and their prediction."""

import math

import pytest
import torch
from torch import nn
from torch.testing import assert_close

from fitcore.gradients.depth import gradient_norms_by_layer, mean_field_gradient_factors
from fitcore.seeding import seeded


def test_each_layer_multiplies_the_norm_by_its_own_factor():
    layers = [nn.Linear(2, 2, bias=False) for _ in range(3)]
    for layer, factor in zip(layers, [2.0, 0.5, 3.0], strict=True):
        nn.init.eye_(layer.weight).data.mul_(factor)
    inputs = torch.randn(4, 2)
    norms = gradient_norms_by_layer(layers, inputs, lambda output: output[0, 0])
    assert_close(norms, torch.tensor([3.0, 1.5, 3.0, 1.0], dtype=torch.float64))
    assert layers[0].weight.grad is None
    assert not inputs.requires_grad


def test_groups_are_networks_of_their_own():
    with seeded(3):
        grouped = [nn.Conv2d(6, 6, 1, groups=2, bias=False) for _ in range(3)]
        x = torch.randn(5, 6, 1, 1)

    def square(output):
        return output.square().sum()

    def alone(group):
        layers = [nn.Conv2d(3, 3, 1, bias=False) for _ in grouped]
        for layer, both in zip(layers, grouped, strict=True):
            layer.weight.data = both.weight.data[3 * group : 3 * group + 3]
        return gradient_norms_by_layer(layers, x[:, 3 * group : 3 * group + 3], square)

    assert_close(gradient_norms_by_layer(grouped, x, square, groups=2), torch.stack([alone(0), alone(1)]))


def test_squares_of_small_gradients_are_not_lost():
    norms = gradient_norms_by_layer([nn.Identity()], torch.zeros(4), lambda output: 1e-30 * output.sum())
    assert_close(norms, torch.full((2,), 2e-30, dtype=torch.float64), rtol=1e-6, atol=0)


def test_by_default_the_gradient_of_the_output_is_standard_normal():
    with seeded(0):
        norms = gradient_norms_by_layer(nn.Sequential(nn.Identity()), torch.zeros(100, 100))
    assert norms[0] == norms[1]
    assert norms[1].item() == pytest.approx(100, rel=0.05)


@pytest.mark.parametrize("variance", [1 / 3, 1.0, 2.0])
def test_relu_passes_half_of_the_squared_gradient(variance):
    factors = mean_field_gradient_factors(torch.relu, variance, layers=3)
    assert_close(factors, torch.full((3,), math.sqrt(variance / 2), dtype=torch.float64), rtol=1e-3, atol=0)


def test_the_mean_square_of_a_layer_is_passed_on_with_that_of_its_biases():
    variance, of_biases = 0.8, 0.3
    first, second = mean_field_gradient_factors(lambda x: x.square() / 2, variance, of_biases, layers=2).tolist()
    mean_square = (
        variance * 1.0 + of_biases
    )  # of √q z, whose slope is √q z and whose output has the mean square 3 q² / 4
    assert first == pytest.approx(math.sqrt(variance * mean_square))
    assert second == pytest.approx(math.sqrt(variance * (variance * 3 * mean_square**2 / 4 + of_biases)))


def test_of_tanh_it_is_the_signal_that_decides():
    small = mean_field_gradient_factors(torch.tanh, 1.0, input_mean_square=1e-8)
    large = mean_field_gradient_factors(torch.tanh, 1.0, input_mean_square=100.0)
    assert small.item() == pytest.approx(1, abs=1e-6)
    assert large.item() < 0.3


def test_of_a_steep_sigmoid_it_is_the_share_of_signals_that_fall_on_the_step():
    factors = mean_field_gradient_factors(torch.sigmoid, 1e4)
    assert factors.item() == pytest.approx(math.sqrt(1e4 / 6 / math.sqrt(2 * math.pi * 1e4)), rel=1e-3)


def test_wide_layers_do_as_predicted():
    def layer():
        return nn.Sequential(nn.Linear(1000, 1000), nn.Sigmoid())

    with seeded(1):
        norms = gradient_norms_by_layer([layer() for _ in range(4)], torch.randn(4, 1000))
    predicted = mean_field_gradient_factors(torch.sigmoid, 1 / 3, 1 / 3000, layers=4)
    assert_close(norms[:-1] / norms[1:], predicted, rtol=0.05, atol=0)
