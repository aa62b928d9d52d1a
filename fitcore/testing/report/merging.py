"""Several runs in one report: shards of one suite, or a run without a GPU and one recorded on a machine with one."""

from collections.abc import Iterable, Iterator, Sequence
from typing import cast

from fitcore.testing.report import tally
from fitcore.testing.report.differences import RAN
from fitcore.testing.report.schema import (
    CaseRecord,
    ClaimRecord,
    ControlRecord,
    DocumentRecord,
    EnvironmentRecord,
    Otherwise,
    Outcome,
    Report,
)
from fitcore.testing.report.wording import moment

RESULTS = ("passed", "failed", "error")


def merge(first: Report, *others: Report) -> Report:
    """Complete a report by what other runs found where it has no result itself.

    A test or control that ran in the first report stays as it is. One that was skipped, or was no part of that run, is
    taken from the first of the others in which it ran, and says on what machine that was. A run in which a statement
    had another verdict doesn't count for it: it measured something else. Where both ran and came to different outcomes,
    under another torch say, the first stands and the other is noted beside it.
    """
    report = first
    for other in others:
        report = _merge(report, other)
    return report


def _merge(report: Report, other: Report) -> Report:
    label = _label(other["environment"], report["environment"])
    noted_as = label or f"another run, {moment(other['environment']['started'])}"
    theirs = {claim["id"]: claim for claim in other["claims"]}
    claims = [_completed(claim, theirs.pop(claim["id"], None), label, noted_as) for claim in report["claims"]]
    return {
        **report,
        "environment": {
            **report["environment"],
            "partial": report["environment"]["partial"] and any(claim["outcome"] == "not-run" for claim in claims),
        },
        "merged": [*report["merged"], other["environment"], *other["merged"]],
        "documents": _documents([*report["documents"], *other["documents"]]),
        "claims": [*claims, *theirs.values()],
    }


def _label(environment: EnvironmentRecord, base: EnvironmentRecord) -> str | None:
    """What tells a run from another's machine and versions; ``None`` where nothing does."""
    alike = ("device", "platform", "python", "torch", "torchvision", "numpy")
    if all(environment[key] == base[key] for key in alike):  # type: ignore[literal-required]
        return None
    versions = f"Python {environment['python']}, torch {environment['torch']}"
    return f"{environment['device']}, {versions}, {moment(environment['started'])}"


def _documents(documents: Iterable[DocumentRecord]) -> list[DocumentRecord]:
    return list({document["key"]: document for document in reversed(list(documents))}.values())[::-1]


def _completed(claim: ClaimRecord, other: ClaimRecord | None, label: str | None, noted_as: str) -> ClaimRecord:
    if other is None or other["verdict"] in ("pending", "untestable"):
        return claim
    if claim["verdict"] not in ("pending", other["verdict"]):
        return claim
    tests = _tests(claim["tests"], [{**test, "measured_on": test["measured_on"] or label} for test in other["tests"]])
    controls = _controls(claim["controls"], other["controls"])
    findings = dict.fromkeys(filter(None, (claim["finding"], other["finding"])))
    completed: ClaimRecord = {
        **claim,
        "verdict": other["verdict"],
        "outcome": _outcome(tests, controls, (claim["outcome"], other["outcome"])),
        "finding": " ".join(findings) or None,
        "trials": max((count for count in (claim["trials"], other["trials"]) if count), default=None),
        "duration_s": round(sum(test["duration_s"] for test in tests), 4),
        "tests": tests,
        "controls": controls,
        "no_control": claim["no_control"] or other["no_control"],
        "rerun": claim["rerun"] or other["rerun"],
    }
    if otherwise := [*claim.get("otherwise", []), *other.get("otherwise", []), *_contradiction(claim, other, noted_as)]:
        completed["otherwise"] = otherwise
    return completed


def _contradiction(claim: ClaimRecord, other: ClaimRecord, noted_as: str) -> Iterator[Otherwise]:
    outcomes = {claim["outcome"], other["outcome"]}
    if len(outcomes) == 2 and outcomes <= set(RAN):
        reasons = [reason for concern in tally.concerns([other]) for reason in concern.reasons]
        yield {"measured_on": noted_as, "outcome": other["outcome"], "reasons": reasons}


def _tests(own: Sequence[CaseRecord], others: Sequence[CaseRecord]) -> list[CaseRecord]:
    merged = {test["nodeid"]: test for test in own}
    for test in others:
        known = merged.get(test["nodeid"])
        if known is None or (known["outcome"] not in RESULTS and test["outcome"] in RESULTS):
            merged[test["nodeid"]] = test
    return list(merged.values())


def _controls(own: Sequence[ControlRecord], others: Sequence[ControlRecord]) -> list[ControlRecord]:
    merged = {control["name"]: control for control in own}
    for control in others:
        known = merged.get(control["name"])
        if known is None or (known["detected"] is None and known["reason"] is None):
            merged[control["name"]] = control
    return list(merged.values())


def _outcome(
    tests: Sequence[CaseRecord], controls: Sequence[ControlRecord], outcomes: tuple[Outcome, Outcome]
) -> Outcome:
    results = {test["outcome"] for test in tests}
    if "error" in results:
        return "error"
    if "failed" in results:
        return "violated"
    if any(control["reason"] is not None for control in controls):
        return "error"
    return cast(Outcome, next(outcome for outcome in ("confirmed", "skipped", "not-run") if outcome in outcomes))
