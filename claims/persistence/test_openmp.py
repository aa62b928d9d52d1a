"""Section 7.4: the variable that is to let two copies of an OpenMP runtime live in one process."""

import importlib.metadata
import os
import shutil
import signal
import subprocess
import sys

import pytest

from fitcore.testing import CONDITIONAL, claim, override

PROGRAM = """
import ctypes, os, sys
permit, first, second = sys.argv[1:]
allow = lambda moment: os.environ.update(KMP_DUPLICATE_LIB_OK="True") if moment == permit else None
allow("before both")
ctypes.CDLL(first).omp_get_max_threads()
allow("between")
ctypes.CDLL(second).omp_get_max_threads()
allow("after both")
"""


@pytest.fixture(scope="module")
def runtimes(tmp_path_factory):
    """Two copies of Intel's OpenMP runtime, which torch's wheels have on Windows, and not on Linux."""
    try:
        files = importlib.metadata.files("intel-openmp") or []
    except importlib.metadata.PackageNotFoundError:
        pytest.skip("needs a copy of Intel's OpenMP runtime, from the package intel-openmp")
    library = next((file.locate() for file in files if file.name in ("libiomp5.so", "libiomp5.dylib")), None)
    if library is None:
        pytest.skip("the package intel-openmp has no runtime for this platform")
    folder = tmp_path_factory.mktemp("openmp")
    return [shutil.copy(library, folder / name) for name in ("first.so", "second.so")]


def run(permit, runtimes):
    """Start both runtimes in a process of their own, and set the variable at that moment."""
    # scikit-learn, once imported, has set it for this process and all that it starts.
    environment = {name: value for name, value in os.environ.items() if not name.startswith("KMP_")}
    command = [sys.executable, "-c", PROGRAM, permit, *map(str, runtimes)]
    return subprocess.run(command, capture_output=True, text=True, check=False, env=environment)


@claim(
    "pytorch-notes/kmp-duplicate-lib-ok",
    verdict=CONDITIONAL,
    finding="The second copy of Intel's runtime aborts the process as it starts (OMP: Error #15), unless the variable "
    "is set by then: before everything, or between the two. After `import torch` it comes too late if that brings the "
    "second copy. torch's wheels for Linux bring GNU's runtime instead, and have no use for it. "
    "Importing scikit-learn sets it as well.",
    controls=[override("set after both", in_time="after both"), override("always in time", too_late="before both")],
)
def test_the_variable_helps_if_it_is_set_before_the_second_runtime_starts(
    runtimes, in_time="between", too_late="after both"
):
    assert run("before both", runtimes).returncode == run(in_time, runtimes).returncode == 0
    for moment in ("never", too_late):
        aborted = run(moment, runtimes)
        assert aborted.returncode == -signal.SIGABRT
        assert "OMP: Error #15" in aborted.stderr
