"""Section 15.1.1: what repeated factors above 1 make of a gradient, and where they leave float32."""

import math

import hypothesis.strategies as st
import numpy as np
import pytest
import torch
from hypothesis import example, given, settings
from torch import nn

from fitcore.gradients.depth import gradient_norms_by_layer, mean_field_gradient_factors
from fitcore.seeding import seeded
from fitcore.testing import claim, override

seeds = st.integers(0, 2**32 - 1)


def rotation(width, factor):
    """A layer that multiplies every vector's length by ``factor``."""
    layer = nn.Linear(width, width, bias=False).double()
    nn.init.orthogonal_(layer.weight, gain=factor)
    return layer


def stretch(width, factor):
    """A layer that multiplies the length of vectors of one direction by ``factor``, and halves that of all others."""
    layer = rotation(width, 0.5)
    layer.weight.data[0] *= 2 * factor
    return layer


@claim(
    "pytorch-notes/factors-above-one-explode",
    finding="The gradient's norm is the product of the factors, whatever they are: 100 layers of 1.1 make 14,000 of "
    "it and 100 layers of 2 make 1e30.",
    controls=[override("another direction stretched", layer=stretch), override("half of each factor", share=0.5)],
)
@settings(max_examples=12)
@example(factors=[2.0] * 100, width=8, seed=0, layer=rotation, share=1.0)
@example(factors=[1.1] * 100, width=8, seed=0, layer=rotation, share=1.0)
@given(
    factors=st.lists(st.floats(1.05, 4), min_size=1, max_size=40),
    width=st.integers(2, 8),
    seed=seeds,
    layer=st.just(rotation),
    share=st.just(1.0),
)
def test_factors_above_one_multiply_up(factors, width, seed, layer, share):
    with seeded(seed):
        layers = [layer(width, share * factor) for factor in factors]
        norms = gradient_norms_by_layer(layers, torch.randn(3, width).double())
    assert (norms[:-1] > norms[1:]).all()
    assert norms[0] >= min(factors) ** len(factors) * norms[-1] * (1 - 1e-9)
    product = torch.tensor(math.prod(factors), dtype=torch.float64)
    torch.testing.assert_close(norms[0] / norms[-1], product, rtol=1e-9, atol=0)


def slope_and_residual(logarithms):
    """Of the straight line through the logarithms (trials, layers + 1) of each network."""
    layers = np.arange(logarithms.shape[1])
    slope, start = np.polyfit(layers, logarithms.T, 1)
    return slope, abs(logarithms - start[:, None] - np.outer(slope, layers)).max(1)


@claim(
    "pytorch-notes/factors-above-one-explode",
    finding="So it is in ReLU networks with N(0, 1) weights, where the factor of a layer is √(width/2): 4 at a width "
    "of 32, and 5.7 at 64, where twenty layers make 1e15. The logarithm grows in a straight line.",
    controls=[override("Kaiming's weights", init="kaiming")],
    trials=60,
)
@pytest.mark.parametrize("width", [32, 64])
def test_the_gradient_of_a_deep_network_grows_exponentially(norms, trials, evidence, width, init="standard normal"):
    logarithms = norms(nn.ReLU, init, width=width).flip(1).log().numpy()
    predicted = mean_field_gradient_factors(torch.relu, weight_variance=width, layers=20).flip(0).log().cumsum(0)
    series = {
        "median of the networks": np.median(logarithms - logarithms[:, :1], axis=0)[1:] / math.log(10),
        "predicted": predicted / math.log(10),
    }
    evidence.curve("log10 of the growth of the gradient's norm", range(1, 21), series, x_label="layers passed")
    slope, residual = slope_and_residual(logarithms)
    factor = math.sqrt(width / 2)
    evidence.observe("factor of a layer", np.exp(slope), limit=factor)
    trials.equivalent(1, np.exp(slope) / factor, within=0.1, name="as predicted, within 10 %")
    trials.less(residual, 0.1 * abs(slope) * 20, name="a straight line within a tenth of its rise")


def first_overflow(dtype, count=60, width=64):
    """After how many random matrices a vector is infinite, and NaN (or 0); whether loss and gradient are finite."""
    x = torch.randn(width, dtype=dtype, requires_grad=True)
    signals = [x]
    for _ in range(count):
        signals.append(torch.randn(width, width, dtype=dtype) @ signals[-1])
    loss = signals[-1].mean()
    (gradient,) = torch.autograd.grad(loss, x)
    infinite = [not signal.isfinite().all() for signal in signals]
    undefined = [bool(signal.isnan().any()) for signal in signals]
    last = [float(loss.isnan()), float(gradient.isfinite().all())]
    return torch.tensor([infinite.index(True) if any(infinite) else 0, sum(infinite) - sum(undefined), *last])


@claim(
    "pytorch-notes/forward-explosion-overflows-float32",
    finding="Each matrix of 64 makes vectors eight times as long, so that log 3.4e38 / log 8 = 42.7 of them leave "
    "float32: the 42nd to 44th gives the first infinity, and the same one or the next NaN, which is inf - inf. The "
    "loss is NaN then, and the gradient, in which as many factors meet, is infinite or NaN too.",
    controls=[override("float64", dtype=torch.float64)],
    trials=20,
)
def test_sixty_random_matrices_overflow_float32(trials, evidence, dtype=torch.float32):
    first, between, loss_is_nan, gradient_is_finite = trials.map(lambda seed: first_overflow(dtype)).T
    predicted = math.log(torch.finfo(torch.float32).max) / math.log(8)
    evidence.observe("matrices until the first infinity", first, limit=predicted)
    trials.always(abs(first - predicted) < 6, name="when predicted, within five")
    trials.always((between == 0) | (between == 1), name="NaN from the same matrix or the next")
    trials.always(loss_is_nan == 1, name="the loss is NaN")
    trials.always(gradient_is_finite == 0, name="the gradient is not finite")
