"""Tests of ``fitcore.testing.controls``: a control passes where, and only where, its claim fails by assertion."""

import pytest

from fitcore.tests.project import Project

# How the test ends under its control -> the body, the outcome of the control's item, and `detected` in the report.
ENDINGS = {
    "an assertion": ("assert x", "passed", True),
    "an AssertionError of a library": ("import numpy; numpy.testing.assert_equal(x, 1)", "passed", True),
    "raises that sees no exception": ("with pytest.raises(ValueError): int('a' if x else '1')", "passed", True),
    "warns that sees no warning": (
        "import warnings\n    with pytest.warns(UserWarning):\n        x and warnings.warn('!')",
        "passed",
        True,
    ),
    "raises that sees another message": (
        "with pytest.raises(ValueError, match=\"'a'\"): int('a' if x else 'b')",
        "passed",
        True,
    ),
    "raises that sees another exception": ("with pytest.raises(ValueError): int('a' if 1 / x else '')", "failed", None),
    "a crash": ("1 / x", "failed", None),
    "pytest.fail": ("x or pytest.fail('off')", "failed", None),
    "a mistake in the claim": ("if not x: raise ClaimError('off')", "failed", None),
    "a skip": ("x or pytest.skip('off')", "skipped", None),
    "a pass": ("pass", "failed", False),
}


@pytest.mark.parametrize(("body", "outcome", "detected"), ENDINGS.values(), ids=ENDINGS)
def test_a_control_detects_by_assertion_only(body, outcome, detected, project: Project):
    project.claims(f'@claim("doc/a", controls=[override("off", x=0)])\ndef test_a(x=1):\n    {body}\n')
    project.run("--controls", "only").assert_outcomes(**{outcome: 1})
    assert project.record("a")["controls"][0]["detected"] is detected


def test_a_vacuous_claim_fails_the_run_in_one_line(project: Project):
    project.claims('@claim("doc/a", controls=[override("off", x=0)])\ndef test_a(x=1): pass\n')
    assert project.run().ret == pytest.ExitCode.TESTS_FAILED
    assert project.says("doc/a: the claim still passes under its control 'off', so it proves nothing")
    assert project.record("a")["outcome"] == "error"


def test_a_crash_under_a_control_is_told_with_its_reason(project: Project):
    project.claims('@claim("doc/a", controls=[override("off", x=0)])\ndef test_a(x=1): 1 / x\n')
    project.run().assert_outcomes(passed=1, failed=1)
    assert project.record("a")["outcome"] == "error"
    assert project.record("a")["controls"][0]["reason"] == "ZeroDivisionError: division by zero"


def test_a_replacement_is_in_force_for_its_control_alone(project: Project):
    project.claims("""
import math
@claim("doc/a", controls=[replace("math.pi", 3, name="a round circle")])
def test_a():
    assert math.pi > 3

def test_after():
    assert math.pi > 3
""")
    project.run().assert_outcomes(passed=3)
    assert project.record("a")["controls"][0]["name"] == "a round circle"


def test_a_replacement_is_undone_after_a_crash(project: Project):
    project.claims("""
import math
@claim("doc/a", controls=[replace("math.pi", 0)])
def test_a():
    1 / math.pi

def test_after():
    assert math.pi > 3
""")
    project.run().assert_outcomes(passed=2, failed=1)


def test_a_replacement_is_named_after_what_it_puts_in_place(project: Project):
    project.claims("""
def leave_alone(x): return x
@claim("doc/a", controls=[replace("math.sqrt", leave_alone), replace("math.pi", 3)])
def test_a(): assert False
""")
    project.run()
    assert [control["name"] for control in project.record("a")["controls"]] == ["leave alone", "math.pi = 3"]


def test_a_control_is_an_item_of_its_own_after_each_parameter_case(project: Project):
    project.claims("""
@claim("doc/a", controls=[override("off", x=0), override("λ: [-] control: ::", x=-1)])
@pytest.mark.parametrize("y", [1.0, "control: "])
def test_x(y, x=1):
    assert x > 0
""")
    project.run("-v").stdout.fnmatch_lines(
        [
            "test_claims.py::test_x[[]1.0[]] PASSED*",
            "test_claims.py::test_x[[]1.0-control: off[]] PASSED*",
            "test_claims.py::test_x[[]1.0-control: ?u03bb: [[]-[]] control: ::[]] PASSED*",
            "test_claims.py::test_x[[]control: []] PASSED*",
        ]
    )
    assert [len(control["tests"]) for control in project.record("a")["controls"]] == [2, 2]
    plain = ["test_claims.py::test_x[1.0]", "test_claims.py::test_x[control: ]"]
    assert [test["nodeid"] for test in project.record("a")["tests"]] == plain


def test_an_override_changes_parameters_fixtures_and_defaults_alike(project: Project):
    project.claims("""
@pytest.fixture(params=[1, 2])
def y(request): return request.param

@claim("doc/a", controls=[override(name, **{name: 0}) for name in "xyz"])
@pytest.mark.parametrize("z", [3])
def test_a(y, z, x=1):
    assert x * y * z
""")
    project.run().assert_outcomes(passed=8)


def test_methods_of_a_class_have_controls(project: Project):
    project.claims("""
class TestIt:
    x = 1
    @claim("doc/a", controls=[override("off", y=0), replace("test_claims.TestIt.x", 0)])
    def test_a(self, y=1):
        assert self.x * y
""")
    project.run().assert_outcomes(passed=3)
    assert project.record("a")["rerun"].startswith("pytest test_claims.py::TestIt::test_a ")


def test_a_benchmark_runs_under_a_control(project: Project):
    project.claims("""
@claim("doc/a", controls=[override("off", x=0)])
def test_a(benchmark, x=1):
    assert benchmark.pedantic(lambda: x)
""")
    project.run().assert_outcomes(passed=2)


def test_the_plain_run_and_its_controls_see_the_same_seeds(project: Project):
    project.claims("""
import random
seen = []
@pytest.fixture
def drawn(): return random.random()

@claim("doc/a", controls=[override("off", x=0), override("again", x=0)])
def test_a(drawn, trials, x=1):
    seen.append((drawn, random.random(), *trials.seeds))
    assert x

def test_seen():
    assert len(seen) == 3
    assert len(set(seen)) == 1
""")
    project.run().assert_outcomes(passed=4)


def test_what_a_control_records_is_not_kept(project: Project):
    project.claims("""
@claim("doc/a", controls=[override("off", x=0)])
def test_a(evidence, x=1):
    evidence.observe("x", x)
    assert x
""")
    project.run().assert_outcomes(passed=2)
    assert project.values("a") == [1.0]
