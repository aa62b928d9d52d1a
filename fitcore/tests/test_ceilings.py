"""What a device can do at best, on the one that every machine has."""

import pytest
import torch

from fitcore.evaluation.ceilings import (
    PUBLISHED_PEAKS,
    Ceilings,
    copy_rate,
    measured_ceilings,
    name_of,
    peak_memory,
    product,
    product_rate,
    seconds_a_call,
    synchronised,
    wait_for,
    while_memory_lasts,
)

CPU = torch.device("cpu")


def test_the_roofline_is_the_bandwidth_below_the_ridge_and_the_peak_above():
    ceilings = Ceilings(fp32=50.0, tf32=400.0, bf16=800.0, copy=4.0)
    assert [ceilings.roofline(intensity, ceilings.fp32) for intensity in (1, 12.5, 100)] == [4.0, 50.0, 50.0]


def test_ceilings_of_a_cpu_are_rates():
    ceilings = measured_ceilings(CPU, size=64, megabytes=1)
    assert all(1e6 < rate < 1e16 for rate in vars(ceilings).values())


@pytest.fixture
def timed(monkeypatch):
    """Let every call take the next of some times, and tell under which precision of products it was made."""
    precisions = []

    def let(times):
        def seconds_a_call(run, device, rounds):
            run()
            precisions.append(torch.get_float32_matmul_precision())
            return next(left)

        left = iter(times)
        monkeypatch.setattr("fitcore.evaluation.ceilings.seconds_a_call", seconds_a_call)
        return precisions

    return let


def test_rates_are_work_over_time(timed):
    precisions = timed([0.5, 0.25, 0.125, 0.5, 0.25])
    ceilings = measured_ceilings(CPU, size=16, megabytes=3)
    assert (ceilings.fp32, ceilings.tf32, ceilings.bf16) == (2 * 16**3 * 2, 2 * 16**3 * 4, 2 * 16**3 * 8)
    assert ceilings.copy == 2 * 3 * 2**20 * 4
    assert precisions[:2] == ["highest", "high"]


def test_a_copy_may_be_faster_by_the_driver_or_by_a_kernel(timed):
    timed([0.25, 0.5, 0.5, 0.25])
    assert copy_rate(1, CPU) == copy_rate(1, CPU) == 2 * 2**20 * 4


def test_products_are_rounded_to_tf32_only_where_that_is_asked_for(timed):
    precisions = timed([1.0])
    product_rate(4, torch.float32, CPU)
    assert precisions == ["highest"]


def test_the_product_is_one_of_random_matrices():
    ours = product(8, torch.float64, CPU)
    assert len(ours().unique()) == 64
    assert torch.equal(ours(), ours())


@pytest.mark.parametrize("tf32", [False, True])
def test_the_precision_of_products_is_left_as_it_was(tf32):
    before = torch.get_float32_matmul_precision()
    assert product_rate(16, torch.float32, CPU, tf32=tf32, rounds=1) > 0
    assert torch.get_float32_matmul_precision() == before


def test_the_time_of_a_call_is_one_of_many():
    calls = []
    seconds = seconds_a_call(lambda: calls.append(torch.ones(100).sum()), CPU, rounds=3, calls=7)
    assert len(calls) == 7 * (1 + 3)
    assert 0 < seconds < 0.1


def test_the_time_of_a_call_is_its_share_of_the_time_of_all(monkeypatch):
    monkeypatch.setattr("fitcore.evaluation.ceilings.least_seconds", lambda contenders, rounds: {"run": 21.0})
    assert seconds_a_call(lambda: None, CPU, calls=7) == 3.0


def test_a_cuda_device_is_waited_for_after_the_last_call(monkeypatch):
    events = []
    monkeypatch.setattr(torch.cuda, "synchronize", events.append)
    device = torch.device("cuda")
    synchronised(lambda: events.append("call"), device, calls=2)()
    assert events == ["call", "call", device]
    wait_for(CPU)
    assert len(events) == 3
    synchronised(lambda: events.append("one call"), CPU)()
    assert events[3:] == ["one call"]


class Allocator:
    """A CUDA device's memory, which changes when the device is waited for: 20 bytes are still to be freed."""

    def __init__(self):
        self.live, self.peak, self.outstanding = 120, 900, [-20]

    def synchronize(self, device):
        for change in self.outstanding:
            self.live += change
            self.peak = max(self.peak, self.live)
        self.outstanding = []

    def reset_peak_memory_stats(self, device):
        self.peak = self.live

    def memory_allocated(self, device):
        return self.live

    def max_memory_allocated(self, device):
        return self.peak


def test_peak_memory_is_what_a_call_adds_to_what_is_there_before(monkeypatch):
    allocator = Allocator()
    for name in ("synchronize", "reset_peak_memory_stats", "memory_allocated", "max_memory_allocated"):
        monkeypatch.setattr(torch.cuda, name, getattr(allocator, name))
    assert peak_memory(lambda: allocator.outstanding.extend([50, -30, 10]), torch.device("cuda")) == 50


def test_sizes_end_where_memory_does():
    def measure(size):
        if size > 2:
            raise torch.OutOfMemoryError("CUDA out of memory.")
        return 10 * size

    assert while_memory_lasts(measure, [1, 2, 3, 0]) == {1: 10, 2: 20}
    with pytest.raises(torch.OutOfMemoryError):
        while_memory_lasts(measure, [3, 1])


def test_a_cpu_counts_no_memory_and_has_no_product_name():
    assert peak_memory(lambda: torch.ones(100), CPU) == 0
    assert name_of(CPU) == "cpu"
    assert copy_rate(1, CPU, rounds=1) > 0


def test_published_peaks_are_those_of_dense_products():
    assert all(1e14 < peaks.bf16_flops < 1e15 for peaks in PUBLISHED_PEAKS.values())


@pytest.mark.gpu
def test_peak_memory_is_beyond_what_is_there_before():
    device = torch.device("cuda")
    torch.cuda.empty_cache()  # a larger cached block would count whole
    kept = torch.ones(2**20, device=device)
    assert peak_memory(lambda: (kept + 1) * 2, device) == 2 * kept.nbytes
    assert peak_memory(kept.sum, device) < 2**20
