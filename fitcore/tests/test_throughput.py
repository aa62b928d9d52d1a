"""The clocks of the throughput claims."""

import time
from time import perf_counter, thread_time

import pytest
import torch
from torch import nn

from fitcore.evaluation.throughput import intra_op_threads, least_seconds, time_ratio, training_flops


def test_contenders_take_turns_and_the_least_time_counts():
    turns = []
    pauses = iter([0.05, 0.03, 0.01, 0.03])

    def slow():
        turns.append("slow")
        time.sleep(next(pauses))

    seconds = least_seconds({"slow": slow, "fast": lambda: turns.append("fast")}, rounds=3)
    assert turns == ["slow", "fast"] * 4
    assert seconds["fast"] < 0.01 <= seconds["slow"]


def test_the_turn_to_warm_up_counts_for_nothing():
    times = iter([0, 1, 1, 4, 4, 9, 9, 16])
    assert least_seconds({"call": lambda: None}, rounds=3, clock=lambda: next(times)) == {"call": 3}


def test_rounds_below_one_are_refused():
    with pytest.raises(ValueError, match="rounds must be at least 1, got 0"):
        least_seconds({}, rounds=0)


def test_the_ratio_is_the_median_of_neighbours():
    times = iter([0, 9, 9, 10, 0, 3, 3, 5, 0, 4, 4, 5, 0, 1, 1, 9])
    assert time_ratio(lambda: None, lambda: None, rounds=3, clock=lambda: next(times)) == 1.5
    with pytest.raises(ValueError, match="rounds must be at least 1, got 0"):
        time_ratio(lambda: None, lambda: None, rounds=0)


def test_flops_are_those_of_the_layers():
    linear = nn.Linear(3, 5)
    assert training_flops(linear, torch.ones(7, 3)) == 2 * (2 * 7 * 3 * 5)  # forward, and the weight's gradient


def test_threads_are_set_for_one_block():
    before = torch.get_num_threads()
    with intra_op_threads(before + 1):
        assert torch.get_num_threads() == before + 1
    assert torch.get_num_threads() == before


@pytest.mark.parametrize(("clock", "threads"), [(thread_time, 1), (perf_counter, 2)])
def test_a_clock_that_sees_one_thread_times_one(clock, threads):
    seen = []
    with intra_op_threads(2):
        least_seconds({"call": lambda: seen.append(torch.get_num_threads())}, rounds=1, clock=clock)
        time_ratio(lambda: seen.append(torch.get_num_threads()), tuple, rounds=1, clock=clock)
        assert torch.get_num_threads() == 2
    assert set(seen) == {threads}
