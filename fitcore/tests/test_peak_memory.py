"""Live storages, counted."""

import torch

from fitcore.evaluation.peak_memory import PeakMemory

FLOAT = 4


def test_memory_is_counted_while_it_is_alive():
    with PeakMemory() as memory:
        a = torch.ones(100)
        b = torch.ones(50) + a[:50]
        assert memory.live == FLOAT * 150
        del a, b
    assert memory.live == 0
    assert memory.peak == FLOAT * 200


def test_views_and_what_existed_before_cost_nothing():
    x = torch.ones(100)
    with PeakMemory(x) as memory:
        x.view(10, 10).mul_(2)
    assert memory.peak == 0
    with PeakMemory(x[50:]) as memory:
        x.mul_(2)
    assert memory.peak == 0


def test_an_operation_gets_all_its_arguments():
    with PeakMemory() as memory:
        x = torch.ones(100, dtype=torch.float64)
    assert (x.dtype, memory.live) == (torch.float64, 8 * 100)


def test_tensors_saved_for_backward_stay_alive():
    x = torch.ones(100, requires_grad=True)
    with PeakMemory(x) as memory:
        out = x.exp().exp().sum()
        assert memory.live == FLOAT * 201
        out.backward()
        assert memory.live == FLOAT * 101  # the gradient and the result
