"""Tests of ``fitcore.testing.report.pictures``: what is drawn, by which process, and when."""

import os
import signal
from collections.abc import Iterator

import pytest

from fitcore.testing.report import pictures
from fitcore.tests.reports import case, claim, observation, report

MANY = report(
    claim("a", tests=[case(), case(evidence=[observation([1.0, 2.0])])]),
    claim("b"),
    claim("c", tests=[case(evidence=[]), case(evidence=[observation([1.0]), observation([2.0, 2.0])])]),
)


@pytest.mark.parametrize("worth_sharing", [1, 1000], ids=["all cores", "one process"])
def test_every_evidence_that_is_drawn_gets_its_own_picture(monkeypatch: pytest.MonkeyPatch, worth_sharing: int) -> None:
    monkeypatch.setattr(pictures, "WORTH_SHARING", worth_sharing)
    shown = [
        evidence
        for one in pictures.illustrated(MANY)["claims"]
        for test in one["tests"]
        for evidence in test["evidence"]
    ]
    for evidence in shown:
        given = {key: value for key, value in evidence.items() if key != "picture"}
        assert evidence["picture"] == (pictures.picture(given) if pictures.is_drawn(given) else None)
    assert [evidence["type"] for evidence in shown if evidence["picture"]] == [
        *("observation", "comparison", "curve", "observation"),
        *("observation", "comparison", "curve"),
    ]


@pytest.fixture
def sketchbook(monkeypatch: pytest.MonkeyPatch) -> Iterator[pictures.Sketchbook]:
    """One for which two drawings are worth a process."""
    monkeypatch.setattr(pictures, "WORTH_SHARING", 2)
    book = pictures.Sketchbook()
    yield book
    book.close()


FIRST, SECOND, THIRD = ([observation([0.0, float(high)])] for high in (1, 2, 3))


def test_a_sketchbook_begins_once_there_is_enough_to_draw(sketchbook: pictures.Sketchbook) -> None:
    sketchbook.begin([*FIRST, observation([1.0])])
    assert sketchbook.pictures() == {}
    sketchbook.begin(SECOND)
    sketchbook.begin(THIRD)
    assert list(sketchbook.pictures().values()) == [pictures.picture(one) for [one] in (FIRST, SECOND, THIRD)]


def test_what_a_sketchbook_holds_is_not_drawn_again(
    sketchbook: pictures.Sketchbook, monkeypatch: pytest.MonkeyPatch
) -> None:
    sketchbook.begin(FIRST + SECOND)
    assert len(sketchbook.pictures()) == 2
    drawn_now = []
    monkeypatch.setattr(pictures, "picture", lambda evidence: drawn_now.append(evidence["maximum"]))
    tests = [case(evidence=evidence) for evidence in (FIRST, SECOND, THIRD, THIRD)]
    pictures.illustrated(report(claim("a", tests=tests)), sketchbook)
    assert drawn_now == [3]


def test_what_a_killed_process_leaves_undone_is_drawn_in_the_end(sketchbook: pictures.Sketchbook) -> None:
    sketchbook.begin(FIRST + SECOND)
    for process in sketchbook._pool._processes.values():
        os.kill(process.pid, signal.SIGKILL)
        process.join()
    sketchbook.pictures()
    sketchbook.begin(THIRD)
    [shown] = pictures.illustrated(report(claim("a", tests=[case(evidence=FIRST)])), sketchbook)["claims"]
    assert shown["tests"][0]["evidence"][0]["picture"] == pictures.picture(FIRST[0])
