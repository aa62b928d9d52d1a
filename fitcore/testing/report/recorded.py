"""Recordings: reports of other machines, kept to stand in for what a run has to skip."""

from collections.abc import Iterable
from pathlib import Path

from fitcore.testing.errors import ClaimError
from fitcore.testing.report.merging import RESULTS, merge
from fitcore.testing.report.reading import read_report
from fitcore.testing.report.schema import ClaimRecord, Report
from fitcore.testing.report.wording import count, moment


def with_recordings(report: Report, folders: Iterable[Path]) -> tuple[Report, list[str]]:
    """Fill in what a run skipped by what was recorded of it, and say what was taken and what can't be read.

    Nothing else is taken: neither tests nor controls that this run doesn't have, nor any of a statement that had
    another verdict when it was recorded.

    Args:
        report: of the run.
        folders: each with a folder a machine, which holds its ``claims.json``. Of several the first by name counts.

    Returns:
        The report, and a line for each recording that adds to it or is damaged.
    """
    lines = []
    for file in sorted(file for folder in folders for file in folder.glob("*/claims.json")):
        try:
            recording = read_report(file)
        except ClaimError as error:
            lines.append(f"recording left out: {error}")
            continue
        recorded = {claim["id"]: claim for claim in recording["claims"]}
        pairs = ((own, recorded[own["id"]]) for own in report["claims"] if own["id"] in recorded)
        claims = [found for own, claim in pairs if (found := _standing_in_for(own, claim))]
        if claims:
            tests = {test["nodeid"] for claim in claims for test in claim["tests"]}
            environment = recording["environment"]
            when = f"{environment['device']}, torch {environment['torch']}, {moment(environment['started'])}"
            lines.append(f"{count(len(tests), 'skipped test')} shown as recorded: {when}")
            report = merge(report, {**recording, "documents": [], "claims": claims})
    return report, lines


def _standing_in_for(own: ClaimRecord, recorded: ClaimRecord) -> ClaimRecord | None:
    """What was recorded of a statement, but for what this run has a result of, or doesn't have any more."""
    skipped = {test["nodeid"] for test in own["tests"] if test["outcome"] == "skipped"}
    tests = [test for test in recorded["tests"] if test["nodeid"] in skipped and test["outcome"] in RESULTS]
    if not tests or recorded["verdict"] != own["verdict"]:
        return None
    names = {control["name"] for control in own["controls"]}
    return {
        **recorded,
        "finding": own["finding"],  # which may have been worded anew since
        "tests": tests,
        "controls": [control for control in recorded["controls"] if control["name"] in names],
    }
