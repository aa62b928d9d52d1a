"""Tests of ``fitcore.testing.claim``: a mistake in a declaration is an error of that claim alone, in one clear line."""

import pytest

from fitcore.testing import claim, no_control
from fitcore.tests.project import HEAD, Project, entry

NO_CONTROL = 'controls=no_control("constants")'

# What is wrong -> the declaration, and what is said of it.
MISTAKES = {
    "an unknown statement": (f'"doc/aa", {NO_CONTROL}', "names 'doc/aa', which no catalogue has; did you mean 'doc/a'"),
    "an unknown statement like no other": (f'"zzz", {NO_CONTROL}', "names 'zzz', which no catalogue has"),
    "no statement": (NO_CONTROL, "names no statement"),
    "a list of statements": (f'["doc/a"], {NO_CONTROL}', """names "['doc/a']", which no catalogue has"""),
    "four statements": (f'*["doc/a"] * 4, {NO_CONTROL}', "names 4 statements; at most 3, or one for each parameter"),
    "a parameter that is not there": (f'parameter("p"), {NO_CONTROL}', "names 'p', which no catalogue has"),
    "no controls": ('"doc/a"', "controls is required: name an intervention under which it must fail"),
    "an empty list of controls": ('"doc/a", controls=[]', "controls is required: name an intervention"),
    "a control outside a list": ('"doc/a", controls=replace("math.pi", 3)', "controls must be a list of replace(...)"),
    "a control that is none": ('"doc/a", controls=["off"]', "controls must be a list of replace(...) and override"),
    "no control without a reason": ('"doc/a", controls=no_control(" ")', "no_control() needs a reason"),
    "a target that does not exist": (
        '"doc/a", controls=[replace("math.tau2", 3)]',
        "control target 'math.tau2' can't be replaced: <module 'math'",
    ),
    "a target in no module": (
        '"doc/a", controls=[replace("nowhere.pi", 3)]',
        "control target 'nowhere.pi' can't be replaced: No module named 'nowhere'",
    ),
    "a target that is no attribute": (
        '"doc/a", controls=[replace("math", 3)]',
        "control target 'math' can't be replaced: Need a valid target to patch",
    ),
    "a target that is immutable": (
        '"doc/a", controls=[replace("fractions.Fraction.real.fget", 3)]',
        "control target 'fractions.Fraction.real.fget' can't be replaced: ",
    ),
    "an override of nothing": ('"doc/a", controls=[override("off")]', "control 'off' overrides no argument"),
    "an override of an argument that is not there": (
        '"doc/a", controls=[override("off", y=0)]',
        "control 'off' overrides 'y', which is no argument of test_a",
    ),
    "a replacement that cannot be undone": (
        '"doc/a", controls=[replace("collections.OrderedDict.__len__", len)]',
        "control target 'collections.OrderedDict.__len__' can't be restored: override the operation instead",
    ),
    "an override by a strategy": (
        '"doc/a", controls=[override("off", x=__import__("hypothesis").strategies.just(0))]',
        "control 'off' overrides 'x' with a strategy; it takes a value",
    ),
    "two controls of one name": (
        '"doc/a", controls=[override("off", x=0), override("off", x=-1)]',
        "has two controls named 'off'",
    ),
    "an unknown verdict": (
        f'"doc/a", verdict="true", {NO_CONTROL}',
        "verdict must be one of holds, conditional, refuted, got 'true'",
    ),
    "a refutation without a finding": (
        f'"doc/a", verdict=REFUTED, {NO_CONTROL}',
        "finding is required where the verdict is refuted: say what is true instead",
    ),
    "a condition without a finding": (
        f'"doc/a", verdict=CONDITIONAL, finding=" ", {NO_CONTROL}',
        "finding is required where the verdict is conditional",
    ),
    "no trials": (f'"doc/a", trials=0, {NO_CONTROL}', "trials must be an integer >= 1, got 0"),
    "half a trial": (f'"doc/a", trials=0.5, {NO_CONTROL}', "trials must be an integer >= 1, got 0.5"),
}

SOUND = """
@claim("doc/b", controls=[override("off", x=0)])
def test_b(x=1):
    assert x
"""


@pytest.mark.parametrize(("declaration", "message"), MISTAKES.values(), ids=MISTAKES)
def test_a_mistake_in_a_declaration_is_one_line_and_stops_nothing_else(declaration, message, project: Project):
    project.claims(f"@claim({declaration})\ndef test_a(x=1): pass\n{SOUND}")
    project.run("--controls", "skip").assert_outcomes(errors=1, passed=1)
    assert project.says(f"test_claims.py:3: claim test_a {message}")
    assert project.record("b")["outcome"] == "confirmed"


def test_the_controls_of_an_ill_formed_claim_are_errors_too(project: Project):
    project.claims('@claim("doc/a", controls=[override("off", y=0)])\ndef test_a(): assert False\n')
    project.run("--controls", "only").assert_outcomes(errors=1)
    assert project.says("control 'off' overrides 'y'")


def test_an_ill_formed_claim_is_an_error_in_the_report_with_the_reason(project: Project):
    project.claims('@claim("doc/a")\ndef test_a(): pass\n')
    project.run()
    assert project.record("a")["outcome"] == "error"
    assert project.record("a")["tests"][0]["reason"].startswith("test_claims.py:3: claim test_a controls is required")


def test_claims_that_disagree_on_a_verdict_are_errors_that_name_each_other(project: Project):
    project.claims(f"""
@claim("doc/a", {NO_CONTROL})
def test_one(): pass

@claim("doc/a", verdict=REFUTED, finding="It is not.", {NO_CONTROL})
def test_two(): pass
""")
    project.run().assert_outcomes(errors=2)
    assert project.says("'holds' at test_claims.py:4 but 'refuted' at test_claims.py:7")


def test_a_claim_on_an_untestable_statement_is_an_error_that_names_its_entry(project: Project):
    path = project.catalogue(HEAD + entry("a", untestable="It speaks of taste."))
    project.claims(f'@claim("doc/a", {NO_CONTROL})\ndef test_a(): pass\n')
    project.run().assert_outcomes(errors=1)
    assert project.says(f"names 'doc/a', which {path}:6 calls untestable")


def test_a_method_of_unittest_is_an_error_that_asks_for_a_function(project: Project):
    project.claims(f"""
import unittest
class TestIt(unittest.TestCase):
    @claim("doc/a", {NO_CONTROL})
    def test_a(self): pass
""")
    project.run().assert_outcomes(errors=1)
    assert project.says("claim test_a is a method of unittest.TestCase, which can have no control")


def test_each_parameter_case_can_serve_its_own_statement(project: Project):
    project.claims("""
@claim(parameter("statement"), controls=[override("off", x=0)])
@pytest.mark.parametrize("statement", [pytest.param("doc/a", id="first"), pytest.param("doc/b", id="second")])
def test_it(statement, x=1):
    assert x
""")
    project.run().assert_outcomes(passed=4)
    assert [test["nodeid"] for test in project.record("b")["tests"]] == ["test_claims.py::test_it[second]"]


def test_the_cases_of_a_claim_are_all_tests_of_its_statement(project: Project):
    project.claims("""
@claim("doc/a", "doc/b", controls=[override("off", x=0)])
@pytest.mark.parametrize("y", [1, 2])
def test_it(y, x=1):
    assert x
""")
    project.run()
    nodeids = ["test_claims.py::test_it[1]", "test_claims.py::test_it[2]"]
    assert [test["nodeid"] for test in project.record("a")["tests"]] == nodeids
    assert [test["nodeid"] for test in project.record("b")["tests"]] == nodeids


def test_the_decorator_leaves_the_function_callable():
    @claim("doc/a", controls=no_control("constants"))
    def measured() -> int:
        return 2

    assert measured() == 2
