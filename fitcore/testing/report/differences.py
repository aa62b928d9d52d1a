"""What changed from one run to another: with another torch, say."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from fitcore.testing.report.schema import ClaimRecord, Figure, Report
from fitcore.testing.report.wording import cell, duration

RAN = ("confirmed", "violated", "error")
SLOWER, SECONDS = 2.0, 1.0


@dataclass(frozen=True)
class Change:
    """A difference between two runs.

    Attributes:
        what: ``"verdict"``, ``"outcome"``, ``"figure"``, ``"duration"`` or ``"statement"``.
        id: the statement's.
        before: what it was, ``""`` where there was nothing.
        after: what it is.
        decisive: whether one of the runs says something else about the statement's truth.

    """

    what: str
    id: str
    before: str
    after: str
    decisive: bool

    def __str__(self) -> str:
        return f"{self.what} {self.id}: {self.before or 'nothing'} → {self.after or 'nothing'}"


def differences(before: Report, after: Report) -> list[Change]:
    """List what changed, verdicts and outcomes first.

    A figure changed if it moved by more than the tolerance it was to reproduce within, a duration if it doubled or
    halved, by a second at least. A claim that didn't run in one of the two is no change.
    """
    old, new = ({claim["id"]: claim for claim in report["claims"]} for report in (before, after))
    changes = [change for id_ in old.keys() & new.keys() for change in _changes(old[id_], new[id_])]
    changes += [Change("statement", id_, old[id_]["verdict"], "", False) for id_ in old.keys() - new.keys()]
    changes += [Change("statement", id_, "", new[id_]["verdict"], False) for id_ in new.keys() - old.keys()]
    kinds = ("verdict", "outcome", "figure", "statement", "duration")
    return sorted(changes, key=lambda change: (kinds.index(change.what), change.id))


def summary(changes: Sequence[Change]) -> str:
    """Say in a line how many of the changes are decisive."""
    decisive = sum(change.decisive for change in changes)
    return f"{decisive} verdicts or outcomes changed, {len(changes) - decisive} other differences"


def _changes(before: ClaimRecord, after: ClaimRecord) -> Iterator[Change]:
    verdicts = before["verdict"], after["verdict"]
    if verdicts[0] != verdicts[1] and "pending" not in verdicts:
        yield Change("verdict", before["id"], *verdicts, decisive=True)
    outcomes = before["outcome"], after["outcome"]
    if outcomes[0] not in RAN or outcomes[1] not in RAN:
        return
    if outcomes[0] != outcomes[1]:
        yield Change("outcome", before["id"], *outcomes, decisive=True)
    yield from _figures(before, after)
    short, long = sorted((before["duration_s"], after["duration_s"]))
    if long > max(SLOWER * short, short + SECONDS):
        yield Change("duration", before["id"], duration(before["duration_s"]), duration(after["duration_s"]), False)


def _figures(before: ClaimRecord, after: ClaimRecord) -> Iterator[Change]:
    known = _figures_of(before)
    for key, figure in _figures_of(after).items():
        if key in known and _moved(known[key], figure):
            old, new = cell(known[key]["measured"]), cell(figure["measured"])
            yield Change("figure", f"{before['id']} {figure['name']!r}", old, new, decisive=False)


def _figures_of(claim: ClaimRecord) -> dict[tuple[str, str], Figure]:
    return {
        (test["nodeid"], record["name"]): record
        for test in claim["tests"]
        for record in test["evidence"]
        if record["type"] == "figure"
    }


def _moved(before: Figure, after: Figure) -> bool:
    old, new = (np.asarray(figure["measured"]) for figure in (before, after))
    if old.shape != new.shape or before["reproduced"] != after["reproduced"]:
        return True
    return bool(np.any(np.abs(new - old) > after["tolerance"]))
