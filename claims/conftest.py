"""What claims of several topics use."""

from collections.abc import Generator, Iterator
from types import ModuleType

import pytest
import torch


@pytest.hookimpl(wrapper=True)
def pytest_pyfunc_call(pyfuncitem: pytest.Function) -> Generator[None, object, object]:
    """Skip what this GPU has too little memory for. A failure's traceback would keep the memory from all others."""
    try:
        return (yield)
    except torch.OutOfMemoryError as error:
        reason = str(error).partition(".")[0]
    return pytest.skip(f"needs more GPU memory: {reason}")


@pytest.fixture(autouse=True)
def _free_memory() -> Iterator[None]:
    """Give the GPU's memory back after each claim. Where CUDA isn't in use there is nothing to do."""
    yield
    torch.cuda.empty_cache()


@pytest.fixture
def pyplot() -> Iterator[ModuleType]:
    """``matplotlib.pyplot`` without a window, its figures closed after the test."""
    from matplotlib import pyplot  # noqa: PLC0415

    pyplot.switch_backend("agg")
    yield pyplot
    pyplot.close("all")


@pytest.fixture(scope="session")
def torchinfo() -> ModuleType:
    """The package that counts beside us. Not imported by modules: what else they claim needs no more than torch."""
    return pytest.importorskip("torchinfo")


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
