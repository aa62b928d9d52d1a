"""Claims as Hypothesis properties: ``@claim`` on top of ``@given``."""

from fitcore.tests.project import Project

GIVEN = "from hypothesis import given, settings, strategies as st\nseen = []\n"


def test_the_fixtures_of_claims_pass_hypothesis_health_checks(project: Project):
    project.claims(f"""{GIVEN}
@claim("doc/a", controls=[override("never", x=-1)], trials=20)
@given(x=st.floats(0, 1))
def test_a(x, trials, evidence, shared):
    evidence.observe("x", x)
    trials.always(trials.seeds >= -shared(abs, x))
    assert x >= 0
""")
    project.run("-W", "error").assert_outcomes(passed=2)
    assert project.evidence("a")[0]["count"] > 10
    assert project.record("a")["trials"] == 20


def test_a_control_ends_at_the_first_failing_example(project: Project):
    project.claims(f"""{GIVEN}
@claim("doc/a", controls=[override("off", y=1)])
@given(x=st.integers(0, 10**6), y=st.just(0))
def test_a(x, y):
    seen.append(y)
    assert not y or x < 1000

def test_seen():
    assert seen.count(0) >= settings.default.max_examples
    assert seen.count(1) < settings.default.max_examples
""")
    project.run().assert_outcomes(passed=3)


def test_a_drawn_argument_can_be_overridden(project: Project):
    project.claims(f"""{GIVEN}
@claim("doc/a", controls=[override("negative", x=-1)])
@given(st.integers(0, 9))
def test_a(x):
    seen.append(x)
    assert x >= 0

class TestIt:
    @claim("doc/b", controls=[override("negative", x=-1)])
    @given(x=st.integers(0, 9))
    def test_b(self, x):
        assert x >= 0

def test_seen():
    assert seen.count(-1) == 1
""")
    project.run().assert_outcomes(passed=5)


def test_a_plain_run_after_its_controls_is_whole_again(project: Project):
    project.claims(f"""{GIVEN}
@claim("doc/a", controls=[override("negative", x=-1)])
@given(x=st.integers(0, 9))
def test_a(x):
    assert x >= 0

def test_after():
    test_a()
""")
    project.run("--controls", "only").assert_outcomes(passed=2)


def test_several_distinct_failures_are_a_violation_and_no_crash(project: Project):
    project.claims(f"""{GIVEN}
@claim("doc/a", controls=no_control("its plain run fails"))
@given(x=st.integers(0, 100))
def test_a(x):
    assert x % 2 or x < 10
    assert not x % 2 or x < 50
""")
    project.run().assert_outcomes(failed=1)
    assert project.record("a")["outcome"] == "violated"


def test_a_crash_among_several_failures_is_an_error(project: Project):
    project.claims(f"""{GIVEN}
@claim("doc/a", controls=no_control("its plain run fails"))
@given(x=st.integers(0, 100))
def test_a(x):
    assert x % 2 or x < 10
    1 / (x - 1)
""")
    project.run().assert_outcomes(failed=1)
    assert project.record("a")["outcome"] == "error"


def test_a_mistake_inside_an_example_is_one_line(project: Project):
    project.claims(f"""{GIVEN}
@claim("doc/a", controls=no_control("its plain run fails"))
@given(x=st.integers(0, 100))
def test_a(x, evidence):
    evidence.observe("x", float("nan"))
""")
    project.run().assert_outcomes(failed=1)
    assert project.says("claim test_a: evidence 'x' has a value that is not finite")


DRAWS = f"""{GIVEN}
@claim("doc/a", controls=no_control("it measures nothing"))
@settings(database=None)
@given(x=st.integers(0, 10**6))
def test_a(x, evidence):
    evidence.observe("x", x)
"""


def test_the_base_seed_determines_the_examples(project: Project):
    project.claims(DRAWS)
    first, again, other = (project.run("--base-seed", seed) and project.values("a") for seed in "112")
    assert first == again
    assert first != other


def test_hypothesis_own_seed_wins(project: Project):
    project.claims(DRAWS)
    first, again, other = (
        project.run("--hypothesis-seed", given, "--base-seed", base) and project.values("a")
        for given, base in ("11", "12", "21")
    )
    assert first == again
    assert first != other
