"""The drawings of a report as they go into its page."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any
from urllib.parse import quote

from markupsafe import Markup

from fitcore.testing.report import plots
from fitcore.testing.report.schema import Comparison, Curve, Observation, Report

# So many take longer than other processes need to start.
WORTH_SHARING = 150


@dataclass(frozen=True)
class Picture:
    """A drawing as a data URI, or the reason why there is none."""

    source: str | None
    failure: str | None


def illustrated(report: Report) -> dict[str, Any]:
    """Return the report with a ``picture`` in all evidence, None if it isn't drawn: by all cores if there is much."""
    from joblib import Parallel, delayed

    jobs = -1 if sum(1 for _ in _drawn(report)) >= WORTH_SHARING else 1
    drawings = iter(Parallel(n_jobs=jobs, backend="loky")(map(delayed(picture), _drawn(report))))

    def with_picture(evidence: Any) -> Any:
        return {**evidence, "picture": next(drawings) if is_drawn(evidence) else None}

    def with_pictures(test: Any) -> Any:
        return {**test, "evidence": list(map(with_picture, test["evidence"]))}

    claims = [{**claim, "tests": list(map(with_pictures, claim["tests"]))} for claim in report["claims"]]
    return {**report, "claims": claims}


def is_drawn(evidence: Any) -> bool:
    """Whether a drawing shows more than a line of text: of one number, or one that never varies, it doesn't."""
    if evidence["type"] == "observation":
        return bool(evidence["minimum"] < evidence["maximum"])
    return evidence["type"] in ("comparison", "curve")


def picture(evidence: Observation | Comparison | Curve) -> Picture:
    """Draw the evidence; a report is worth more than any one drawing in it, so a failure becomes its text."""
    try:
        svg = plots.draw(evidence)
    except Exception as error:
        return Picture(None, f"{type(error).__name__}: {error}")
    # Nothing is left that would have to be escaped in an attribute; base64 would take a third more.
    return Picture(Markup("data:image/svg+xml," + quote(svg, safe=" !$'()*+,-./:;=?@[]_{|}~")), None)


def _drawn(report: Report) -> Iterator[Any]:
    """Yield what is drawn, in the order in which it stands in the report."""
    for claim in report["claims"]:
        for test in claim["tests"]:
            yield from filter(is_drawn, test["evidence"])
