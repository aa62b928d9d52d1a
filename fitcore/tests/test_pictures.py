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
