"""The one place that touches global random state."""

import random
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
import torch

_SPARE: list[np.random.BitGenerator] = []


@contextmanager
def seeded(seed: int) -> Iterator[None]:
    """Run a block with ``random``, NumPy and torch seeded with ``seed``, and restore their states after it.

    Args:
        seed: an integer in [0, 2**32), the range that all three generators accept.

    Raises:
        ValueError: if ``seed`` is outside that range.

    """
    if not 0 <= seed < 2**32:
        raise ValueError(f"seed must be in [0, 2**32), got {seed}")
    before, numpy_before = _states_but_numpy(), np.random.get_bit_generator()  # type: ignore[attr-defined]
    # Another generator is put in NumPy's place, since it takes longer than all the rest to copy 624 words and back.
    numpy_within = _SPARE.pop() if _SPARE else np.random.MT19937()
    np.random.set_bit_generator(numpy_within)  # type: ignore[attr-defined]
    np.random.seed(seed)  # noqa: NPY002
    random.seed(seed)
    if torch.accelerator.is_available():
        torch.manual_seed(seed)
    else:
        # Without an accelerator, manual_seed formats the call stack for each kind of one: a millisecond a call.
        torch.default_generator.manual_seed(seed)
    try:
        yield
    finally:
        np.random.set_bit_generator(numpy_before)  # type: ignore[attr-defined]
        _SPARE.append(numpy_within)
        _set_states_but_numpy(before)


def random_state() -> dict[str, Any]:
    """Return the states of ``random``, NumPy and torch (CUDA devices included, once in use).

    They consist of numbers and tensors alone, so that ``torch.load(weights_only=True)`` reads them from a checkpoint.
    """
    numpy_state: tuple[Any, ...] = np.random.get_state(legacy=True)  # type: ignore[assignment] # noqa: NPY002
    name, keys, *rest = numpy_state
    return {"numpy": (name, torch.from_numpy(keys.astype(np.int64)), *rest)} | _states_but_numpy()


def set_random_state(state: dict[str, Any]) -> None:
    """Go back to what `random_state` returned."""
    name, keys, *rest = state["numpy"]
    np.random.set_state((name, keys.numpy().astype(np.uint32), *rest))  # noqa: NPY002
    _set_states_but_numpy(state)


def _states_but_numpy() -> dict[str, Any]:
    return {
        "python": random.getstate(),
        "torch": torch.get_rng_state(),
        "cuda": torch.cuda.get_rng_state_all() if torch.cuda.is_initialized() else [],
    }


def _set_states_but_numpy(state: dict[str, Any]) -> None:
    random.setstate(state["python"])
    torch.set_rng_state(state["torch"])
    for device, of_device in enumerate(state["cuda"]):
        torch.cuda.set_rng_state(of_device, device)
