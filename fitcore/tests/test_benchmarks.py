"""Claims that benchmark: pytest-benchmark's fixture, options and figures beside controls and evidence."""

import json

import pytest

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


def test_a_claim_and_its_control_are_each_benchmarked_once(project: Project) -> None:
    project.claims(BENCHMARKING)
    project.run("--benchmark-json=benchmarks.json").assert_outcomes(passed=4)
    benchmarks = json.loads((project.path / "benchmarks.json").read_text(encoding="utf-8"))["benchmarks"]
    assert [(each["name"], each["extra_info"]) for each in benchmarks] == [
        ("test_a", {"numbers": 3}),
        ("test_a[control: nothing to do]", {"numbers": 0}),
    ]
    assert [each["stats"]["rounds"] for each in benchmarks] == [4, 4]
    assert project.values("a") == [5]


def test_benchmark_only_skips_the_other_claims(project: Project) -> None:
    project.claims(BENCHMARKING)
    project.run("--benchmark-only").assert_outcomes(passed=2, skipped=2)
    assert (project.record("a")["outcome"], project.record("b")["outcome"]) == ("confirmed", "skipped")


def test_without_benchmarking_each_runs_once(project: Project) -> None:
    project.claims(BENCHMARKING)
    project.run("--benchmark-disable").assert_outcomes(passed=4)
    assert project.values("a") == [1]
