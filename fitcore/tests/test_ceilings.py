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


def test_a_cuda_device_is_waited_for_after_the_last_call(monkeypatch):
    events = []
    monkeypatch.setattr(torch.cuda, "synchronize", events.append)
    device = torch.device("cuda")
    synchronised(lambda: events.append("call"), device, calls=2)()
    assert events == ["call", "call", device]
    wait_for(CPU)
    assert len(events) == 3


def test_sizes_end_where_memory_does():
    def measure(size):
        if size > 2:
            raise torch.OutOfMemoryError("CUDA out of memory.")
        return 10 * size

    assert while_memory_lasts(measure, [1, 2, 3, 1]) == {1: 10, 2: 20}
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
