"""Claims under pytest-xdist: several processes, one report."""

import pytest

from fitcore.tests.project import Project

pytest.importorskip("xdist", reason="pytest-xdist is not installed; it comes with the extra `test`")

CLAIMS = """
import enum, random
import numpy as np
from hypothesis import given, strategies as st

@claim("doc/a", controls=[override("off", x=0)], trials=20)
@pytest.mark.parametrize("y", [1.0, 2.0, 3.0])
def test_a(y, trials, evidence, shared, x=1):
    drawn = trials.map(lambda seed: random.random() + y + shared(abs, -y))
    evidence.observe("drawn", drawn)
    evidence.curve("curve", range(20), {1: drawn})
    evidence.table("table", [{"text": np.str_("text"), "enum": enum.IntEnum("E", ["X"]).X, "mask": np.bool_(x)}])
    trials.always(drawn * x > 0)

@claim("doc/b", verdict=REFUTED, finding="It is not.", controls=[override("off", x=-1)])
@given(x=st.integers(0, 9))
def test_b(x, evidence):
    evidence.observe("x", x)
    assert x >= 0

@claim("doc/c", controls=[override("crash", x=0)])
def test_c(x=1): assert 1 / x == 2
"""


def timeless(project: Project) -> tuple[dict, list[dict]]:
    """The latest report without what the clock measured, and how it was started."""
    report = project.report()
    lasting = ("base_seed", "trials_scale", "controls", "partial", "interrupted", "device", "torch")
    for record in [test for claim in report["claims"] for test in claim["tests"]] + report["claims"]:
        del record["duration_s"]
    return {key: report["environment"][key] for key in lasting}, report["claims"]


def test_two_workers_report_what_one_process_does(project: Project):
    project.claims(CLAIMS)
    project.run("--base-seed", "3").assert_outcomes(passed=8, failed=2)
    alone = timeless(project)
    project.run("--base-seed", "3", "-n", "2").assert_outcomes(passed=8, failed=2)
    assert timeless(project) == alone


def test_a_worker_that_dies_leaves_the_report_of_the_rest(project: Project):
    project.claims("""
import os
@claim("doc/a", controls=[override("off", x=0)])
def test_a(x=1): assert x

@claim("doc/b", controls=[override("off", x=0)])
def test_b(x=1): os._exit(3)
""")
    project.run("-n", "1").assert_outcomes(passed=2, failed=2)
    assert project.record("a")["outcome"] == "confirmed"
    assert project.record("b")["outcome"] == "error"
    assert "crashed while running 'test_claims.py::test_b'" in project.record("b")["tests"][0]["reason"]
    assert "crashed while running" in project.record("b")["controls"][0]["reason"]
