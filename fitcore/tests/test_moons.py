import pytest
import torch

from fitcore.data.moons import noisy_moons
from fitcore.seeding import seeded


def test_moons_are_those_of_the_global_random_state():
    with seeded(1):
        first = noisy_moons(20, sets=2)
    with seeded(1):
        second = noisy_moons(20, sets=2)
    assert all(torch.equal(a, b) for a, b in zip(first, second, strict=True))
    assert not torch.equal(first[0][0], first[0][1])
    assert [tensor.shape for tensor in first] == [(2, 20, 2), (2, 20)]
    assert (first[0].dtype, first[1].dtype) == (torch.float32, torch.int64)


def test_without_flips_half_of_the_points_are_of_each_class():
    with seeded(0):
        points, labels = noisy_moons(100, noise=0.0, flipped=0.0, sets=3)
    assert labels.sum(1).tolist() == [50, 50, 50]
    assert (points[labels == 0][:, 1] >= -1e-6).all()  # the upper half circle


def test_labels_are_flipped_as_often_as_asked():
    def labels(flipped):
        with seeded(0):
            return noisy_moons(2_000, flipped=flipped)[1]

    assert torch.equal(labels(1.0), 1 - labels(0.0))
    assert (labels(0.25) != labels(0.0)).double().mean() == pytest.approx(0.25, abs=0.05)


def test_errors_name_the_argument():
    with pytest.raises(ValueError, match=r"flipped must be between 0 and 1, got 1\.5"):
        noisy_moons(10, flipped=1.5)
