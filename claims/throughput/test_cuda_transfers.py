"""Copies from the host's memory to a GPU."""

from functools import partial
from statistics import median
from time import perf_counter

import pytest
import torch

from fitcore.evaluation.ceilings import seconds_a_call, wait_for
from fitcore.testing import claim, override

pytestmark = pytest.mark.gpu

pageable = override("pageable memory", pin=torch.clone)


def bytes_a_second(source, device):
    return source.nbytes / seconds_a_call(partial(torch.empty_like(source, device=device).copy_, source), device)


@claim("fitcore/gpu-pinned-memory-is-copied-faster", controls=[pageable])
def test_large_copies_are_faster_from_pinned_memory(
    headline, device, evidence, pin=torch.Tensor.pin_memory, sizes=tuple(4**power for power in range(5, 14))
):
    rates = {"pageable": [], "pinned": []}
    for source in map(torch.rand, sizes):
        rates["pageable"].append(bytes_a_second(source, device))
        rates["pinned"].append(bytes_a_second(pin(source), device))
    last = pin(torch.rand(sizes[-1]))
    copy = partial(torch.empty_like(last, device=device).copy_, last, non_blocking=True)
    headline(copy, moved=last.nbytes)
    in_gigabytes = {memory: [rate / 1e9 for rate in of_memory] for memory, of_memory in rates.items()}
    evidence.curve("GB/s to the GPU by the size of a copy", [4 * n / 2**20 for n in sizes], in_gigabytes, "MiB")
    assert rates["pinned"][-1] > 1.3 * rates["pageable"][-1]


def share_until_return(copy, device, rounds=9):
    """When a call returns, as a share of the time until the copy is done: the median of several."""
    shares = []
    for _ in range(rounds):
        wait_for(device)
        start = perf_counter()
        copy()
        returned = perf_counter()
        wait_for(device)
        shares.append((returned - start) / (perf_counter() - start))
    return median(shares)


@claim(
    "fitcore/gpu-non-blocking-copies-return-at-once",
    controls=[pageable, override("a copy that blocks", non_blocking=False)],
)
def test_a_non_blocking_copy_from_pinned_memory_returns_at_once(
    *, headline, device, evidence, pin=torch.Tensor.pin_memory, non_blocking=True, n=2**26
):
    source, destination = torch.rand(n), torch.empty(n, device=device)
    pinned = pin(source)
    copies = {
        "pinned, non_blocking": partial(destination.copy_, pinned, non_blocking=non_blocking),
        "pinned": partial(destination.copy_, pinned),
        "pageable, non_blocking": partial(destination.copy_, source, non_blocking=True),
        "pageable": partial(destination.copy_, source),
    }
    headline(copies["pinned, non_blocking"], moved=source.nbytes)
    shares = {name: share_until_return(copy, device) for name, copy in copies.items()}
    evidence.compare("share of a copy's time after which the call returns", shares)
    assert shares["pinned, non_blocking"] < 0.2
    assert min(shares["pinned"], shares["pageable"]) > 0.5
