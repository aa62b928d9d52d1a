"""The report of a run: ``claims.json`` for engineers, ``index.html`` for readers, ``summary.md`` for a CI job."""

import json
import os
from pathlib import Path

from fitcore.testing.report.html import render_page, render_summary
from fitcore.testing.report.pictures import Sketchbook
from fitcore.testing.report.schema import Report

__all__ = ["Report", "write_report"]


def write_report(report: Report, directory: Path, sketchbook: Sketchbook | None = None) -> Path:
    """Write the three files of a report into the directory and return the path of ``index.html``.

    All are rendered and written to drafts before the first of them takes its predecessor's place, each in one step: a
    reader, a full disk or a run cut short never leaves half a file, nor the pages of one run beside the numbers of
    another. What the sketchbook holds isn't drawn again. Raises ``ValueError`` if the report holds a number that JSON
    cannot express.
    """
    files = {
        "claims.json": json.dumps(report, allow_nan=False, ensure_ascii=False, indent=1) + "\n",
        "index.html": render_page(report, sketchbook),
        "summary.md": render_summary(report),
    }
    directory.mkdir(parents=True, exist_ok=True)
    drafts = {name: directory / f".{name}.{os.getpid()}" for name in files}
    try:
        for name, draft in drafts.items():
            _write(draft, files[name])
        for name, draft in drafts.items():
            os.replace(draft, directory / name)
    finally:
        for draft in drafts.values():
            draft.unlink(missing_ok=True)
    return directory / "index.html"


def _write(path: Path, text: str) -> None:
    """Write text, and force it to the disk, which may only then turn out to be full.

    Half a surrogate pair, as in the name of a file that is no UTF-8, is written as its escape: JSON's is the same.
    """
    with path.open("w", encoding="utf-8", errors="backslashreplace") as file:
        file.write(text)
        file.flush()
        os.fsync(file.fileno())
