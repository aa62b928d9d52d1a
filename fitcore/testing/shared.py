"""Expensive results, computed once a session and read by several claims."""

import inspect
import re
import signal
from collections.abc import Callable, Hashable, Iterable, Iterator, Sequence
from concurrent.futures import BrokenExecutor, ProcessPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from multiprocessing import get_context
from typing import Any, TypeVar

import joblib
import numpy as np
import torch
from numpy.typing import NDArray

from fitcore.seeding import seeded
from fitcore.testing.errors import ClaimError
from fitcore.testing.trials import trial_seeds

Result = TypeVar("Result")

_ADDRESS = re.compile(r" at 0x[0-9a-f]+")


class Shared:
    """Memo of calls, keyed by the function and its arguments: what pytest hands out as the fixture ``shared``.

    A result is handed to every claim that asks for it: treat it as read-only. It is computed under a seed of its own
    and with gradients on, so that it doesn't depend on which claim asks first. While a control patches something,
    results are kept apart: what was computed without the patch would hide it, what is computed under it would leak into
    other claims.
    """

    def __init__(self, base_seed: int) -> None:
        self._base_seed = base_seed
        self._results: dict[Hashable, Any] = {}
        self._is_apart = False
        self._pool: ProcessPoolExecutor | None = None

    def seeds(self, count: int) -> NDArray[np.int64]:
        """Seeds of as many trials for all claims in common, which depend on the base seed alone."""
        return trial_seeds(self._base_seed, "shared", count)

    @contextmanager
    def apart(self) -> Iterator[None]:
        """Use an empty memo within a block, and forget it after."""
        results, self._results, self._is_apart = self._results, {}, True
        try:
            yield
        finally:
            self._results, self._is_apart = results, False

    def __call__(self, function: Callable[..., Result], *args: Hashable, **kwargs: Hashable) -> Result:
        """Return ``function(*args, **kwargs)``.

        Raises:
            ClaimError: if an argument isn't hashable.

        """
        return self._computed([self._call(function, args, kwargs)])[0]

    def each(
        self, function: Callable[..., Result], firsts: Iterable[Hashable], *args: Hashable, **kwargs: Hashable
    ) -> list[Result]:
        """Return ``[shared(function, first, *args, **kwargs) for first in firsts]``, such as a copy for each seed.

        Where ``joblib.parallel_config`` allows several workers, those not known are computed by as many processes,
        which import ``function`` by its name.
        """
        return self._computed([self._call(function, (first, *args), kwargs) for first in firsts])

    def close(self) -> None:
        """End the processes."""
        if self._pool is not None:
            self._pool.shutdown(cancel_futures=True)

    def _computed(self, calls: Sequence["_Call"]) -> list[Any]:
        new = {call.key: call for call in calls if call.key not in self._results}
        # Another process wouldn't see what a control patches.
        workers = 1 if self._is_apart or len(new) < 2 else joblib.effective_n_jobs(None)
        if workers == 1:
            results: Iterable[Any] = map(_Call.result, new.values())
        else:
            self._pool = self._pool or ProcessPoolExecutor(workers, get_context("spawn"), initializer=_use_one_thread)
            results = self._pool.map(_Call.result, new.values())
        try:
            self._results |= zip(new, results, strict=True)
        except BrokenExecutor:  # a process was killed: the next claim gets others
            self._pool = None
            raise
        return [self._results[call.key] for call in calls]

    def _call(self, function: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any]) -> "_Call":
        call = _Call(function, *_normalized(function, args, kwargs), self._base_seed)
        try:
            hash(call.key)
        except TypeError as error:
            raise ClaimError(f"shared({call.what}, ...) needs hashable arguments: {error}") from None
        return call


@dataclass(frozen=True)
class _Call:
    function: Callable[..., Any]
    args: tuple[Any, ...]
    kwargs: dict[str, Any]
    base_seed: int

    @property
    def what(self) -> str:
        return getattr(self.function, "__qualname__", repr(self.function))

    @property
    def key(self) -> Hashable:
        """What tells it from others: 1, 1.0 and True are equal, and yet different arguments."""
        types = tuple(map(type, (*self.args, *self.kwargs.values())))
        return self.function, self.args, tuple(self.kwargs.items()), types

    def result(self) -> Any:
        """Compute it under a seed that doesn't depend on where in memory an argument (a function, say) lies."""
        name = _ADDRESS.sub("", f"{self.function.__module__}.{self.what}{self.args}{self.kwargs}")
        with seeded(int(trial_seeds(self.base_seed, name, 1)[0])), torch.enable_grad():
            return self.function(*self.args, **self.kwargs)


def _use_one_thread() -> None:
    """Leave interrupts to the process that asked, and cores to the others."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    torch.set_num_threads(1)


def _normalized(function: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any]) -> tuple[Any, Any]:
    """The same call however it is spelt: positional where it can be, with defaults, in the signature's order."""
    try:
        bound = inspect.signature(function).bind(*args, **kwargs)
    except ValueError:  # a builtin that tells no signature
        return args, dict(sorted(kwargs.items()))
    bound.apply_defaults()
    return bound.args, dict(sorted(bound.kwargs.items()))
