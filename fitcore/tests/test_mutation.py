"""The mutation check, on a package of a few lines and tests that notice some of what is broken."""

import ast
import json
import os
import subprocess
import sys

import pytest

from fitcore.testing.errors import ClaimError
from fitcore.testing.mutation.__main__ import main
from fitcore.testing.mutation.explanations import Explanation, explanations, stale
from fitcore.testing.mutation.mutants import sources
from fitcore.testing.mutation.operators import alternatives, places

CODE = '''
def clipped(x, high=1):
    """The smaller of x and high."""
    return high if x > high else x

def wait(steps):
    while steps:
        steps -= 1

def lonely(x):
    return not x

class Counter:
    def __init__(self):
        super().__init__()
        self.count = 0
'''
TESTS = """
import toy
from toy import clipped as held

def test_clipped():
    assert held(2) == 1
    assert held(0) == 0

def test_clipped_at_two():
    assert held(3, 2) == 2

def test_wait():
    toy.wait(2)

def test_counter():
    assert toy.Counter().count == 0

def test_fails_anyway():
    assert held(0) == 1
"""


@pytest.fixture
def mutate(pytester: pytest.Pytester):
    """Run the command in a folder with the package ``toy``."""
    pytester.makepyfile(toy=CODE, test_toy=TESTS)
    environment = {key: value for key, value in os.environ.items() if not key.startswith("PYTEST")}
    environment["PYTHONPATH"] = str(pytester.path)

    def run(*arguments: str, explained: str = "") -> tuple[subprocess.CompletedProcess, list[dict]]:
        (pytester.path / "explained.toml").write_text(explained)
        command = [sys.executable, "-m", "fitcore.testing.mutation", *arguments, "--tests", "test_toy.py"]
        command += ["--explained", "explained.toml", "-o", "found.json"]
        done = subprocess.run(
            command, cwd=pytester.path, env=environment, capture_output=True, text=True, check=False, timeout=300
        )
        found = pytester.path / "found.json"
        return done, json.loads(found.read_text()) if found.exists() else []

    return run


EQUIVALENT = """
[[mutant]]
function = "toy.clipped"
before = "return high if x > high else x"
after = "return high if x >= high else x"
reason = "At the limit both are the limit."
"""


def test_mutants_are_killed_or_time_out_or_survive_or_are_never_reached(mutate):
    done, found = mutate("toy", explained=EQUIVALENT)
    outcomes = {(mutant["before"], mutant["after"]): mutant["outcome"] for mutant in found}
    assert outcomes == {
        ("high=1", "high=2"): "killed",
        ("high=1", "high=0"): "killed",
        ("return high if x > high else x", "return high if x >= high else x"): "survived",
        ("return high if x > high else x", "return high if x <= high else x"): "killed",
        ("while steps:", "while not steps:"): "survived",
        ("steps -= 1", "(dropped)"): "timed out",
        ("steps -= 1", "steps += 1"): "timed out",
        ("steps -= 1", "steps -= 2"): "survived",
        ("steps -= 1", "steps -= 0"): "timed out",
        ("return not x", "return x"): "unreached",
        ("super().__init__()", "(dropped)"): "survived",
        ("super().__init__()", "super()"): "survived",
        ("self.count = 0", "(dropped)"): "killed",
        ("self.count = 0", "self.count = 1"): "killed",
        ("self.count = 0", "self.count = -1"): "killed",
    }
    assert done.returncode == 1
    assert "left out, since it fails unbroken: test_toy.py::test_fails_anyway" in done.stdout
    assert "toy.py:7: wait\n  - steps -= 1\n  + steps -= 2\n  survived, reached by 1 test" in done.stdout
    assert "toy.py:3" not in done.stdout
    assert "6 survivors, 5 of them unexplained" in done.stdout


def test_one_function_whose_survivors_are_explained_passes_and_all_who_notice_are_told(mutate):
    done, found = mutate("toy:clipped", "--all", explained=EQUIVALENT)
    assert (done.returncode, len(found)) == (0, 4), done.stderr
    assert found[0]["noticed"] == ["test_toy.py::test_clipped"]
    assert set(found[3]["noticed"]) == {"test_toy.py::test_clipped", "test_toy.py::test_clipped_at_two"}


def test_a_fault_of_torch_is_noticed_where_torch_is_called(pytester, mutate):
    pytester.makepyfile(
        test_toy="""
import torch

def test_clipping():
    weight = torch.ones(4, requires_grad=True)
    weight.sum().backward()
    torch.nn.utils.clip_grad_norm_([weight], 1.0)
    assert weight.grad.norm() < 1.1
"""
    )
    done, found = mutate("--torch", "--limit", "2")
    assert [fault["outcome"] for fault in found] == ["killed", "unreached"], done.stderr


def test_mutants_are_noticed_in_what_else_other_processes_would_compute(pytester, mutate):
    pytester.makepyfile(
        test_toy="""
import joblib
import toy
from fitcore.testing.shared import Shared

def test_each():
    with joblib.parallel_config(n_jobs=joblib.cpu_count()):
        assert Shared(0).each(toy.clipped, [0, 2]) == [0, 1]
"""
    )
    _, found = mutate("toy:clipped", "--limit", "1")
    assert [mutant["outcome"] for mutant in found] == ["killed"]


@pytest.fixture
def mutants(tmp_path, monkeypatch):
    """All mutants of the package ``toy``."""
    (tmp_path / "toy.py").write_text(CODE)
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.delitem(sys.modules, "toy", raising=False)
    return [mutant for source in sources(["toy"]) for mutant in source.mutants()]


def test_functions_of_one_module_are_taken_together(mutants):
    (source,) = sources(["toy:clipped", "toy:lonely"])
    *of_clipped, of_lonely = source.mutants()
    assert list(source.functions) == ["clipped", "lonely"]
    assert of_lonely.statement not in {mutant.statement for mutant in of_clipped}


OF_ALL = Explanation("toy.lonely", "needs a GPU")
OF_ONE = Explanation("toy.clipped", "no difference", "high=1", "high=2")


def test_an_explanation_is_of_one_mutant_or_of_a_whole_function(mutants):
    assert [mutant.function for mutant in mutants if OF_ALL.explains(mutant)] == ["lonely"]
    assert [(mutant.before, mutant.after) for mutant in mutants if OF_ONE.explains(mutant)] == [("high=1", "high=2")]


@pytest.mark.parametrize(
    ("targets", "survivors", "found"),
    [
        (["toy"], ["clipped", "lonely"], []),
        (["toy"], ["lonely"], [OF_ONE]),
        (["toy:clipped"], [], [OF_ONE]),
        (["toys", "toy:wait"], [], []),
    ],
)
def test_what_explains_no_survivor_of_what_was_tried_is_stale(mutants, targets, survivors, found):
    assert stale([OF_ALL, OF_ONE], targets, [mutant for mutant in mutants if mutant.function in survivors]) == found


@pytest.mark.parametrize(
    ("target", "says"), [("fitcore.seeding:no", "fitcore.seeding has no function no"), ("no.such.module", "import")]
)
def test_what_does_not_exist_cannot_be_broken(capsys, target, says):
    assert main([target]) == 2
    assert says in capsys.readouterr().err


@pytest.mark.parametrize("text", ["mutant = ", '[[mutant]]\nfunction = "f"', '[[mutant]]\nfunction = "f"\nwhy = "x"'])
def test_an_explanation_that_is_none_is_refused(tmp_path, text):
    path = tmp_path / "mutants.toml"
    path.write_text(text)
    with pytest.raises(ClaimError, match=r"mutants\.toml"):
        explanations(path)


def test_no_file_explains_nothing(tmp_path):
    assert explanations(tmp_path / "mutants.toml") == []


@pytest.mark.parametrize(
    ("source", "others"),
    [
        ("a + b", ["a - b"]),
        ("a ** b", ["a * b"]),
        ("a <= b < c", ["a < b < c", "a > b < c", "a <= b <= c", "a <= b >= c"]),
        ("a and b", ["a or b"]),
        ("not a", ["a"]),
        ("a is None", ["a is not None"]),
        ("a if b else c", ["a if not b else c"]),
        ("x[:, 0]", ["x[:, 1]", "x[:, -1]"]),
        ("f(True)", ["f(False)"]),
        ("f(a, b)", ["f(b, a)"]),
        ("max(a, b)", ["min(a, b)"]),
        ("x.mean(d)", ["x.sum(d)"]),
        ("f(r='mean')", ["f(r='sum')"]),
        ("x.detach()", ["x"]),
        ("f(a, a)", []),
        ("torch.mul(a, b)", []),
        ("'text'", []),
        ("f'{1}'", []),
    ],
)
def test_operators_make_one_change(source, others):
    tree = ast.parse(source, mode="eval")
    found = []
    for parent, field, index in places(tree):
        child = getattr(parent, field) if index is None else getattr(parent, field)[index]
        for other in alternatives(child):
            container, key = (vars(parent), field) if index is None else (getattr(parent, field), index)
            container[key] = other
            found.append(ast.unparse(tree))
            container[key] = child
    assert found == others


@pytest.mark.parametrize(
    ("source", "others"),
    [
        ("a += 1", ["a -= 1", "if False:\n    a += 1"]),
        ("if a:\n    b", ["if not a:\n    b"]),
        ("with a():\n    b", ["if True:\n    b"]),
        ("with a() as c:\n    b", []),
        ("raise ValueError(1 + 1)", ["if False:\n    raise ValueError(1 + 1)"]),
        ("'a docstring'", []),
    ],
)
def test_operators_change_statements(source, others):
    assert [ast.unparse(other) for other in alternatives(ast.parse(source).body[0])] == others
