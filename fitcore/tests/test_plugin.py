"""Tests of ``fitcore.testing.plugin``: its options, and that pytest behaves as its users expect."""

import re
import shlex

import pytest

from fitcore.tests.project import Project

MEASURING = """
import random, torch
@claim("doc/a", controls=[override("off", x=0)], trials=20)
def test_a(trials, evidence, x=1):
    evidence.observe("drawn", trials.map(lambda seed: torch.rand(()) + random.random()))
    evidence.observe("body", random.random())
    assert x

@claim("doc/b", controls=[override("off", x=0)])
def test_b(x=1):
    assert x
"""


@pytest.fixture
def measuring(project: Project) -> Project:
    """The claims doc/a, which measures in 20 trials, and doc/b; each has a control."""
    project.claims(MEASURING)
    return project


def drawn(project: Project, *args: str) -> list[dict]:
    project.run(*args)
    return project.evidence("a")


USAGE = {
    "--trials 0": "argument --trials: must be a number > 0, got '0'",
    "--trials -1": "argument --trials: must be a number > 0, got '-1'",
    "--trials abc": "argument --trials: must be a number > 0, got 'abc'",
    "--trials inf": "argument --trials: must be a number > 0, got 'inf'",
    "--base-seed abc": "argument --base-seed: must be an integer >= 0, got 'abc'",
    "--base-seed -1": "argument --base-seed: must be an integer >= 0, got '-1'",
    "--base-seed 1.5": "argument --base-seed: must be an integer >= 0, got '1.5'",
    "--controls none": "argument --controls: invalid choice: 'none'",
    "--claim-report test_claims.py/report": "test_claims.py/report: Not a directory",
    "--claim-report test_claims.py": "test_claims.py: File exists",
}


@pytest.mark.parametrize(("arguments", "message"), USAGE.items())
def test_an_option_out_of_range_is_a_usage_error_in_one_line(arguments, message, measuring: Project):
    option, value = arguments.split()
    assert measuring.run(f"{option}={value}").ret == pytest.ExitCode.USAGE_ERROR
    assert measuring.says(message)


def test_the_report_goes_to_its_default_place(measuring: Project):
    measuring.run()
    assert measuring.says(f"report: {measuring.path / 'reports/latest/index.html'}")
    assert {path.name for path in (measuring.path / "reports/latest").iterdir()} == {
        "claims.json",
        "index.html",
        "summary.md",
    }


def test_the_report_goes_where_asked(measuring: Project):
    measuring.run("--claim-report", "there/new")
    assert len(measuring.report("there/new")["claims"]) == 3
    assert not (measuring.path / "reports").exists()


@pytest.mark.parametrize("arguments", [("--claim-report", "none"), ("--co",), ("--help",), ("--markers",)])
def test_no_report_is_written_where_none_is_asked_for_or_nothing_runs(arguments, measuring: Project):
    assert measuring.run(*arguments).ret == pytest.ExitCode.OK
    assert not (measuring.path / "reports").exists()
    assert not (measuring.path / "none").exists()


def test_a_project_without_a_catalogue_is_left_alone(pytester: pytest.Pytester):
    pytester.makepyfile("def test_it(): pass")
    result = pytester.runpytest_inprocess()
    result.assert_outcomes(passed=1)
    result.stdout.no_fnmatch_line("*claims*")
    assert not (pytester.path / "reports").exists()


def test_equal_base_seeds_reproduce_every_value_exactly(measuring: Project):
    assert drawn(measuring, "--base-seed", "5") == drawn(measuring, "--base-seed", "5")


def test_a_claim_draws_the_same_whatever_runs_with_it(measuring: Project):
    everything = drawn(measuring)
    assert drawn(measuring, "-k", "test_a and not control") == everything
    (measuring.path / "test_claims.py").rename(measuring.path / "test_moved.py")
    assert drawn(measuring) == everything


def test_another_base_seed_moves_every_trial(measuring: Project):
    first, second = drawn(measuring), drawn(measuring, "--base-seed", "1")
    assert not set(first[0]["values"] + first[1]["values"]) & set(second[0]["values"] + second[1]["values"])
    assert measuring.report()["environment"]["base_seed"] == 1


@pytest.mark.parametrize(("scale", "count"), [("0.5", 10), ("2", 40)])
def test_trials_scales_their_number(scale, count, measuring: Project):
    assert drawn(measuring, "--trials", scale)[0]["count"] == count
    assert measuring.record("a")["trials"] == count
    assert measuring.record("b")["trials"] is None
    assert measuring.report()["environment"]["trials_scale"] == float(scale)


RERUNS = {
    (): "--base-seed 0",
    ("--base-seed", "7"): "--base-seed 7",
    ("--trials", "2"): "--base-seed 0 --trials 2",
    ("--data-root", "my data"): "--base-seed 0 '--data-root=my data'",
}


@pytest.mark.parametrize(("arguments", "expected"), RERUNS.items())
def test_rerun_repeats_what_the_verdict_was_found_under(arguments, expected, measuring: Project):
    measuring.run(*arguments)
    assert measuring.record("a")["rerun"] == f"pytest test_claims.py::test_a {expected}"
    assert measuring.report()["environment"]["command"].startswith(shlex.join(["pytest", *arguments]))


@pytest.mark.parametrize(
    ("controls", "passed", "outcome", "detected"),
    [("run", 4, "confirmed", True), ("skip", 2, "confirmed", None), ("only", 2, "not-run", True)],
)
def test_controls_run_or_not_as_asked(controls, passed, outcome, detected, measuring: Project):
    measuring.run("--controls", controls).assert_outcomes(passed=passed, deselected=4 - passed)
    record = measuring.record("a")
    assert (record["outcome"], record["controls"][0]["detected"]) == (outcome, detected)
    assert measuring.report()["environment"]["controls"] == controls


def test_k_selects_claims_controls_and_cases(measuring: Project):
    measuring.run("-k", "control").assert_outcomes(passed=2, deselected=2)
    measuring.run("-k", "test_a").assert_outcomes(passed=2, deselected=2)
    assert measuring.record("b")["outcome"] == "not-run"


def test_the_node_id_of_a_control_runs_it_alone(measuring: Project):
    measuring.run()
    control = measuring.record("a")["controls"][0]
    measuring.run(*control["tests"]).assert_outcomes(passed=1)
    assert measuring.record("a")["controls"] == [control]
    assert measuring.record("a")["outcome"] == "not-run"


FAILING = MEASURING.replace("assert x\n\n", "assert not x\n\n")


def test_x_stops_at_the_first_failure_and_reports_the_rest_as_not_run(project: Project):
    project.claims(FAILING)
    project.run("-x").assert_outcomes(failed=1)
    assert [project.record(name)["outcome"] for name in "abc"] == ["violated", "not-run", "not-run"]


def test_lf_reruns_the_claim_that_failed(project: Project):
    project.claims(FAILING)
    project.run().assert_outcomes(failed=2, passed=2)
    project.run("--lf").assert_outcomes(failed=2)
    assert project.report()["environment"]["partial"]


def test_collecting_lists_claims_with_their_controls(measuring: Project):
    measuring.run("--co", "-q").stdout.fnmatch_lines(
        ["test_claims.py::test_a", "test_claims.py::test_a[[]control: off[]]", "test_claims.py::test_b"]
    )


def test_junit_xml_holds_every_item_and_no_evidence(measuring: Project):
    measuring.run("--junitxml", "junit.xml")
    xml = (measuring.path / "junit.xml").read_text(encoding="utf-8")
    assert re.findall(r'testcase [^>]*name="([^"]*)"', xml) == [
        "test_a",
        "test_a[control: off]",
        "test_b",
        "test_b[control: off]",
    ]
    assert "drawn" not in xml
    assert len(xml) < 2_000


def test_tests_that_are_no_claims_run_as_ever(project: Project):
    project.claims("""
@pytest.mark.parametrize("x", [1, 2])
def test_plain(x, tmp_path): assert tmp_path.exists()
def test_failing(): assert False
""")
    project.run().assert_outcomes(passed=2, failed=1)
    assert not (project.path / "reports/latest/claims.json").exists()


def test_what_a_fixture_measures_belongs_to_its_claim(project: Project):
    project.claims("""
import random
@pytest.fixture
def measured(trials, evidence):
    evidence.observe("seeds", trials.seeds % 1000)
    return random.random()

@claim("doc/a", controls=no_control("it asserts nothing"), trials=20)
def test_a(measured, evidence, trials):
    assert (trials.seeds % 1000 == evidence.records[0]["values"]).all()
    evidence.observe("measured", measured)

@claim("doc/b", controls=no_control("it asserts nothing"), trials=30)
def test_b(measured, evidence): evidence.observe("measured", measured)
""")
    first = drawn(project)
    assert drawn(project) == first
    assert [record["count"] for record in first] == [20, 1]
    assert project.evidence("b")[0]["count"] == 30
    assert project.evidence("b")[1]["values"] != first[1]["values"]


def test_a_claim_leaves_the_global_generators_as_they_were(project: Project):
    project.claims("""
import random
state = random.getstate()
@claim("doc/a", controls=[override("off", x=0)])
def test_a(x=1):
    random.seed(x)
    assert x
def test_after(): assert random.getstate() == state
""")
    project.run().assert_outcomes(passed=3)


def test_the_plugin_registers_once_however_often_it_is_named(measuring: Project):
    measuring.pytester.makeconftest('pytest_plugins = ["fitcore.testing.plugin"]')
    measuring.run("-p", "fitcore.testing.plugin").assert_outcomes(passed=4)
    assert measuring.record("a")["outcome"] == "confirmed"


def test_the_plugin_loads_without_its_entry_point(measuring: Project, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("PYTEST_DISABLE_PLUGIN_AUTOLOAD", "1")
    measuring.pytester.makeconftest('pytest_plugins = ["fitcore.testing.plugin"]')
    measuring.run().assert_outcomes(passed=4)
    assert measuring.record("a")["outcome"] == "confirmed"
