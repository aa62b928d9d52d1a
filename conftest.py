"""Devices, the data root, the thread count and the Hypothesis profile that all tests run under."""

import gc
import os
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import settings

# Most objects here are modules that stay: to search them for garbage at every turn took a tenth of the time.
gc.set_threshold(100_000, 50, 1000)

# On a shared machine a slow example says nothing. Fifteen decide: few controls need more than five to fail, and none
# more than twelve. Which they are follows from --base-seed alone: also under CI, where Hypothesis by itself draws the
# same every time, and after a failure, whose examples it would keep. --hypothesis-profile thorough searches on.
for name, examples in {"fitcore": 15, "thorough": 300}.items():
    settings.register_profile(name, deadline=None, max_examples=examples, derandomize=False, database=None)
settings.load_profile("fitcore")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Skip what needs a GPU, with the reason, where there is none; run last what is timed beside JAX."""
    # JAX starts threads, after which a fork, as of a loader's workers, may wait for ever.
    items.sort(key=lambda item: "throughput" in item.path.parts)
    on_gpu = [item for item in items if item.get_closest_marker("gpu")]
    if on_gpu:
        import torch  # noqa: PLC0415

        if not torch.cuda.is_available():
            for item in on_gpu:
                item.add_marker(pytest.mark.skip(reason="needs a CUDA device, and torch finds none"))


def pytest_configure() -> None:
    """Refuse a thread count that is none before anything runs."""
    threads = os.environ.get("TORCH_NUM_THREADS", "1")
    if not threads.isdecimal() or int(threads) < 1:
        raise pytest.UsageError(f"TORCH_NUM_THREADS must be an integer >= 1, got {threads!r}")


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config: pytest.Config, log: object) -> object:
    """Keep a folder of claims, which share what they have trained, in one worker: what ``-n 2`` does by itself."""
    if config.option.dist != "load":
        return None
    from xdist.scheduler import LoadScopeScheduling  # noqa: PLC0415

    class FolderScheduling(LoadScopeScheduling):
        def _split_scope(self, nodeid: str) -> str:
            file = nodeid.partition("::")[0]
            return file.rpartition("/")[0] if file.startswith("claims/") else file

    return FolderScheduling(config, log)


@pytest.fixture(scope="session", autouse=True)
def _threads() -> None:
    """Use one thread, unless told otherwise: on tensors this small, more threads cost more than they give."""
    import torch  # noqa: PLC0415

    # OMP_NUM_THREADS torch has obeyed by itself, whatever its form ("2", "2,1").
    if "TORCH_NUM_THREADS" in os.environ or "OMP_NUM_THREADS" not in os.environ:
        torch.set_num_threads(int(os.environ.get("TORCH_NUM_THREADS", "1")))


@pytest.fixture(scope="session", autouse=True)
def _workers() -> Iterator[None]:
    """Let ensembles and `Shared.each` use the cores that this process has to itself, a thread or a process a core."""
    import joblib  # noqa: PLC0415

    processes = int(os.environ.get("PYTEST_XDIST_WORKER_COUNT", "1"))
    with joblib.parallel_config(backend="threading", n_jobs=max(1, joblib.cpu_count() // processes)):
        yield


@pytest.fixture(scope="session")
def data_root(pytestconfig: pytest.Config) -> Path | None:
    """Folder of the full data sets (``--data-root`` or ``FITCORE_DATA``), ``None`` for the embedded ones."""
    root = pytestconfig.option.data_root or os.environ.get("FITCORE_DATA")
    return Path(root) if root else None
