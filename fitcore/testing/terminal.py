"""The terminal summary: document x verdict, what isn't confirmed and why, and where the report is."""

from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest

from fitcore.testing.report import tally
from fitcore.testing.report.schema import Report
from fitcore.testing.report.wording import count

VERDICTS = ("holds", "conditional", "refuted", "untestable", "pending")
OUTCOMES = ("confirmed", "violated", "error", "skipped", "not-run")


def summarize(reporter: pytest.TerminalReporter, report: Report, trouble: Sequence[str], page: Path | None) -> None:
    """Write the summary of a run to pytest's terminal.

    Args:
        reporter: pytest's own.
        report: the content of ``claims.json``.
        trouble: lines on what went wrong beyond the claims.
        page: the HTML report, or ``None`` if none was written.

    """
    reporter.section("claims")
    for line in _table(report):
        reporter.write_line(line)
    reporter.write_line(_controls(report))
    for line in [*_not_confirmed(report), *trouble]:
        reporter.write_line(line, red=True)
    for line in _thin_margins(report):
        reporter.write_line(line, yellow=True)
    if page is not None:
        reporter.write_line(f"report: {page}")


def _table(report: Report) -> Iterator[str]:
    header = ["document", *VERDICTS, *OUTCOMES]
    rows = [row for document in report["documents"] if (row := _row(document["key"], report))]
    if len(rows) > 1:
        rows.append(["total", *(sum(column) for column in list(zip(*rows, strict=True))[1:])])
    columns = [column for column in zip(header, *rows, strict=True) if any(column[1:])]
    for cells in zip(*(_aligned(column) for column in columns), strict=True):
        yield "  ".join(cells)


def _row(document: str, report: Report) -> list[Any] | None:
    """Counts of a document's verdicts and outcomes; ``None`` where only claims of others were collected."""
    claims = [claim for claim in report["claims"] if claim["document"] == document]
    if report["environment"]["partial"] and not any(claim["rerun"] for claim in claims):
        return None
    verdicts = Counter[str](claim["verdict"] for claim in claims)
    outcomes = Counter[str](claim["outcome"] for claim in claims if claim["rerun"])
    return [document, *(verdicts[verdict] for verdict in VERDICTS), *(outcomes[outcome] for outcome in OUTCOMES)]


def _aligned(column: Sequence[Any]) -> list[str]:
    cells = list(map(str, column))
    width = max(map(len, cells))
    return [cell.ljust(width) if column[0] == "document" else cell.rjust(width) for cell in cells]


def _controls(report: Report) -> str:
    controls = tally.controls(report["claims"])
    parts = [f"{controls.detected} of {controls.detected + controls.vacuous + controls.not_run} controls detected"]
    parts += [f"{controls.not_run} not run"] if controls.not_run else []
    parts += [f"{count(controls.claims_without, 'statement')} without a control"] if controls.claims_without else []
    return ", ".join(parts)


def _not_confirmed(report: Report) -> Iterator[str]:
    for concern in tally.concerns(report["claims"]):
        yield f"{concern.what.upper()} {concern.claim['id']}: {next(iter(concern.reasons), 'no reason given')}"


def _thin_margins(report: Report) -> Iterator[str]:
    from fitcore.testing.statistics import FLAKE

    for test in (test for claim in report["claims"] for test in claim["tests"]):
        for record in test["evidence"]:
            if record["type"] == "decision" and (risk := record["fresh_seed_failure"] or 0.0) > FLAKE:
                yield f"THIN MARGIN {test['nodeid']}: {record['name']}: fails on fresh seeds with p = {risk:.1e}"
