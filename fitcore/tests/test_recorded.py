"""Recordings of other machines, shown where a run has to skip."""

import json

import pytest

from fitcore.testing.report.recorded import with_recordings
from fitcore.tests.project import Project
from fitcore.tests.reports import case, claim, control, report

CLAIMS = """
import os

@pytest.mark.skipif("WITH_GPU" not in os.environ, reason="needs a GPU")
@claim("doc/a", controls=[override("off", x=0)])
def test_a(evidence, x=1):
    evidence.observe("speed", x)
    assert x

@claim("doc/b", controls=[override("off", x=0)])
def test_b(x=1):
    assert x
"""
SKIPPED = case(nodeid="gpu.py::test_speed", outcome="skipped", reason="no CUDA device", evidence=[])
RAN = case(nodeid="gpu.py::test_speed", duration_s=3.0)
HERE = report(claim(outcome="skipped", tests=[SKIPPED], controls=[control(None)]))


@pytest.fixture
def recorded(project: Project, monkeypatch: pytest.MonkeyPatch):
    """A project, and a recording of it on a machine with a GPU."""
    project.pytester.makeini("[pytest]\nclaim_catalogue = catalogue\nclaim_recorded = reports/recorded\n")
    project.claims(CLAIMS)
    with monkeypatch.context() as on_gpu:
        on_gpu.setenv("WITH_GPU", "1")
        project.run("--claim-report=reports/recorded/h200").assert_outcomes(passed=4)
    file = project.path / "reports" / "recorded" / "h200" / "claims.json"
    recording = json.loads(file.read_text(encoding="utf-8"))
    recording["environment"] |= {"device": "NVIDIA H200", "torch": "2.11", "started": "2026-11-02T08:00:00+00:00"}
    file.write_text(json.dumps(recording), encoding="utf-8")
    return file


def test_what_a_run_skips_is_shown_as_it_was_recorded(project, recorded):
    project.run().assert_outcomes(passed=2, skipped=2)
    (test,) = project.record("a")["tests"]
    assert (project.record("a")["outcome"], project.values("a")) == ("confirmed", [1])
    assert test["measured_on"].startswith("NVIDIA H200, Python ")
    assert project.record("a")["controls"][0]["detected"]
    assert project.record("b")["tests"][0]["measured_on"] is None
    assert project.says("1 skipped test shown as recorded: NVIDIA H200, torch 2.11, 2 November 2026, 08:00 UTC")


def test_a_run_that_is_recorded_takes_nothing_from_other_recordings(project, recorded):
    project.run("--claim-report=reports/recorded/laptop").assert_outcomes(passed=2, skipped=2)
    assert project.report("reports/recorded/laptop")["merged"] == []


def test_a_run_that_skips_nothing_takes_nothing(project, recorded, monkeypatch):
    monkeypatch.setenv("WITH_GPU", "1")
    project.run().assert_outcomes(passed=4)
    assert project.report()["merged"] == []
    assert not project.says("recorded")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("{", "no JSON"),
        ('{"schema": 1}', "no report of claims"),
        ('{"schema": 2, "claims": [{}]}', "no sound report"),
        (json.dumps({**report(), "merged": None}), "no sound report"),
        (json.dumps(report(claim(tests=[case(evidence=[{"type": "curve", "name": "x"}])]))), "no sound report"),
    ],
)
def test_a_damaged_recording_is_told_and_left_out(project, recorded, text, message):
    recorded.write_text(text, encoding="utf-8")
    assert project.run().ret == 0
    assert project.record("a")["outcome"] == "skipped"
    assert project.says(f"recording left out: {recorded}: {message}")


def written(folder, name, **changes):
    """A recording of ``HERE`` on a GPU."""
    there = report(claim(**{"tests": [RAN], "controls": [control(True)], **changes}), device=name)
    (folder / name).mkdir()
    (folder / name / "claims.json").write_text(json.dumps(there), encoding="utf-8")


@pytest.mark.parametrize(
    "changes",
    [
        {"verdict": "refuted"},
        {"tests": [RAN | {"nodeid": "gpu.py::test_of_old"}]},
        {"tests": [RAN | {"outcome": "skipped"}]},
        {"id": "notes/of-old"},
    ],
    ids=["another verdict", "a test that is gone", "skipped there too", "a statement that is gone"],
)
def test_what_does_not_stand_in_for_a_skipped_test_is_not_taken(tmp_path, changes):
    written(tmp_path, "h200", **changes)
    assert with_recordings(HERE, [tmp_path]) == (HERE, [])


def test_finding_and_controls_are_those_of_the_run(tmp_path):
    written(tmp_path, "h200", finding="Worded otherwise.", controls=[control(True), control(True, name="of old")])
    shown, _ = with_recordings(HERE, [tmp_path])
    (found,) = shown["claims"]
    assert (found["finding"], [each["name"] for each in found["controls"]]) == (None, ["no clearing"])
    assert found["controls"][0]["detected"]


def test_the_first_of_several_machines_counts(tmp_path):
    written(tmp_path, "b", tests=[RAN | {"duration_s": 9.0}])
    written(tmp_path, "a")
    shown, lines = with_recordings(HERE, [tmp_path, tmp_path / "missing"])
    assert shown["claims"][0]["tests"][0]["duration_s"] == 3.0
    assert len(lines) == len(shown["merged"]) == 1


def test_a_recorded_failure_is_shown_as_one(tmp_path):
    written(tmp_path, "h200", tests=[RAN | {"outcome": "failed", "reason": "too slow"}], outcome="violated")
    shown, _ = with_recordings(HERE, [tmp_path])
    assert shown["claims"][0]["outcome"] == "violated"
