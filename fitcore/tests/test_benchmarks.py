"""Claims that benchmark: pytest-benchmark's fixture, options and figures beside controls and evidence."""

import csv
import json
from pathlib import Path

import pytest
from pytest_benchmark.cli import main

from fitcore.tests.project import Project

BENCHMARKING = """
@claim("doc/a", controls=[override("nothing to do", n=0)])
def test_a(benchmark, evidence, n=3):
    results = []
    benchmark.pedantic(lambda: results.append(sum(range(n))), rounds=4, warmup_rounds=1)
    benchmark.extra_info["numbers"] = n
    evidence.observe("calls", len(results))
    assert results[0] == 3

@claim("doc/b", controls=[override("false", truth=False)])
def test_b(truth=True):
    assert truth
"""


@pytest.fixture(autouse=True)
def _benchmarks_count(monkeypatch: pytest.MonkeyPatch) -> None:
    """The runs in this process are of their own, whether or not it is a worker, in which benchmarks are off."""
    monkeypatch.delenv("PYTEST_XDIST_WORKER", raising=False)


def saved(file: Path) -> list[dict]:
    return json.loads(file.read_text(encoding="utf-8"))["benchmarks"]


def test_what_a_control_took_is_neither_shown_nor_saved(project: Project) -> None:
    project.claims(BENCHMARKING)
    project.run("--benchmark-json=benchmarks.json").assert_outcomes(passed=4)
    (benchmark,) = saved(project.path / "benchmarks.json")
    assert (benchmark["name"], benchmark["params"], benchmark["extra_info"]) == ("test_a", None, {"numbers": 3})
    assert benchmark["stats"]["rounds"] == 4
    assert project.values("a") == [5]
    assert project.says("benchmark: 1 tests")


def test_parameters_are_saved_and_shown(project: Project) -> None:
    project.claims(
        """
@claim("doc/a", controls=[override("false", truth=False)])
@pytest.mark.parametrize("n", [1, 2])
def test_a(benchmark, n, truth=True):
    benchmark(lambda: n)
    assert truth
"""
    )
    project.run("--benchmark-json=benchmarks.json", "--benchmark-group-by=param:n").assert_outcomes(passed=4)
    benchmarks = saved(project.path / "benchmarks.json")
    assert [(each["name"], each["params"]) for each in benchmarks] == [("test_a[1]", {"n": 1}), ("test_a[2]", {"n": 2})]
    assert project.says("benchmark 'n=1': 1 tests")


def test_saved_runs_are_compared_by_the_command_and_keep_what_was_achieved(
    project: Project, monkeypatch: pytest.MonkeyPatch
) -> None:
    project.claims(BENCHMARKING)
    for name in ("before", "after"):
        project.run("--benchmark-only", "--benchmark-storage=recorded/cpu", f"--benchmark-save={name}")
    compare = "--storage=recorded/cpu compare --group-by=name --columns=min --sort=name --csv=trend.csv"
    monkeypatch.setattr("sys.argv", ["pytest-benchmark", *compare.split()])
    main()
    with (project.path / "trend.csv").open(encoding="utf-8") as trend:
        assert [(row["name"], float(row["min"]) > 0) for row in csv.DictReader(trend)] == [
            ("test_claims.py::test_a", True)
        ] * 2
    files = sorted(project.path.glob("recorded/cpu/*/*.json"))
    assert [(file.stem, saved(file)[0]["extra_info"]) for file in files] == [
        ("0001_before", {"numbers": 3}),
        ("0002_after", {"numbers": 3}),
    ]


def test_benchmark_only_skips_the_other_claims(project: Project) -> None:
    project.claims(BENCHMARKING)
    project.run("--benchmark-only").assert_outcomes(passed=2, skipped=2)
    assert (project.record("a")["outcome"], project.record("b")["outcome"]) == ("confirmed", "skipped")


def test_without_benchmarking_each_runs_once(project: Project) -> None:
    project.claims(BENCHMARKING)
    project.run("--benchmark-disable").assert_outcomes(passed=4)
    assert project.values("a") == [1]
