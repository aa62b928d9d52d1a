"""The one place that touches global random state."""

import random
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
import torch


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
    before = random_state()
    random.seed(seed)
    np.random.seed(seed)  # noqa: NPY002
    if torch.accelerator.is_available():
        torch.manual_seed(seed)
    else:
        # Without an accelerator, manual_seed formats the call stack for each kind of one: a millisecond a call.
        torch.default_generator.manual_seed(seed)
    try:
        yield
    finally:
        set_random_state(before)


def random_state() -> dict[str, Any]:
    """Return the states of ``random``, NumPy and torch (CUDA devices included, once in use).

    They consist of numbers and tensors alone, so that ``torch.load(weights_only=True)`` reads them from a checkpoint.
    """
    numpy_state: tuple[Any, ...] = np.random.get_state(legacy=True)  # type: ignore[assignment] # noqa: NPY002
    name, keys, *rest = numpy_state
    return {
        "python": random.getstate(),
        "numpy": (name, torch.from_numpy(keys.astype(np.int64)), *rest),
        "torch": torch.get_rng_state(),
        "cuda": torch.cuda.get_rng_state_all() if torch.cuda.is_initialized() else [],
    }


def set_random_state(state: dict[str, Any]) -> None:
    """Go back to what `random_state` returned."""
    random.setstate(state["python"])
    name, keys, *rest = state["numpy"]
    np.random.set_state((name, keys.numpy().astype(np.uint32), *rest))  # noqa: NPY002
    torch.set_rng_state(state["torch"])
    for device, of_device in enumerate(state["cuda"]):
        torch.cuda.set_rng_state(of_device, device)
