import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch.testing import assert_close

from fitcore.models import GaussianNoise, NoisyLinear
from fitcore.seeding import seeded


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("std", [0.0, 0.1, 2.0])
def test_noise_has_its_standard_deviation_and_the_dtype_of_what_it_is_added_to(std, dtype):
    x = torch.linspace(-1, 1, 40_000, dtype=dtype).reshape(2, 200, 100)
    with seeded(0):
        noise = GaussianNoise(std)(x) - x
    assert noise.dtype == dtype
    assert noise.shape == x.shape
    assert_close(noise.std().item(), std, rtol=0.03, atol=0.0)
    assert abs(noise.mean().item()) <= 6 * std / len(x.flatten()) ** 0.5


def test_noise_is_drawn_anew_in_every_call():
    layer, x = GaussianNoise(1.0), torch.zeros(100)
    with seeded(0):
        first, second = layer(x), layer(x)
    assert not torch.equal(first, second)


def test_noise_is_for_training():
    layer, x = GaussianNoise(1.0).eval(), torch.ones(5)
    assert layer(x) is x


def test_the_gradient_passes_as_it_is():
    x = torch.ones(5, requires_grad=True)
    with seeded(0):
        GaussianNoise(1.0)(x).sum().backward()
    assert torch.equal(x.grad, torch.ones(5))


def test_a_negative_standard_deviation_is_refused():
    with pytest.raises(ValueError, match=r"std must not be negative, got -0.1"):
        GaussianNoise(-0.1)


def test_its_repr_says_the_standard_deviation():
    assert repr(GaussianNoise(0.1)) == "GaussianNoise(std=0.1)"


@given(in_features=st.integers(1, 5), out_features=st.integers(1, 5), batch=st.lists(st.integers(0, 3), max_size=2))
def test_a_noisy_linear_layer_is_a_linear_one_in_evaluation_and_without_noise(in_features, out_features, batch):
    layer = NoisyLinear(in_features, out_features, weight_std=1.0)
    linear = torch.nn.Linear(in_features, out_features)
    linear.load_state_dict(layer.state_dict())
    x = torch.ones(*batch, in_features)
    assert torch.equal(layer.eval()(x), linear(x))
    layer.noise_std = 0.0
    assert torch.equal(layer.train()(x), linear(x))


def test_its_weights_start_small_and_its_biases_at_zero():
    with seeded(0):
        layer = NoisyLinear(200, 300)
    assert_close(layer.weight.std().item(), 0.01, rtol=0.02, atol=0.0)
    assert not layer.bias.any()
    assert layer.bias.shape == (300,)


def test_its_noise_is_on_the_inputs():
    with seeded(0):
        layer = NoisyLinear(3, 3, noise_std=2.0)
        torch.nn.init.eye_(layer.weight)
        noise = layer(torch.ones(20_000, 3)) - 1
    assert_close(noise.std(0), torch.full((3,), 2.0), rtol=0.05, atol=0.0)


@pytest.mark.parametrize("setting", [{"in_features": 0}, {"out_features": 0}], ids=str)
def test_a_noisy_linear_layer_needs_features(setting):
    with pytest.raises(ValueError, match=f"{next(iter(setting))} must be at least 1, got 0"):
        NoisyLinear(**{"in_features": 2, "out_features": 3, **setting})


@pytest.mark.parametrize("name", ["noise_std", "weight_std"])
def test_its_standard_deviations_must_not_be_negative(name):
    with pytest.raises(ValueError, match=f"{name} must not be negative, got -0.5"):
        NoisyLinear(2, 3, **{name: -0.5})


def test_its_repr_says_the_sizes_and_the_noise():
    assert repr(NoisyLinear(2, 3)) == "NoisyLinear(in_features=2, out_features=3, noise_std=0.1)"
