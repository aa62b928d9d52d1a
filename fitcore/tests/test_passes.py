"""Forward passes of three kinds."""

import pytest
import torch
from torch import nn

from fitcore.evaluation.passes import passes_and_backward, share_of_time, tracked_passes, untracked_passes


class Witness(nn.Linear):
    """A layer that keeps its outputs."""

    def __init__(self):
        super().__init__(2, 1)
        self.outputs = []

    def forward(self, x):
        self.outputs.append(super().forward(x))
        return self.outputs[-1]


@pytest.mark.parametrize(
    ("passes", "tracked", "gradients"),
    [
        (tracked_passes, True, []),
        (untracked_passes, False, []),
        (passes_and_backward, True, [[[4 * 3.0] * 2], [4 * 3.0]]),
    ],
)
def test_the_three_kinds_differ_in_graph_and_gradient(passes, tracked, gradients):
    model = Witness()
    passes(model, torch.ones(3, 2), 4)
    assert [output.requires_grad for output in model.outputs] == [tracked] * 4
    found = [parameter.grad.tolist() for parameter in model.parameters() if parameter.grad is not None]
    assert found == gradients


def test_ten_times_the_passes_take_longer():
    def many(model, x, calls):
        tracked_passes(model, x, 10 * calls)

    assert share_of_time(many, tracked_passes, nn.Linear(2, 1), torch.ones(3, 2), calls=50, rounds=5) > 2
