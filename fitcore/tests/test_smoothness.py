import math

import pytest
import torch

from fitcore.evaluation import total_curvature


def test_a_sine_bends_by_four_a_period():
    x = torch.linspace(0, 2 * math.pi, 2_001, dtype=torch.float64)
    assert total_curvature(torch.sin(x), spacing=2 * math.pi / 2_000).item() == pytest.approx(4, rel=1e-3)


def test_straight_lines_do_not_bend():
    lines = torch.outer(torch.tensor([0.0, 1.0, -2.0]), torch.arange(10.0)) + 3
    assert total_curvature(lines, spacing=0.5).tolist() == [0, 0, 0]


def test_three_points_bend_once():
    assert total_curvature(torch.tensor([0.0, 1.0, 0.0]), spacing=0.5) == 4


def test_errors_name_the_argument():
    with pytest.raises(ValueError, match="at least 3 points, got 2"):
        total_curvature(torch.ones(5, 2), 1.0)
    with pytest.raises(ValueError, match="spacing must be positive, got 0"):
        total_curvature(torch.ones(5), 0)
