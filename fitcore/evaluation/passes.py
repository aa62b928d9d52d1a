"""Forward passes with a graph, without one, and with the backward pass after: what ``no_grad`` saves of time."""

from collections.abc import Callable
from functools import partial
from time import thread_time

import torch
from torch import Tensor, nn

from fitcore.evaluation.throughput import time_ratio

Passes = Callable[[nn.Module, Tensor, int], None]
"""Calls a module with an input, so many times."""


def tracked_passes(model: nn.Module, x: Tensor, calls: int) -> None:
    """Forward passes that record a graph, if anything requires a gradient."""
    for _ in range(calls):
        model(x)


def untracked_passes(model: nn.Module, x: Tensor, calls: int) -> None:
    """Forward passes under ``no_grad``."""
    with torch.no_grad():
        tracked_passes(model, x, calls)


def passes_and_backward(model: nn.Module, x: Tensor, calls: int) -> None:
    """Forward passes, each with the backward pass of the sum of its outputs."""
    for _ in range(calls):
        model(x).sum().backward()


def share_of_time(ours: Passes, theirs: Passes, model: nn.Module, x: Tensor, *, calls: int, rounds: int) -> float:
    """CPU time of ``calls`` passes of one kind over that of as many of another: the median of so many rounds.

    Raises:
        ValueError: rounds is below 1.
    """
    return time_ratio(partial(ours, model, x, calls), partial(theirs, model, x, calls), rounds, clock=thread_time)
