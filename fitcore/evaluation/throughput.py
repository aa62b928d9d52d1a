"""Speed: contenders timed side by side, and what they achieve held against what the machine can do."""

from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager, nullcontext
from statistics import median
from time import perf_counter, thread_time

import torch
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode


def least_seconds(
    contenders: Mapping[str, Callable[[], object]], rounds: int = 5, clock: Callable[[], float] = perf_counter
) -> dict[str, float]:
    """Least time of a call of each contender, of ``rounds`` in which they take turns, after one to warm up.

    What else the machine does only ever adds to a time, and to all that take turns alike: so the least is the best
    estimate, and ratios of them are fair.

    Args:
        contenders: what is to be timed, by name.
        rounds: number of turns.
        clock: what tells seconds. ``time.thread_time`` leaves out what other processes do, and what other threads of
            this one do as well: so torch is kept to one meanwhile.

    Raises:
        ValueError: rounds is below 1.
    """
    if rounds < 1:
        raise ValueError(f"rounds must be at least 1, got {rounds}")
    with _threads_timed_by(clock):
        timings = [{name: _seconds(run, clock) for name, run in contenders.items()} for _ in range(rounds + 1)]
    return {name: min(timing[name] for timing in timings[1:]) for name in contenders}


def time_ratio(
    ours: Callable[[], object], theirs: Callable[[], object], rounds: int, clock: Callable[[], float] = perf_counter
) -> float:
    """How many times as long a call of ours takes as the call of theirs right after it: the median of ``rounds``.

    For calls of about the same duration, which a ratio of the least times of each would have to hit at a quiet moment.

    Raises:
        ValueError: rounds is below 1.
    """
    if rounds < 1:
        raise ValueError(f"rounds must be at least 1, got {rounds}")
    with _threads_timed_by(clock):
        ratios = [_seconds(ours, clock) / _seconds(theirs, clock) for _ in range(rounds + 1)]
    return median(ratios[1:])


def training_flops(module: nn.Module, inputs: Tensor) -> int:
    """Floating-point operations of the matrix products and convolutions in one forward and backward pass.

    As ``torch.utils.flop_counter`` counts them: a multiplication and an addition are two.
    """
    with FlopCounterMode(display=False) as counter:
        module(inputs).sum().backward()
    return counter.get_total_flops()


@contextmanager
def intra_op_threads(count: int) -> Iterator[None]:
    """Let torch use ``count`` threads within an operation, for one block.

    See https://docs.pytorch.org/docs/stable/notes/cpu_threading_torchscript_inference.html
    """
    before = torch.get_num_threads()
    torch.set_num_threads(count)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def _threads_timed_by(clock: Callable[[], float]) -> AbstractContextManager[None]:
    """One thread under a clock that sees no other, but for the time that this one spends waiting for them."""
    return intra_op_threads(1) if clock is thread_time else nullcontext()


def _seconds(run: Callable[[], object], clock: Callable[[], float]) -> float:
    start = clock()
    run()
    return clock() - start
