"""Claims that a GPU has too little memory for, and what becomes of those after them."""

from pathlib import Path

import pytest

from fitcore.tests.project import Project

CONFTEST = Path(__file__).parents[2] / "claims" / "conftest.py"
CLAIMS = """
import weakref
import torch

HELD = []

def allocate(n):
    tensor = torch.ones(n)
    HELD.append(weakref.ref(tensor))
    if n > 1:
        raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB.")

@claim("doc/a", controls=[override("more", n=3)])
def test_a(n=2):
    allocate(n)

@claim("doc/b", controls=[override("more than there is", n=2), override("nothing", n=0)])
def test_b(n=1):
    assert [tensor() for tensor in HELD] == [None] * len(HELD), "memory is still held"
    allocate(n)
    assert n
"""


@pytest.fixture
def emptied(project: Project, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """What a project of the conftest of these claims leaves: an entry for each time that the cache was emptied."""
    project.pytester.makeconftest(CONFTEST.read_text(encoding="utf-8"))
    project.claims(CLAIMS)
    times: list[str] = []
    monkeypatch.setattr("torch.cuda.empty_cache", lambda: times.append("emptied"))
    project.run().assert_outcomes(passed=2, skipped=3)
    return times


def test_what_needs_more_memory_is_skipped_and_leaves_none_behind(project: Project, emptied: list[str]) -> None:
    (test,) = project.record("a")["tests"]
    assert (test["outcome"], test["reason"]) == ("skipped", "needs more GPU memory: CUDA out of memory")
    assert project.record("b")["outcome"] == "confirmed"
    assert emptied == ["emptied"] * 5


def test_a_control_that_needs_more_memory_is_not_detected(project: Project, emptied: list[str]) -> None:
    detected = {control["name"]: control["detected"] for control in project.record("b")["controls"]}
    assert detected == {"more than there is": None, "nothing": True}
