"""From what the items of a run left behind to the content of ``claims.json``."""

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal, TypedDict, cast

from fitcore.testing.catalogue import Catalogue, Statement
from fitcore.testing.report.schema import (
    CaseRecord,
    ClaimRecord,
    ControlRecord,
    EnvironmentRecord,
    Evidence,
    Origin,
    Outcome,
    Report,
    Verdict,
)


class CollectedClaim(TypedDict):
    """What is known of a claim's test before it runs; travels between processes as JSON."""

    nodeid: str
    statements: list[str]
    verdict: str
    finding: str
    controls: list[str]
    no_control: str | None


@dataclass(frozen=True)
class ItemRun:
    """How one item, the plain test or one of its controls, came out.

    ``failed`` is by assertion, or for a control by not being detected; any other failure is an ``error``.
    """

    nodeid: str
    outcome: Literal["passed", "failed", "error", "skipped"]
    reason: str | None
    duration_s: float
    trials: int | None
    evidence: list[Evidence]


@dataclass(frozen=True)
class Run:
    """A whole run: what was collected, and how each item came out, by plain node id and control (``None``: plain)."""

    collected: Sequence[CollectedClaim]
    items: Mapping[tuple[str, str | None], ItemRun]
    environment: EnvironmentRecord
    rerun: Any


def assemble(catalogue: Catalogue, run: Run) -> Report:
    """Bring a run into the order of the catalogue, one record a statement."""
    serving: defaultdict[str, list[CollectedClaim]] = defaultdict(list)
    for collected in run.collected:
        for statement in collected["statements"]:
            serving[statement].append(collected)
    return {
        "schema": 2,
        "environment": run.environment,
        "merged": [],
        "documents": [
            {"key": document.key, "title": document.title, "statements": len(document.statements)}
            for document in catalogue.documents
        ],
        "claims": [_record(statement, serving[id_], run) for id_, statement in catalogue.statements.items()],
    }


def _record(statement: Statement, serving: Sequence[CollectedClaim], run: Run) -> ClaimRecord:
    items = [item for claim in serving if (item := run.items.get((claim["nodeid"], None)))]
    controls = _controls(serving, run)
    verdict = serving[0]["verdict"] if serving else "untestable" if statement.untestable else "pending"
    return {
        "id": statement.id,
        "document": statement.document,
        "section": statement.section,
        "kind": statement.kind,
        "origin": cast(Origin, statement.origin),
        "statement": statement.statement,
        "setup": statement.setup,
        "highlight": statement.highlight,
        "verdict": cast(Verdict, verdict),
        "outcome": _outcome(items, controls, len(serving)),
        "finding": " ".join(dict.fromkeys(claim["finding"] for claim in serving if claim["finding"])) or None,
        "trials": max((item.trials for item in items if item.trials), default=None),
        "duration_s": round(sum(item.duration_s for item in items), 4),
        "untestable": statement.untestable,
        "tests": [_case(item) for item in items],
        "controls": controls,
        "no_control": next((claim["no_control"] for claim in serving if claim["no_control"]), None),
        "rerun": run.rerun(list(dict.fromkeys(c["nodeid"].partition("[")[0] for c in serving))) if serving else None,
    }


def _case(item: ItemRun) -> CaseRecord:
    return {
        "nodeid": item.nodeid,
        "outcome": item.outcome,
        "duration_s": round(item.duration_s, 4),
        "reason": item.reason,
        "evidence": item.evidence,
        "measured_on": None,
    }


def _controls(serving: Sequence[CollectedClaim], run: Run) -> list[ControlRecord]:
    names = dict.fromkeys(name for claim in serving for name in claim["controls"])
    return [_control(name, [c["nodeid"] for c in serving if name in c["controls"]], run) for name in names]


def _control(name: str, nodeids: Sequence[str], run: Run) -> ControlRecord:
    items = [item for nodeid in nodeids if (item := run.items.get((nodeid, name)))]
    outcomes = {item.outcome for item in items}
    return {
        "name": name,
        "detected": False if "failed" in outcomes else True if "passed" in outcomes else None,
        "tests": [item.nodeid for item in items],
        "reason": next((item.reason for item in items if item.outcome in ("failed", "error")), None),
    }


def _outcome(items: Sequence[ItemRun], controls: Sequence[ControlRecord], declared: int) -> Outcome:
    outcomes = {item.outcome for item in items}
    if "error" in outcomes:
        return "error"
    if "failed" in outcomes:
        return "violated"
    if any(control["reason"] is not None for control in controls):
        return "error"
    if not declared or len(items) < declared:
        return "not-run"
    return "confirmed" if "passed" in outcomes else "skipped"
