import pytest
import torch
from torch.testing import assert_close

from fitcore.evaluation import bias_variance
from fitcore.seeding import seeded


def test_of_normal_predictions_it_finds_shift_and_spread():
    with seeded(0):
        predictions = 3 + 2 * torch.randn(20_000, 5)
    parts = bias_variance(predictions, torch.zeros(5))
    assert parts.bias_squared.item() == pytest.approx(9, rel=0.02)
    assert parts.variance.item() == pytest.approx(4, rel=0.02)


def test_the_parts_sum_to_the_mean_squared_error():
    with seeded(0):
        predictions, truth = torch.randn(4, 3, 7, dtype=torch.float64), torch.randn(7, dtype=torch.float64)
    parts = bias_variance(predictions, truth)
    assert parts.variance.shape == (4,)
    assert_close(sum(parts), (predictions - truth).square().mean((-2, -1)))


def test_the_spread_of_the_mean_is_not_taken_for_bias():
    with seeded(0):
        predictions = torch.randn(5_000, 2, 3)
    assert abs(bias_variance(predictions, torch.zeros(3)).bias_squared.mean().item()) < 0.03


def test_it_needs_two_trials():
    with pytest.raises(ValueError, match="at least 2 trials, got 1"):
        bias_variance(torch.ones(1, 5), torch.ones(5))
