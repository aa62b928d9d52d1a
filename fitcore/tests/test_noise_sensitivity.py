import pytest
import torch

from fitcore.evaluation.noise_sensitivity import noisy_input_losses
from fitcore.seeding import seeded


def test_noise_on_the_inputs_of_a_line_adds_its_slope_squared_times_the_variance():
    x = torch.zeros(3, 20_000, 1, dtype=torch.float64)
    slopes = torch.tensor([0.0, 1.0, 2.0])[:, None, None]
    with seeded(0):
        losses = noisy_input_losses(lambda inputs: slopes * inputs + 1, x, torch.full_like(x, 2), [0.0, 0.5])
    assert losses.shape == (2, 3)
    assert losses[0].tolist() == [1, 1, 1]
    assert losses[1].tolist() == pytest.approx([1, 1.25, 2], rel=0.05)


def test_errors_name_the_argument():
    x = torch.zeros(5, 1)
    with pytest.raises(ValueError, match="levels must not be negative, got -1"):
        noisy_input_losses(lambda inputs: inputs, x, x, [0.5, -1])
    with pytest.raises(ValueError, match=r"shape of targets \(5,\), got \(5, 1\)"):
        noisy_input_losses(lambda inputs: inputs, x, x[:, 0], [0.5])
