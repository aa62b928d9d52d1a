"""Expensive results, computed once a session and read by several claims."""

import inspect
import re
from collections.abc import Callable, Hashable, Iterator
from contextlib import contextmanager
from typing import Any, TypeVar

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

    def seeds(self, count: int) -> NDArray[np.int64]:
        """Seeds of as many trials for all claims in common, which depend on the base seed alone."""
        return trial_seeds(self._base_seed, "shared", count)

    @contextmanager
    def apart(self) -> Iterator[None]:
        """Use an empty memo within a block, and forget it after."""
        results, self._results = self._results, {}
        try:
            yield
        finally:
            self._results = results

    def __call__(self, function: Callable[..., Result], *args: Hashable, **kwargs: Hashable) -> Result:
        """Return ``function(*args, **kwargs)``.

        Raises:
            ClaimError: if an argument isn't hashable.

        """
        what = getattr(function, "__qualname__", repr(function))
        args, kwargs = _normalized(function, args, kwargs)
        # 1, 1.0 and True are equal, and yet different arguments.
        key = (function, args, tuple(kwargs.items()), tuple(map(type, (*args, *kwargs.values()))))
        try:
            known = key in self._results
        except TypeError as error:
            raise ClaimError(f"shared({what}, ...) needs hashable arguments: {error}") from None
        if not known:
            # The seed may not depend on where in memory an argument (a function, say) lies.
            name = _ADDRESS.sub("", f"{function.__module__}.{what}{args}{kwargs}")
            with seeded(int(trial_seeds(self._base_seed, name, 1)[0])), torch.enable_grad():
                self._results[key] = function(*args, **kwargs)
        return self._results[key]


def _normalized(function: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any]) -> tuple[Any, Any]:
    """The same call however it is spelt: positional where it can be, with defaults, in the signature's order."""
    try:
        bound = inspect.signature(function).bind(*args, **kwargs)
    except ValueError:  # a builtin that tells no signature
        return args, dict(sorted(kwargs.items()))
    bound.apply_defaults()
    return bound.args, dict(sorted(bound.kwargs.items()))
