"""The one place that touches global random state."""

import random
from collections.abc import Iterator
from contextlib import contextmanager

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
    python_state, numpy_state = random.getstate(), np.random.get_state()  # noqa: NPY002
    devices = range(torch.cuda.device_count()) if torch.cuda.is_initialized() else []
    with torch.random.fork_rng(devices):
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
            random.setstate(python_state)
            np.random.set_state(numpy_state)  # noqa: NPY002
