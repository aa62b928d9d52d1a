"""The audit of base seeds."""

import os
import re
import subprocess
import sys

import pytest

from fitcore.testing.audit import audit
from fitcore.testing.statistics import fresh_seed_failure
from fitcore.tests.project import HEAD, IMPORTS, Project, entry
from fitcore.tests.reports import case, claim, decision, pending, report


def test_a_claim_that_fails_under_some_seeds_is_listed_with_them():
    runs = [
        report(claim("a"), claim("b", outcome="violated"), pending("c"), base_seed=1),
        report(claim("a"), claim("b"), pending("c"), base_seed=2),
        report(claim("a"), claim("b", outcome="error"), pending("c"), base_seed=3),
    ]
    found = audit(runs)
    assert (found.runs, found.claims, found.failures) == (3, 2, {"notes/b": [1, 3]})


def deciding(**shares):
    records = [
        decision(name=name, rule="less", estimate=share, trials=40, threshold=0.5, fresh_seed_failure=0.5)
        for name, share in shares.items()
    ]
    return claim("a", tests=[case(evidence=[*records, decision()])])


def test_a_decision_is_judged_by_its_trials_under_all_base_seeds():
    found = audit([report(deciding(one=0.75, other=1.0)), report(deciding(one=1.0, other=1.0))])
    assert found.risks == {
        ("test_a.py::test_a", "one"): fresh_seed_failure(hits=70, seen=80, trials=40, at_least=0.5),
        ("test_a.py::test_a", "other"): fresh_seed_failure(hits=80, seen=80, trials=40, at_least=0.5),
    }


@pytest.mark.parametrize(("runs", "bound"), [(1, 0.95), (50, 0.0581)])
def test_the_bound_is_the_rate_that_would_have_shown_itself_with_the_confidence(runs, bound):
    assert audit([report(claim())] * runs).bound == pytest.approx(bound, rel=1e-2)


def run(project: Project, *arguments: str) -> subprocess.CompletedProcess:
    command = [sys.executable, "-m", "fitcore.testing.audit", *arguments]
    environment = {key: value for key, value in os.environ.items() if not key.startswith("PYTEST")}
    return subprocess.run(command, cwd=project.path, env=environment, capture_output=True, text=True, check=False)


def test_a_lucky_verdict_is_found_out(project: Project):
    project.catalogue(HEAD + entry("lucky") + entry("sure"))
    project.claims("""
@claim("doc/lucky", controls=[override("never", wanted=2)])
def test_lucky(request, wanted=0):
    assert request.config.option.base_seed % 2 == wanted

@claim("doc/sure", controls=[override("never", sure=False)])
def test_sure(trials, sure=True):
    trials.less(trials.map(lambda seed: 0.0), float(sure))
""")
    done = run(project, "--seeds", "3", "--jobs", "2", "test_claims.py")
    assert done.returncode == 1, done.stderr
    assert "doc/lucky: failed under 2 of 3 base seeds: 1, 3\n1 of 2 statements came out the same" in done.stdout
    assert "decisions on trials: 1, of which 0 fail with probability above 1e-06\n" in done.stdout


def test_an_assertion_that_comes_close_to_failing_is_shown(project: Project):
    project.catalogue(HEAD + entry("close") + entry("far"))
    project.claims("""
import random
from hypothesis import given, strategies as st

@claim("doc/close", controls=[override("never", above=10)])
def test_close(above=-3):
    assert random.gauss() > above

@claim("doc/far", controls=[override("close by", above=1)])
def test_far(above=-100):
    assert 9 < 10
    assert random.gauss() > above

@claim("doc/far", controls=[override("never", above=1)])
@given(x=st.floats(0, 1), above=st.just(-1e-9))
def test_property(x, above):
    assert x > above
""")
    done = run(project, "--seeds", "5", "test_claims.py")
    assert done.returncode == 0, done.stderr
    lines = done.stdout.splitlines()
    told = "plain assertions about numbers that vary: 2, of which 1 are less than 4.8 standard deviations from failing"
    assert lines[-2] == told
    assert re.fullmatch(r"  \d\.\d: test_claims.py::test_close, line \d+: random.gauss\(\) > above", lines[-1])


def test_a_run_that_leaves_no_report_is_told(project: Project):
    project.catalogue("nonsense")
    project.pytester.makepyfile(test_claims=IMPORTS)
    done = run(project, "--seeds", "1")
    assert done.returncode == 2
    assert "can't read the report" in done.stderr
    assert "bad TOML" in done.stderr
