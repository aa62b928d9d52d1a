"""Tests of ``fitcore.testing.results`` and ``assembly``: verdict x outcome in ``claims.json``, and the exit status."""

import re

import pytest

from fitcore.tests.project import HEAD, Project, entry

VERDICTS = """
@claim("doc/a", controls=[override("off", x=0)])
def test_a(x=1): assert x

@claim("doc/b", verdict=CONDITIONAL, finding="Only for x.", controls=[override("off", x=0)])
def test_b(x=1): assert x

@claim("doc/c", verdict=REFUTED, finding="It is not.", controls=no_control("constants"))
def test_c(): pass
"""

# How a claim ends -> its outcome, that of its plain test, the reason it gives, and the claim.
PLAIN = 'controls=no_control("constants")'
OUTCOMES = {
    "passes": ("confirmed", "passed", None, f'@claim("doc/a", {PLAIN})\ndef test_a(): pass'),
    "fails": ("violated", "failed", "too high", f'@claim("doc/a", {PLAIN})\ndef test_a(): assert False, "too high"'),
    "raises nothing": (
        "violated",
        "failed",
        "DID NOT RAISE",
        f'@claim("doc/a", {PLAIN})\ndef test_a():\n    with pytest.raises(ValueError): int("1")',
    ),
    "crashes": ("error", "error", "KeyError: 'x'", f'@claim("doc/a", {PLAIN})\ndef test_a(): {{}}["x"]'),
    "is failed": ("error", "error", "no way", f'@claim("doc/a", {PLAIN})\ndef test_a(): pytest.fail("no way")'),
    "is ill-formed": (
        "error",
        "error",
        "test_claims.py:3: claim test_a: needs one boolean a trial, got float64 of shape (0,)",
        f'@claim("doc/a", {PLAIN})\ndef test_a(trials): trials.always([])',
    ),
    "crashes in a fixture": (
        "error",
        "error",
        "assert False",
        f'@pytest.fixture\ndef x(): assert False\n@claim("doc/a", {PLAIN})\ndef test_a(x): pass',
    ),
    "crashes in the teardown of a fixture": (
        "error",
        "error",
        "assert False",
        f'@pytest.fixture\ndef x():\n    yield\n    assert False\n@claim("doc/a", {PLAIN})\ndef test_a(x): pass',
    ),
    "is skipped": ("skipped", "skipped", "no GPU", f'@claim("doc/a", {PLAIN})\ndef test_a(): pytest.skip("no GPU")'),
    "is marked to be skipped": (
        "skipped",
        "skipped",
        "no GPU",
        f'@pytest.mark.skip(reason="no GPU")\n@claim("doc/a", {PLAIN})\ndef test_a(): pass',
    ),
    "is vacuous": (
        "error",
        "passed",
        None,
        '@claim("doc/a", controls=[override("off", x=0)])\ndef test_a(x=1): pass',
    ),
    "crashes under its control": (
        "error",
        "passed",
        None,
        '@claim("doc/a", controls=[override("off", x=0)])\ndef test_a(x=1): 1 / x',
    ),
    "is skipped under its control": (
        "confirmed",
        "passed",
        None,
        '@claim("doc/a", controls=[override("off", x=0)])\ndef test_a(x=1): x or pytest.skip("off")',
    ),
}


@pytest.mark.parametrize(("outcome", "test", "reason", "source"), OUTCOMES.values(), ids=OUTCOMES)
def test_the_outcome_of_a_claim_that(outcome, test, reason, source, project: Project):
    project.claims(source)
    assert project.run().ret == {"confirmed": 0, "skipped": 0}.get(outcome, 1)
    record = project.record("a")
    assert (record["outcome"], record["tests"][0]["outcome"]) == (outcome, test)
    assert str(record["tests"][0]["reason"]).startswith(str(reason))
    told = re.findall("^(VIOLATED|ERROR|VACUOUS) doc/a: ", project.result.stdout.str(), re.MULTILINE)
    assert len(told) == (outcome in ("violated", "error"))


def test_a_record_says_all_of_a_statement_and_its_claim(project: Project):
    keys = {"section": "2.1", "kind": "trend", "origin": "implied", "setup": "No bias."}
    project.catalogue(HEAD + entry("b", **keys))
    project.claims("""
@claim("doc/b", verdict=CONDITIONAL, finding="Only for x.", controls=[override("off", x=0)], trials=20)
def test_b(trials, evidence, x=1):
    evidence.observe("x", x)
    trials.always(trials.seeds * x > 0)
""")
    project.run()
    record = project.record("b")
    durations = [record.pop("duration_s"), record["tests"][0].pop("duration_s")]
    assert durations[0] == durations[1] > 0
    assert [kept["type"] for kept in record["tests"][0].pop("evidence")] == ["observation", "decision"]
    nodeid = "test_claims.py::test_b"
    assert record == {
        "id": "doc/b",
        "document": "doc",
        **keys,
        "statement": "It is so.",
        "highlight": False,
        "verdict": "conditional",
        "outcome": "confirmed",
        "finding": "Only for x.",
        "trials": 20,
        "untestable": None,
        "tests": [{"nodeid": nodeid, "outcome": "passed", "reason": None, "measured_on": None}],
        "controls": [{"name": "off", "detected": True, "tests": [f"{nodeid}[control: off]"], "reason": None}],
        "no_control": None,
        "rerun": f"pytest {nodeid} --base-seed 0",
    }


def test_verdicts_are_those_of_the_claims_and_of_the_catalogue(project: Project):
    names = "".join(map(entry, "abcd"))
    project.catalogue(HEAD + names + entry("e", untestable="It speaks of taste."))
    project.claims(VERDICTS)
    assert project.run().ret == pytest.ExitCode.OK
    assert [(claim["verdict"], claim["outcome"], claim["finding"]) for claim in project.report()["claims"]] == [
        ("holds", "confirmed", None),
        ("conditional", "confirmed", "Only for x."),
        ("refuted", "confirmed", "It is not."),
        ("pending", "not-run", None),
        ("untestable", "not-run", None),
    ]
    assert project.record("e")["untestable"] == "It speaks of taste."
    assert project.record("c")["no_control"] == "constants"
    assert [project.record(name)["rerun"] for name in "de"] == [None, None]


def test_the_terminal_sums_up_verdicts_outcomes_and_controls(project: Project):
    project.claims(VERDICTS.replace("x=1): assert x\n\n@claim", "x=1): assert not x\n\n@claim", 1))
    project.run()
    tables = re.sub(" +", " ", project.result.stdout.str())
    assert "document holds conditional refuted confirmed violated\ndoc 1 1 1 2 1\n" in tables
    assert "1 of 2 controls detected, 1 statement without a control\n" in tables


def test_one_failing_case_is_enough_for_a_violation(project: Project):
    project.claims("""
@claim("doc/a", controls=no_control("constants"))
@pytest.mark.parametrize("x", [1, 0, 2])
def test_a(x): assert x
""")
    project.run().assert_outcomes(passed=2, failed=1)
    assert project.record("a")["outcome"] == "violated"
    assert [test["outcome"] for test in project.record("a")["tests"]] == ["passed", "failed", "passed"]


def test_a_claim_is_confirmed_only_if_all_its_cases_ran(project: Project):
    project.claims("""
@claim("doc/a", controls=no_control("constants"))
@pytest.mark.parametrize("x", [1, 2])
def test_a(x): assert x
""")
    project.run("-k", "test_a and 1").assert_outcomes(passed=1, deselected=1)
    assert project.record("a")["outcome"] == "not-run"


def test_several_claims_on_one_statement_are_read_together(project: Project):
    project.claims("""
@claim("doc/a", finding="One.", controls=[override("off", x=0)])
def test_one(x=1): assert x

@claim("doc/a", "doc/b", finding="Two.", controls=[override("off", x=0), override("low", x=-1)])
def test_two(x=1): assert x > 0
""")
    project.run()
    record = project.record("a")
    assert record["finding"] == "One. Two."
    assert [(control["name"], len(control["tests"])) for control in record["controls"]] == [("off", 2), ("low", 1)]
    assert record["rerun"] == "pytest test_claims.py::test_one test_claims.py::test_two --base-seed 0"
    assert project.record("b")["finding"] == "Two."


COMPLETE = HEAD + "complete = true\n" + entry("a") + entry("b") + entry("c", untestable="It speaks of taste.")
ONE_OF_TWO = '@claim("doc/a", controls=[override("off", x=0)])\ndef test_a(x=1): assert x\n'


@pytest.fixture
def complete(project: Project) -> Project:
    """A document that calls itself complete, with a claim for one of its two testable statements."""
    project.catalogue(COMPLETE)
    project.claims(ONE_OF_TWO)
    return project


@pytest.mark.parametrize("arguments", [(), (".",), ("-k", "test_a"), ("--controls", "skip")])
def test_a_complete_document_with_a_pending_statement_fails_the_run(arguments, complete: Project):
    assert complete.run(*arguments).ret == pytest.ExitCode.TESTS_FAILED
    assert complete.says("doc/b has no claim, although its document says complete = true")
    assert complete.says(f"{complete.path / 'catalogue/doc.toml'}:14: ")


@pytest.mark.parametrize("arguments", [("test_claims.py",), ("test_claims.py::test_a",), ("--ignore", "elsewhere")])
def test_a_part_of_the_claims_says_nothing_of_pending_statements(arguments, complete: Project):
    assert complete.run(*arguments).ret == pytest.ExitCode.OK
    assert complete.report()["environment"]["partial"]


def test_a_module_that_cannot_be_imported_leaves_the_report_partial(complete: Project):
    complete.pytester.makepyfile(test_broken="import nowhere")
    assert complete.run("--continue-on-collection-errors").ret == pytest.ExitCode.TESTS_FAILED
    assert complete.report()["environment"]["partial"]
    complete.result.stdout.no_fnmatch_line("*has no claim*")


def test_a_complete_document_with_all_its_claims_passes(complete: Project):
    complete.claims(ONE_OF_TWO + ONE_OF_TWO.replace("doc/a", "doc/b").replace("test_a", "test_b"))
    assert complete.run().ret == pytest.ExitCode.OK
    assert not complete.report()["environment"]["partial"]


def test_the_environment_says_what_the_verdicts_were_found_with(project: Project):
    project.claims(VERDICTS)
    project.run("--base-seed", "3")
    environment = project.report()["environment"]
    assert environment["command"].startswith("pytest --base-seed 3")
    assert (environment["base_seed"], environment["interrupted"], environment["partial"]) == (3, False, False)
    assert {"python", "platform", "torch", "numpy", "device", "threads", "started", "duration_s"} <= set(environment)


# A shell's background jobs ignore SIGINT, and so would what they start.
SIGNALS = "import os, signal, time\nsignal.signal(signal.SIGINT, signal.default_int_handler)\n"
INTERRUPTIONS = {
    "Ctrl-C": "raise KeyboardInterrupt",
    "a signal": "os.kill(os.getpid(), signal.SIGINT); time.sleep(60)",
    "pytest.exit": 'pytest.exit("enough")',
}


@pytest.mark.parametrize("statement", INTERRUPTIONS.values(), ids=INTERRUPTIONS)
def test_an_interrupted_run_reports_what_ran(statement, project: Project):
    project.claims(f"""{SIGNALS}
@claim("doc/a", controls=[override("off", x=0)])
def test_a(x=1): assert x

@claim("doc/b", controls=no_control("it is interrupted"))
def test_b(): {statement}

@claim("doc/c", controls=no_control("it is never reached"))
def test_c(): pass
""")
    assert project.run().ret == pytest.ExitCode.INTERRUPTED
    assert project.report()["environment"]["interrupted"]
    assert [project.record(name)["outcome"] for name in "abc"] == ["confirmed", "not-run", "not-run"]


def test_a_run_in_which_pytest_breaks_down_reports_what_ran(project: Project):
    project.claims(VERDICTS)
    project.pytester.makeconftest("""
def pytest_runtest_logstart(nodeid):
    assert not nodeid.endswith("test_b")
""")
    assert project.run().ret == pytest.ExitCode.INTERNAL_ERROR
    assert project.report()["environment"]["interrupted"]
    assert [project.record(name)["outcome"] for name in "abc"] == ["confirmed", "not-run", "not-run"]


def test_a_run_interrupted_in_its_own_process_leaves_a_whole_report(project: Project):
    project.claims(f"""{SIGNALS}
@claim("doc/a", controls=[override("off", x=0)])
def test_a(x=1): assert x

@claim("doc/b", controls=no_control("it is interrupted"))
def test_b():
    os.kill(os.getpid(), signal.SIGINT)
    time.sleep(60)
""")
    assert project.run_apart().ret == pytest.ExitCode.INTERRUPTED
    assert project.report()["environment"]["interrupted"]
    assert [project.record(name)["outcome"] for name in "ab"] == ["confirmed", "not-run"]


def test_a_report_that_cannot_be_written_in_the_end_fails_the_run(project: Project):
    project.claims("""
import shutil
@claim("doc/a", controls=no_control("it takes the folder away"))
def test_a():
    shutil.rmtree("reports")
    open("reports", "w").close()
""")
    assert project.run().ret == pytest.ExitCode.TESTS_FAILED
    assert project.says(f"can't write the report to {project.path / 'reports/latest'}: [Errno 20] Not a directory")


def test_a_thin_margin_is_told(project: Project):
    project.claims("""
@claim("doc/a", controls=[override("none", share=0)], trials=80)
def test_a(trials, share=60):
    trials.mostly(trials.seeds.argsort().argsort() < share, at_least=0.5)
""")
    project.run().assert_outcomes(passed=2)
    assert project.says("THIN MARGIN test_claims.py::test_a: in more than 50% of trials: ")
