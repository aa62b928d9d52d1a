"""What operations that mostly move memory reach on a GPU."""

from functools import partial

import pytest
import torch

from fitcore.evaluation.ceilings import peak_memory, seconds_a_call, synchronised, while_memory_lasts
from fitcore.evaluation.throughput import least_seconds
from fitcore.testing import claim, override

pytestmark = pytest.mark.gpu

GIBIBYTE = 2**28
"""Of float32 numbers."""


def contiguous(n, device):
    return torch.rand(n, device=device)


def copies(source, destination):
    """The same copy by the driver and by a kernel of torch's, which may use the memory better."""
    return partial(destination.copy_, source), partial(torch.mul, source, 1.0, out=destination)


def every_sixteenth(n, device):
    """Where each number costs the memory a transaction of its own."""
    return torch.rand(16 * n, device=device)[::16]


@claim(
    "fitcore/gpu-copies-reach-the-bandwidth",
    controls=[override("every sixteenth number", source=every_sixteenth)],
)
def test_a_copy_reaches_85_percent_of_the_published_bandwidth(
    *, headline, published, device, evidence, source=contiguous, n=4 * GIBIBYTE
):
    numbers = source(n, device)
    destination = torch.empty(n, device=device)
    by_driver, by_kernel = copies(numbers, destination)
    moved = 2 * destination.nbytes
    rate = moved / min(headline(by_driver, moved=moved), seconds_a_call(by_kernel, device))
    evidence.figure(
        "bytes read and written by a copy, GB/s: published and measured",
        reported=published.bandwidth / 1e9,
        measured=rate / 1e9,
        tolerance=0.15 * published.bandwidth / 1e9,
    )
    assert rate >= 0.85 * published.bandwidth


OPERATIONS = {
    "x + y": (3, torch.add),
    "exp(x)": (2, lambda x, y, out: torch.exp(x, out=out)),
    "tanh(x)": (2, lambda x, y, out: torch.tanh(x, out=out)),
    "sum(x)": (1, lambda x, y, out: x.sum()),
    "max(x)": (1, lambda x, y, out: x.amax()),
}
"""How often each goes through memory of the size of x."""


def bytes_a_second(n, operation, passes, device):
    x, y, out = (torch.rand(n, device=device) for _ in range(3))
    return passes * x.nbytes / seconds_a_call(lambda: operation(x, y, out=out), device)


@claim(
    "fitcore/gpu-elementwise-operations-run-at-memory-speed",
    controls=[override("a thousand numbers at most", sizes=(100, 1000))],
)
def test_elementwise_operations_and_reductions_run_at_memory_speed(
    headline, ceilings, device, evidence, sizes=tuple(4**power for power in range(5, 15))
):
    rates = {
        name: while_memory_lasts(partial(bytes_a_second, operation=run, passes=passes, device=device), sizes)
        for name, (passes, run) in OPERATIONS.items()
    }
    largest = min(max(of_size) for of_size in rates.values())
    x = torch.rand(largest, device=device)
    headline(partial(torch.exp, x, out=torch.empty_like(x)), moved=2 * x.nbytes)
    common = [size for size in sizes if size <= largest]
    measured = {name: [of_size[size] / 1e9 for size in common] for name, of_size in rates.items()}
    roof = {"a copy of 4 GiB": [ceilings.copy / 1e9] * len(common)}
    evidence.curve("GB/s by how many numbers", common, measured, "numbers", roofs=roof)
    assert min(of_size[largest] for of_size in rates.values()) > 0.5 * ceilings.copy


def expanded(row, rows):
    return row.expand(rows, -1)


def repeated(row, rows):
    return row.repeat(rows, 1)


@claim(
    "fitcore/gpu-expand-saves-the-traffic-of-repeat",
    controls=[override("the expanded row copied", view=lambda row, rows: expanded(row, rows).contiguous())],
)
def test_adding_an_expanded_row_takes_less_time_and_memory_than_a_repeated_one(
    *, headline, device, evidence, view=expanded, rows=2**15, columns=2**13
):
    x, row = torch.rand(rows, columns, device=device), torch.rand(columns, device=device)
    out = torch.empty_like(x)
    adds = {
        name: lambda enlarge=enlarge: torch.add(x, enlarge(row, rows), out=out)
        for name, enlarge in {"expand": view, "repeat": repeated}.items()
    }
    headline(adds["expand"], moved=2 * x.nbytes)
    seconds = least_seconds({name: synchronised(add, device, 5) for name, add in adds.items()})
    memory = {name: peak_memory(add, device) for name, add in adds.items()}
    rows_of = [{"row": name, "ms": 200 * seconds[name], "MiB more": memory[name] / 2**20} for name in adds]
    evidence.table("a row added to a matrix of 1 GiB", rows_of)
    assert memory["expand"] == 0
    assert memory["repeat"] >= x.nbytes
    assert seconds["repeat"] > 1.25 * seconds["expand"]
