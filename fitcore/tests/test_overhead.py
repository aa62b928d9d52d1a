"""What the machinery costs: claims with controls against as many plain tests, in the same run."""

import json

import pytest

from fitcore.tests.project import HEAD, IMPORTS, Project, entry

CLAIMS = 1_000

# Notes the time of the processor when the collection begins and ends, and when the last test has ended.
CONFTEST = """
import json, time
import fitcore.testing.shared
times = []
def note(): times.append(time.process_time())
def pytest_collection(): note()
def pytest_collection_finish(): note()
def pytest_sessionfinish():
    note()
    with open("times.json", "w") as file: json.dump(times, file)
"""


def seconds(project: Project) -> tuple[float, float]:
    """Collect and run in a process of its own; return the seconds of the processor that each of the two took."""
    project.run_apart("--claim-report", "none", "-q", "test_measured.py").assert_outcomes(passed=2 * CLAIMS)
    begun, collected, run = json.loads((project.path / "times.json").read_text())
    return collected - begun, run - collected


@pytest.fixture
def crowded(project: Project) -> Project:
    """A project with as many statements as claims."""
    project.catalogue(HEAD + "".join(entry(f"s{i}") for i in range(CLAIMS)))
    project.pytester.makeconftest(CONFTEST)
    return project


def write(project: Project, source: str, count: int) -> None:
    tests = "".join(source.format(i=i) for i in range(count))
    (project.path / "test_measured.py").write_text(IMPORTS + tests, encoding="utf-8")


def fastest(project: Project, source: str, count: int) -> tuple[float, float]:
    write(project, source, count)
    runs = [seconds(project) for _ in range(2)]
    return min(run[0] for run in runs), min(run[1] for run in runs)


def test_a_thousand_claims_with_controls_cost_less_than_twice_as_much_as_two_thousand_tests(crowded: Project):
    claim = '@claim("doc/s{i}", controls=[override("off", x=0)])\ndef test_{i}(x=1): assert x\n'
    claims = fastest(crowded, claim, CLAIMS)
    plain = fastest(crowded, "def test_{i}(x=1): assert x\n", 2 * CLAIMS)
    print(f"seconds to collect and to run {2 * CLAIMS} items: {claims}, and without the machinery {plain}")
    assert all(with_ < 2 * without for with_, without in zip(claims, plain, strict=True))
