"""Counts over the claims of a report, and which of them need attention."""

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import PurePosixPath
from typing import get_args

from fitcore.testing.report.schema import ClaimRecord, ControlRecord, DocumentRecord, Outcome, Verdict

TESTED: tuple[Verdict, ...] = ("holds", "conditional", "refuted")


@dataclass(frozen=True)
class Controls:
    """How the controls fared, each counted once though several statements may share it."""

    detected: int
    vacuous: int
    not_run: int
    claims_without: int


@dataclass(frozen=True)
class Concern:
    """A claim that needs attention: ``what`` is wrong with it, and the reasons its tests and controls gave."""

    claim: ClaimRecord
    what: str
    reasons: list[str]


def tested(claims: Iterable[ClaimRecord]) -> list[ClaimRecord]:
    """Those with a verdict that a test establishes."""
    return [claim for claim in claims if claim["verdict"] in TESTED]


def said(claims: Iterable[ClaimRecord]) -> list[ClaimRecord]:
    """Those that a document makes itself, in words or in a listing."""
    return [claim for claim in claims if claim["origin"] != "derived"]


def derived(claims: Iterable[ClaimRecord]) -> list[ClaimRecord]:
    """Those that are our own reading of a document."""
    return [claim for claim in claims if claim["origin"] == "derived"]


def of_document(claims: Iterable[ClaimRecord], document: DocumentRecord) -> list[ClaimRecord]:
    """Those of one document."""
    return [claim for claim in claims if claim["document"] == document["key"]]


def highlights(claims: Iterable[ClaimRecord]) -> list[ClaimRecord]:
    """Those to open with: marked in their catalogue, not simply true, and confirmed to be so in this run."""
    return [
        claim
        for claim in claims
        if claim["highlight"] and claim["verdict"] in ("refuted", "conditional") and claim["outcome"] == "confirmed"
    ]


def topic(claim: ClaimRecord) -> str:
    """The folder that its tests lie in, ``""`` where none were collected."""
    return PurePosixPath(claim["tests"][0]["nodeid"].partition("::")[0]).parent.name if claim["tests"] else ""


def topics(claims: Iterable[ClaimRecord]) -> list[str]:
    """All of them, sorted."""
    return sorted({topic(claim) for claim in claims} - {""})


def control(claim: ClaimRecord) -> str:
    """How its controls fared, the worst first, in the words of ``wording.CONTROLS``."""
    detected = {control["detected"] for control in claim["controls"]}
    if not detected:
        return "none"
    return "not detected" if False in detected else "not run" if None in detected else "detected"


def by_verdict(claims: Iterable[ClaimRecord]) -> dict[Verdict, int]:
    """Number of claims for each verdict, zeros included."""
    counts = Counter(claim["verdict"] for claim in claims)
    return {verdict: counts[verdict] for verdict in get_args(Verdict)}


def by_outcome(claims: Iterable[ClaimRecord]) -> dict[Outcome, int]:
    """Number of tested claims for each outcome, zeros included."""
    counts = Counter(claim["outcome"] for claim in tested(claims))
    return {outcome: counts[outcome] for outcome in get_args(Outcome)}


def controls(claims: Iterable[ClaimRecord]) -> Controls:
    """How the controls of all claims fared."""
    claims = list(claims)
    distinct = {
        # One that did not run has no tests to tell it by.
        (*(control["tests"] or [claim["id"]]), control["name"]): control["detected"]
        for claim in claims
        for control in claim["controls"]
    }
    detected = Counter(distinct.values())
    return Controls(
        detected=detected[True],
        vacuous=detected[False],
        not_run=detected[None],
        claims_without=sum(claim["no_control"] is not None for claim in claims),
    )


def concerns(claims: Iterable[ClaimRecord]) -> list[Concern]:
    """Violated claims first, then errors, then those whose control went undetected."""
    found = [Concern(claim, what, _reasons(claim)) for claim in claims if (what := _wrong_with(claim))]
    return sorted(found, key=lambda concern: ("violated", "error", "vacuous").index(concern.what))


def _wrong_with(claim: ClaimRecord) -> str | None:
    if claim["outcome"] == "violated":
        return "violated"
    undetected = any(control["detected"] is False for control in claim["controls"])
    broke_down = any(test["outcome"] == "error" for test in claim["tests"]) or any(map(_broke_down, claim["controls"]))
    if undetected and not broke_down:
        return "vacuous"
    return "error" if claim["outcome"] == "error" else None


def _broke_down(control: ControlRecord) -> bool:
    return control["detected"] is not False and control["reason"] is not None


def _reasons(claim: ClaimRecord) -> list[str]:
    tests = [test for test in claim["tests"] if test["outcome"] in ("failed", "error")]
    controls = [control for control in claim["controls"] if control["detected"] is False or _broke_down(control)]
    reasons = [
        *(test["reason"] or f"{test['nodeid']}: {test['outcome']}" for test in tests),
        *(f"Control “{control['name']}”: {control['reason'] or 'not detected'}" for control in controls),
    ]
    # Parameter cases tend to fail for the same reason: say it once.
    return list(dict.fromkeys(reasons))
