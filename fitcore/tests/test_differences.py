"""What changed between two runs."""

import pytest

from fitcore.testing.report.differences import differences
from fitcore.tests.reports import case, claim, pending, report


def figure(measured, reproduced=True):
    of = {"type": "figure", "name": "loss", "reported": 2.9, "tolerance": 0.05}
    return [case(evidence=[of | {"measured": measured, "reproduced": reproduced}])]


CASES = {
    "nothing": (claim(), claim(), []),
    "a verdict": (claim(), claim(verdict="refuted"), ["verdict notes/gradients-add-up: holds → refuted"]),
    "an outcome": (claim(), claim(outcome="violated"), ["outcome notes/gradients-add-up: confirmed → violated"]),
    "a crash mended": (claim(outcome="error"), claim(), ["outcome notes/gradients-add-up: error → confirmed"]),
    "not run": (claim(), claim(outcome="skipped"), []),
    "first claimed": (pending("gradients-add-up"), claim(), []),
    "a figure": (
        claim(tests=figure(2.9)),
        claim(tests=figure(3.1, reproduced=False)),
        ["figure notes/gradients-add-up 'loss': 2.9 → 3.1"],
    ),
    "a figure within its tolerance": (claim(tests=figure(2.9)), claim(tests=figure(2.93)), []),
    "a figure of another shape": (
        claim(tests=figure([1.0, 2.0])),
        claim(tests=figure([1.0])),
        ["figure notes/gradients-add-up 'loss': 1, 2 → 1"],
    ),
    "slower": (claim(), claim(duration_s=1.3), ["duration notes/gradients-add-up: 100 ms → 1.3 s"]),
    "faster": (claim(duration_s=9.0), claim(duration_s=4.0), ["duration notes/gradients-add-up: 9.0 s → 4.0 s"]),
    "a little slower": (claim(), claim(duration_s=0.9), []),
}


@pytest.mark.parametrize(("before", "after", "changes"), CASES.values(), ids=CASES)
def test_a_difference_is_told_in_one_line(before, after, changes):
    assert list(map(str, differences(report(before), report(after)))) == changes


@pytest.mark.parametrize("name", ["a verdict", "an outcome", "a crash mended"])
def test_what_is_said_of_the_truth_is_decisive(name):
    before, after, _ = CASES[name]
    assert [change.decisive for change in differences(report(before), report(after))] == [True]


@pytest.mark.parametrize("name", ["a figure", "slower"])
def test_figures_and_durations_are_not(name):
    before, after, _ = CASES[name]
    assert not any(change.decisive for change in differences(report(before), report(after)))


def test_statements_come_and_go_and_verdicts_come_first():
    before = report(claim("a"), claim("gone"), claim("b"))
    after = report(claim("a", duration_s=5.0), claim("new", verdict="refuted"), claim("b", verdict="refuted"))
    assert list(map(str, differences(before, after))) == [
        "verdict notes/b: holds → refuted",
        "statement notes/gone: holds → nothing",
        "statement notes/new: nothing → refuted",
        "duration notes/a: 100 ms → 5.0 s",
    ]
