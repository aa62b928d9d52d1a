"""Several runs in one report."""

import json

import pytest

from fitcore.testing.report.merging import merge
from fitcore.tests.reports import case, claim, control, pending, report

RAN = [case(nodeid="gpu.py::test_speed", outcome="passed")]
SKIPPED = [case(nodeid="gpu.py::test_speed", outcome="skipped", reason="no CUDA device", evidence=[])]
HERE = report(claim(outcome="skipped", tests=SKIPPED, controls=[control(None)]))
GPU = {"device": "NVIDIA H200", "started": "2026-11-02T08:00:00+00:00"}


def there(**changes):
    return report(claim(**{"tests": RAN, "controls": [control(True)], **changes}), **GPU)


def only_claim(merged):
    (found,) = merged["claims"]
    return found


def test_what_was_skipped_here_is_taken_from_where_it_ran_and_says_so():
    merged = merge(HERE, there())
    found = only_claim(merged)
    assert (found["outcome"], found["controls"][0]["detected"]) == ("confirmed", True)
    assert found["tests"][0]["measured_on"] == "NVIDIA H200, Python 3.12.1, torch 2.11, 2 November 2026, 08:00 UTC"
    assert [environment["device"] for environment in merged["merged"]] == ["NVIDIA H200"]
    assert merged["environment"] == HERE["environment"]


def test_what_ran_here_stays():
    own = report(claim(tests=[case(nodeid="gpu.py::test_speed", duration_s=7.0)]))
    assert only_claim(merge(own, there()))["tests"] == own["claims"][0]["tests"]


def test_a_run_of_another_verdict_does_not_count():
    assert only_claim(merge(HERE, there(verdict="refuted"))) == HERE["claims"][0]


def test_the_first_of_several_others_counts():
    merged = merge(HERE, there(), there(tests=[RAN[0] | {"duration_s": 9.0}]))
    assert only_claim(merged)["tests"][0]["duration_s"] == RAN[0]["duration_s"]
    assert len(merged["merged"]) == 2


FAILED = {"outcome": "violated", "tests": [case(nodeid="a", outcome="failed", reason="loss grew")]}


@pytest.mark.parametrize(
    ("other", "noted"),
    [
        (claim(), []),
        (claim(outcome="skipped"), []),
        (claim(**FAILED, verdict="refuted"), []),
        (claim(**FAILED), [("violated", ["loss grew"])]),
    ],
)
def test_another_outcome_is_noted_beside_that_of_the_first_run(other, noted):
    found = only_claim(merge(report(claim(tests=[case(nodeid="a")])), report(other, torch="2.15")))
    assert found["outcome"] == "confirmed"
    assert [(run["outcome"], run["reasons"]) for run in found.get("otherwise", [])] == noted
    assert all("torch 2.15" in run["measured_on"] for run in found.get("otherwise", []))


def test_all_runs_that_came_to_something_else_are_noted():
    runs = [report(claim(tests=[case(nodeid="a")]), torch=f"2.{n}") for n in (11, 12)]
    failed = report(claim(**FAILED), torch="2.15")
    notes = only_claim(merge(failed, *runs))["otherwise"]
    assert [(note["measured_on"].split(", ")[2], note["outcome"]) for note in notes] == [
        ("torch 2.11", "confirmed"),
        ("torch 2.12", "confirmed"),
    ]
    assert only_claim(merge(runs[0], merge(failed, runs[1])))["otherwise"][0] == notes[1]


@pytest.mark.parametrize(
    ("tests", "controls", "outcome"),
    [
        ([case(nodeid="b", outcome="failed", reason="loss grew")], [], "violated"),
        ([case(nodeid="b", outcome="error", reason="no memory")], [], "error"),
        ([case(nodeid="b")], [control(False, name="other", reason="it still passes")], "error"),
        ([case(nodeid="b")], [], "confirmed"),
    ],
)
def test_shards_decide_together(tests, controls, outcome):
    shards = report(claim(tests=[case(nodeid="a")])), report(claim(tests=tests, controls=controls))
    found = only_claim(merge(*shards))
    assert found["outcome"] == outcome
    assert [test["nodeid"] for test in found["tests"]] == ["a", "b"]
    assert {test["measured_on"] for test in found["tests"]} == {None}


def test_a_statement_claimed_in_one_shard_only_is_no_longer_pending():
    shards = report(pending("a"), claim("b"), partial=True), report(claim("a"), pending("b"), partial=True)
    merged = merge(*shards)
    assert [found["verdict"] for found in merged["claims"]] == ["holds", "holds"]
    assert not merged["environment"]["partial"]


def test_documents_of_all_runs_are_there():
    other = report(claim() | {"id": "book/a", "document": "book"})
    other["documents"] = [{"key": "book", "title": "Book", "statements": 1}]
    merged = merge(HERE, other)
    assert [document["key"] for document in merged["documents"]] == ["notes", "book"]
    assert [found["id"] for found in merged["claims"]] == ["notes/gradients-add-up", "book/a"]


def test_merging_leaves_the_runs_as_they_were():
    before = json.dumps([HERE, there()])
    merge(HERE, there())
    assert json.dumps([HERE, there()]) == before
