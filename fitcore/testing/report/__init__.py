"""The report of a run: ``claims.json`` for engineers, ``index.html`` for readers, ``summary.md`` for a CI job."""

import json
import os
from pathlib import Path

from fitcore.testing.report.html import render_page, render_summary
from fitcore.testing.report.schema import Report

__all__ = ["Report", "write_report"]


def write_report(report: Report, directory: Path) -> Path:
    """Write the three files of a report into the directory and return the path of ``index.html``.

    All are rendered before the first is written, and each replaces its predecessor in one step: a reader, or a run cut
    short, never meets half a file. Raises ``ValueError`` if the report holds a number that JSON cannot express.
    """
    files = {
        "claims.json": json.dumps(report, allow_nan=False, ensure_ascii=False, indent=1) + "\n",
        "index.html": render_page(report),
        "summary.md": render_summary(report),
    }
    directory.mkdir(parents=True, exist_ok=True)
    for name, text in files.items():
        _replace(directory / name, text)
    return directory / "index.html"


def _replace(path: Path, text: str) -> None:
    draft = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        draft.write_text(text, encoding="utf-8")
        os.replace(draft, path)
    finally:
        draft.unlink(missing_ok=True)
