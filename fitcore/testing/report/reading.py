"""Reading ``claims.json`` back."""

import json
from pathlib import Path
from typing import cast

from fitcore.testing.errors import ClaimError
from fitcore.testing.report.schema import Report


def read_report(path: Path) -> Report:
    """Read a report.

    Args:
        path: a ``claims.json``, or the folder that holds one.

    Raises:
        ClaimError: if there is none, or it isn't a report of this version.

    """
    file = path / "claims.json" if path.is_dir() else path
    try:
        report = json.loads(file.read_text(encoding="utf-8"))
    except OSError as error:
        raise ClaimError(f"{file}: can't read the report: {error.strerror}") from error
    except ValueError as error:
        raise ClaimError(f"{file}: no JSON: {error}") from error
    if not isinstance(report, dict) or report.get("schema") != 2 or "claims" not in report:
        raise ClaimError(f"{file}: no report of claims, or one of another version")
    return cast(Report, report)
