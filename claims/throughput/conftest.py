"""What claims about a GPU's throughput run on, and what they leave beside pytest-benchmark's own figures."""

from collections.abc import Callable, Iterator

import joblib
import pytest
import torch

from fitcore.evaluation.ceilings import (
    PUBLISHED_PEAKS,
    Ceilings,
    Peaks,
    measured_ceilings,
    name_of,
    peak_memory,
    seconds_a_call,
    synchronised,
)


@pytest.fixture
def device() -> Iterator[torch.device]:
    """The GPU, which one thread alone gives its work."""
    with joblib.parallel_config(backend="threading", n_jobs=1):
        yield torch.device("cuda")


@pytest.fixture
def ceilings(shared, device) -> Ceilings:
    """What this device's products and copies reach in this run."""
    return shared(measured_ceilings, device)


@pytest.fixture
def published(device) -> Peaks:
    """What the data sheet of this device says; skips where it isn't known."""
    name = name_of(device)
    if name not in PUBLISHED_PEAKS:
        pytest.skip(f"no published peaks are known of {name!r}, only those of {', '.join(PUBLISHED_PEAKS)}")
    return PUBLISHED_PEAKS[name]


@pytest.fixture
def headline(benchmark, device, ceilings) -> Callable[..., float]:
    """``headline(run, samples=, flops=, moved=)``: least seconds of a call, which pytest-benchmark times too.

    What it achieves goes to ``extra_info``: of the ``samples``, operations and bytes of a call, those that are given;
    beside them the ceilings, of which ``peak`` stands in for that of float32 products.
    """

    def measure(
        run: Callable[[], object],
        *,
        samples: int = 0,
        flops: float = 0,
        moved: float = 0,
        peak: float | None = None,
        rounds: int = 5,
        calls: int = 10,
    ) -> float:
        benchmark.pedantic(synchronised(run, device, calls), rounds=rounds, warmup_rounds=1)
        seconds = seconds_a_call(run, device, rounds, calls)
        achieved = {
            "samples/s": samples / seconds,
            "TFLOP/s": flops / seconds / 1e12,
            "of the rate of products": flops / seconds / (peak or ceilings.fp32),
            "GB/s": moved / seconds / 1e9,
            "of the rate of a copy": moved / seconds / ceilings.copy,
        }
        benchmark.extra_info.update(
            {name: value for name, value in achieved.items() if value},
            calls=calls,
            device=name_of(device),
            **{"peak memory, MiB": peak_memory(run, device) / 2**20},
        )
        return seconds

    return measure
