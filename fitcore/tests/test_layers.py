import pytest
import torch
from torch.testing import assert_close

from fitcore.models import GaussianNoise
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
