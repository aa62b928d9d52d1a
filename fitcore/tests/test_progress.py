"""Tests of ``fitcore.testing.progress``: one line on a terminal, rewritten after every test; elsewhere, dots."""

import os
import re
import subprocess
import sys

import pytest

from fitcore.tests.project import Project

pty = pytest.importorskip("pty", reason="this system has no pseudo-terminals")

CLAIMS = """
@claim("doc/a", controls=[override("off", x=0)])
@pytest.mark.parametrize("y", range(12))
def test_a_claim_with_a_name_that_is_longer_than_any_terminal_is_wide_at_this_time(y, x=1):
    assert x and y != 3
"""


def on_a_terminal(project: Project, *args: str, columns: int = 60) -> str:
    """Run pytest on a pseudo-terminal of so many columns; return all that it wrote."""
    outer, inner = pty.openpty()
    environment = {**os.environ, "COLUMNS": str(columns), "TERM": "xterm"}
    command = [sys.executable, "-m", "pytest", *args]
    with (
        subprocess.Popen(command, cwd=project.path, env=environment, stdin=inner, stdout=inner, stderr=inner),
        open(outer, "rb", buffering=0) as terminal,
    ):
        os.close(inner)
        written = b"".join(iter(lambda: _read(terminal), b""))
    return re.sub(r"\x1b\[[0-9;]*[A-Za-z]", "", written.decode("utf-8"))


def _read(terminal) -> bytes:
    try:
        return terminal.read(4096)
    except OSError:  # what Linux says at the end of a pseudo-terminal
        return b""


def test_a_terminal_shows_one_line_that_is_rewritten_and_leaves_the_counts_right(project: Project):
    project.claims(CLAIMS)
    written = on_a_terminal(project, "--claim-report", "none")
    states = re.findall(r"(\d+)/24 tests, (\d+) failed", written)
    assert [int(done) for done, _ in states[2::3]] == list(range(1, 25))
    assert states[-1] == ("24", "1")
    live = [line for line in written.split("\n") if "/24 tests" in line]
    assert len(live) == 1
    assert max(map(len, live[0].split("\r"))) < 60
    assert re.search(r"1 failed, 23 passed in", written)


@pytest.mark.parametrize("arguments", [(), ("-q",), ("-v",), ("-s",)])
def test_where_nobody_watches_pytest_writes_as_ever(arguments, project: Project):
    project.claims(CLAIMS)
    result = project.run(*arguments)
    result.assert_outcomes(passed=23, failed=1)
    result.stdout.no_fnmatch_line("*/24 tests*")
