import pytest
import torch
from torch.testing import assert_close

from fitcore.data import cubic_plus_sine, noisy_sine


@pytest.mark.parametrize("evenly_spaced", [True, False])
def test_without_noise_it_is_the_sine_on_minus_3_to_3(evenly_spaced):
    x, y = noisy_sine(50, noise=0.0, evenly_spaced=evenly_spaced)
    assert x.shape == y.shape == (50, 1)
    assert x.abs().max() <= 3
    assert_close(y, torch.sin(2 * x))


def test_without_noise_it_is_the_cubic_and_the_sine_on_minus_5_to_5():
    torch.manual_seed(0)
    x, y = cubic_plus_sine(1_000, noise=0.0)
    assert x.shape == y.shape == (1_000, 1)
    assert -5 <= x.min() < -4.9
    assert 4.9 < x.max() < 5
    assert_close(y, x * (x * (0.5 * x - 2) + 1) + 2 * torch.sin(2 * x))


@pytest.mark.parametrize("generator", [noisy_sine, cubic_plus_sine])
def test_noise_has_the_standard_deviation_asked_for(generator):
    torch.manual_seed(0)
    _, noisy = generator(20_000, noise=0.5)
    torch.manual_seed(0)
    _, noiseless = generator(20_000, noise=0.0)
    assert (noisy - noiseless).std().item() == pytest.approx(0.5, rel=0.05)


@pytest.mark.parametrize("generator", [noisy_sine, cubic_plus_sine])
def test_sets_are_drawn_apart(generator):
    x, y = generator(4, sets=(3, 2))
    assert x.shape == y.shape == (3, 2, 4, 1)
    assert len(x.flatten(0, 1)[:, 0].unique()) == 6


@pytest.mark.parametrize("generator", [noisy_sine, cubic_plus_sine])
def test_errors_name_the_argument(generator):
    with pytest.raises(ValueError, match="must be at least 1, got 0"):
        generator(0)
    with pytest.raises(ValueError, match=r"noise must not be negative, got -0\.1"):
        generator(5, noise=-0.1)
