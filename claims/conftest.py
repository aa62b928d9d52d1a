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


@pytest.fixture(scope="session")
def recorded(tmp_path_factory):
    """``recorded(write)``: what ``write(writer)``, with a writer to a new folder, leaves in its event files."""
    from torch.utils.tensorboard import SummaryWriter  # noqa: PLC0415

    from fitcore.evaluation.event_files import EventFiles  # noqa: PLC0415

    def record(write):
        folder = tmp_path_factory.mktemp("run")
        with SummaryWriter(folder) as writer:
            write(writer)
        return EventFiles(folder)

    return record
