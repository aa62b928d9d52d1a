"""From pytest's items to claims: which statements an item serves, and what is wrong with its declaration."""

from collections import defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from typing import Any

import pytest

from fitcore.testing.assembly import CollectedClaim
from fitcore.testing.catalogue import Catalogue
from fitcore.testing.claim import Claim, Control, Parameter, Verdict
from fitcore.testing.controls import NoControl


@dataclass(frozen=True)
class ClaimItem:
    """One test item of a claim: the plain run of a parameter case, or one of its controls.

    Attributes:
        claim: the declaration.
        control: the control of this item; ``None`` for the plain run.
        nodeid: that of the plain run.
        location: ``"file:line"`` of the test.
        statements: ids of the statements that this case serves.
        problem: what makes the item an error, in one line.

    """

    claim: Claim
    control: Control | None
    nodeid: str
    location: str
    statements: tuple[str, ...]
    problem: str | None = None

    @property
    def key(self) -> str:
        """What the seeds depend on besides the base seed: the claim and its case, wherever the file lies."""
        return f"{' '.join(self.statements)} {self.nodeid.rpartition('::')[2]}"

    @property
    def name(self) -> str:
        """Name of the test function."""
        return self.nodeid.partition("[")[0].rpartition("::")[2]

    @property
    def vacuous(self) -> str:
        """What to say where the plain test passes although its control is in force."""
        name = self.control.name if self.control else ""
        return (
            f"{', '.join(self.statements)}: the claim still passes under its control {name!r}, so it proves nothing; "
            "let its assertion depend on what the control takes away, or choose a control that attacks the statement"
        )

    def as_json(self) -> CollectedClaim:
        """What the process that writes the report has to know of a plain item."""
        without = self.claim.controls.reason if isinstance(self.claim.controls, NoControl) else None
        return {
            "nodeid": self.nodeid,
            "statements": list(self.statements),
            "verdict": str(self.claim.verdict) if self.claim.verdict in list(Verdict) else "pending",
            "finding": self.claim.finding,
            "controls": [control.name for control in self.claim.interventions],
            "no_control": without,
        }


def claim_items(items: Iterable[pytest.Item], catalogue: Catalogue) -> Mapping[pytest.Item, ClaimItem]:
    """Read the claims among ``items``, checked one by one and against each other."""
    found: dict[pytest.Item, ClaimItem] = {}
    for item in items:
        marker = item.get_closest_marker("claim")
        if marker is not None and isinstance(item, pytest.Function):
            found[item] = _claim_item(item, marker.args[0], catalogue)
    disagreements = _disagreements(found.values())
    return {item: _with_first_problem(claim, disagreements) for item, claim in found.items()}


def _claim_item(item: pytest.Function, declared: Claim, catalogue: Catalogue) -> ClaimItem:
    # A method of unittest.TestCase takes no parameters, and so has no call specification.
    params: dict[str, Any] = dict(item.callspec.params) if hasattr(item, "callspec") else {}
    path, line, _ = item.location
    statements = tuple(str(params.get(s.name, s.name) if isinstance(s, Parameter) else s) for s in declared.statements)
    location = f"{path}:{(line or 0) + 1}"
    problems = [
        *([] if params else ["is a method of unittest.TestCase, which can have no control: make it a function"]),
        *declared.problems(item.function),
        *(problem for statement in statements if (problem := catalogue.problem_with(statement))),
    ]
    return ClaimItem(
        claim=declared,
        control=params.get("_claim_control"),
        nodeid=_plain_nodeid(item, params.get("_claim_control")),
        location=location,
        statements=statements,
        problem=f"{location}: claim {item.originalname} {problems[0]}" if problems else None,
    )


def _plain_nodeid(item: pytest.Function, control: Control | None) -> str:
    """The item's node id without the part of its control, which is the last."""
    if control is None:
        return item.nodeid
    before = item.nodeid.rsplit("control: ", 1 + control.name.count("control: "))[0]
    return before.removesuffix("[") if before.endswith("[") else f"{before.removesuffix('-')}]"


def _disagreements(claims: Iterable[ClaimItem]) -> Mapping[str, str]:
    """For each statement that claims give different verdicts: what to say about it."""
    verdicts: defaultdict[str, dict[str, str]] = defaultdict(dict)
    for claim in claims:
        for statement in claim.statements:
            verdicts[statement].setdefault(str(claim.claim.verdict), claim.location)
    return {
        statement: " but ".join(f"{verdict!r} at {location}" for verdict, location in given.items())
        for statement, given in verdicts.items()
        if len(given) > 1
    }


def _with_first_problem(claim: ClaimItem, disagreements: Mapping[str, str]) -> ClaimItem:
    disputed = next((statement for statement in claim.statements if statement in disagreements), None)
    if claim.problem is not None or disputed is None:
        return claim
    return replace(claim, problem=f"{claim.location}: verdicts on {disputed!r} differ: {disagreements[disputed]}")
