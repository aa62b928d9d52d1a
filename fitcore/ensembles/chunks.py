"""An ensemble in chunks: small enough for the cache, and spread over the workers that joblib is told to use."""

from collections.abc import Callable, Iterable
from itertools import pairwise
from math import ceil
from typing import Any, TypeVar

import joblib
import torch
from torch import Tensor

from fitcore.ensembles.ensemble import Ensemble

Result = TypeVar("Result")

WORKING_SET = 8_000_000
"""Bytes that a chunk may need in a step: about what a core's share of the caches holds."""

WORTH_DIVIDING = 2_500_000
"""Bytes of a step from which on there are at least two chunks, for two workers. Below, calls cost more than work."""


def chunks(ensemble: Ensemble, inputs: Tensor, batch: int, size: int | None = None) -> list[slice]:
    """Slices of at most ``size`` copies; by default of so many as fit `WORKING_SET`, and on a GPU of all.

    They depend on shapes alone, not on the machine, so that what a chunk draws at random doesn't either.
    """
    copies = len(ensemble)
    if size is not None and size < 1:
        raise ValueError(f"chunk_size must be at least 1, got {size}")
    if size is None and not ensemble.flat.is_cuda:
        of_one = _bytes_of_a_step(ensemble, inputs, batch)
        pairs = ceil(copies * of_one / WORKING_SET / 2)  # an even number of chunks keeps two workers busy
        size = ceil(copies / (2 * pairs)) if copies * of_one > WORTH_DIVIDING else copies
    count = ceil(copies / (size or copies))
    bounds = [copies * index // count for index in range(count + 1)]
    return [slice(low, high) for low, high in pairwise(bounds)]


def spread(function: Callable[..., Result], calls: Iterable[tuple[Any, ...]]) -> list[Result]:
    """``[function(*arguments) for arguments in calls]`` on joblib's workers, each with one thread if there are several.

    On cores that workers share, torch's own threads wait for each other longer than they work. What to use is up to
    ``joblib.parallel_config``; by default it is the calling thread alone.
    """
    workers = joblib.effective_n_jobs(None)  # without an argument it would be all cores, told to use them or not
    if workers == 1:
        return [function(*arguments) for arguments in calls]
    threads = torch.get_num_threads()
    try:
        return joblib.Parallel()(joblib.delayed(_on_one_thread)(function, arguments) for arguments in calls)
    finally:
        torch.set_num_threads(threads)  # MKL has one number for the whole process


def _on_one_thread(function: Callable[..., Result], arguments: tuple[Any, ...]) -> Result:
    torch.set_num_threads(1)
    return function(*arguments)


def _bytes_of_a_step(ensemble: Ensemble, inputs: Tensor, batch: int) -> int:
    """Bytes of one copy's parameters and activations."""
    module = ensemble.module(0).eval()
    sizes = []
    leaves = [leaf for leaf in module.modules() if not any(leaf.children())]
    for leaf in leaves:
        leaf.register_forward_hook(lambda _, __, output: sizes.append(_numel(output)))
    with torch.no_grad():
        module(inputs[0, :1])
    numbers = len(ensemble.flat) // len(ensemble) + batch * (inputs[0, :1].numel() + sum(sizes))
    return numbers * ensemble.flat.element_size()


def _numel(output: Any) -> int:
    return output.numel() if isinstance(output, Tensor) else sum(map(_numel, output or ()))
