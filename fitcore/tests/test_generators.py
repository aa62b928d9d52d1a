import pytest
import torch
from torch.testing import assert_close

from fitcore.data import noisy_sine


@pytest.mark.parametrize("evenly_spaced", [True, False])
def test_without_noise_it_is_the_sine_on_minus_3_to_3(evenly_spaced):
    x, y = noisy_sine(50, noise=0.0, evenly_spaced=evenly_spaced)
    assert x.shape == y.shape == (50, 1)
    assert x.abs().max() <= 3
    assert_close(y, torch.sin(2 * x))


def test_noise_has_the_standard_deviation_asked_for():
    torch.manual_seed(0)
    x, y = noisy_sine(20_000, noise=0.5)
    assert (y - torch.sin(2 * x)).std().item() == pytest.approx(0.5, rel=0.05)


def test_sets_are_drawn_apart():
    x, y = noisy_sine(4, sets=(3, 2))
    assert x.shape == y.shape == (3, 2, 4, 1)
    assert len(x.flatten(0, 1)[:, 0].unique()) == 6


def test_errors_name_the_argument():
    with pytest.raises(ValueError, match="samples must be at least 1, got 0"):
        noisy_sine(0)
    with pytest.raises(ValueError, match=r"noise must not be negative, got -0\.1"):
        noisy_sine(5, noise=-0.1)
