import numpy as np
import pytest
import torch

from fitcore.evaluation.decision_boundary import boundary_length, islands, plane_grid


def test_the_grid_is_that_of_numpy():
    columns, rows = np.meshgrid(np.arange(-1, 2, 0.5), np.arange(0, 1, 0.5))
    grid = plane_grid((-1, 0), (2, 1), 0.5)
    assert grid.shape == (2, 6, 2)
    assert np.array_equal(grid.numpy(), np.stack([columns, rows], axis=-1))


def test_a_straight_line_leaves_no_islands():
    assert islands((plane_grid((0, 0), (5, 5), 1)[..., 0] > 2).long()) == 0


def test_stripes_of_three_classes_are_no_islands():
    assert islands(torch.arange(3).repeat_interleave(2).expand(4, 6)) == 0


def test_patches_beyond_the_first_of_each_class_are_islands():
    regions = torch.zeros(2, 5, 7, dtype=torch.long)
    regions[0, 1, 1] = regions[0, 3, 4:6] = 1
    regions[1, 1:4, 1:4] = 1
    regions[1, 2, 2] = 0
    assert islands(regions).tolist() == [1, 1]


def test_cells_that_touch_at_a_corner_are_apart():
    assert islands(torch.eye(3, dtype=torch.long)) == 2 + 1


def test_the_boundary_of_a_rectangle_is_its_circumference():
    regions = torch.zeros(2, 6, 6)
    regions[0, 2:4, 2:5] = 1
    assert boundary_length(regions, step=0.5).tolist() == pytest.approx([10 * 0.5, 0])
