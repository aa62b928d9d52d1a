"""What claims of several topics use."""

from collections.abc import Iterator
from types import ModuleType

import pytest


@pytest.fixture
def pyplot() -> Iterator[ModuleType]:
    """``matplotlib.pyplot`` without a window, its figures closed after the test."""
    from matplotlib import pyplot  # noqa: PLC0415

    pyplot.switch_backend("agg")
    yield pyplot
    pyplot.close("all")
