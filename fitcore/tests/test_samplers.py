import pytest
import torch

from fitcore.data import class_balanced_sampler
from fitcore.seeding import seeded


def test_a_rare_class_is_drawn_as_often_as_a_common_one():
    labels = torch.tensor([0] * 90 + [2] * 10)
    with seeded(1):
        drawn = labels[list(class_balanced_sampler(labels, 4000))]
    assert len(drawn) == 4000
    assert abs((drawn == 2).float().mean() - 0.5) < 7 * 0.5 / 4000**0.5


def test_an_epoch_has_as_many_draws_as_samples():
    assert len(class_balanced_sampler(torch.tensor([0, 1, 1]))) == 3


@pytest.mark.parametrize(
    "labels", [torch.zeros(3), torch.zeros(3, 1, dtype=torch.int64), torch.tensor([]).long(), torch.tensor([True])]
)
def test_labels_are_integers_one_a_sample(labels):
    with pytest.raises(ValueError, match="labels must be integers, one a sample, got torch"):
        class_balanced_sampler(labels)


def test_a_label_is_not_negative():
    with pytest.raises(ValueError, match="labels must not be negative, got -1"):
        class_balanced_sampler(torch.tensor([0, -1]))
