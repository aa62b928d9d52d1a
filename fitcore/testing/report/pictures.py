"""The drawings of a report as they go into its page."""

import json
import signal
from collections.abc import Iterable, Iterator
from concurrent.futures import BrokenExecutor, Future, ProcessPoolExecutor
from contextlib import suppress
from dataclasses import dataclass
from multiprocessing import get_context
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


class Sketchbook:
    """Pictures that another process draws while claims still run, once there are enough of them to be worth one."""

    def __init__(self) -> None:
        self._pool: ProcessPoolExecutor | None = None
        self._waiting: list[Any] = []
        self._begun: dict[str, Future[Picture]] = {}

    def begin(self, evidence: Iterable[Any]) -> None:
        """Have it drawn. Where no process can be started, or it has died, that is left for the end."""
        self._waiting += filter(is_drawn, evidence)
        if self._pool is None and len(self._waiting) < WORTH_SHARING:
            return
        with suppress(OSError, BrokenExecutor):
            self._pool = self._pool or ProcessPoolExecutor(1, get_context("spawn"), initializer=_ignore_interrupts)
            self._begun |= {_content(record): self._pool.submit(picture, record) for record in self._waiting}
        self._waiting.clear()

    def pictures(self) -> dict[str, Picture]:
        """Wait for what was begun, and return by content what was finished."""
        return {content: future.result() for content, future in self._begun.items() if not future.exception()}

    def close(self) -> None:
        """End the process, whatever it still has to do."""
        if self._pool is not None:
            self._pool.shutdown(cancel_futures=True)


def illustrated(report: Report, sketchbook: Sketchbook | None = None) -> dict[str, Any]:
    """Return the report with a ``picture`` in all evidence, None if it isn't drawn.

    What no sketchbook has is drawn now, by all cores if there is much of it.
    """
    from joblib import Parallel, delayed

    pictures = {} if sketchbook is None else sketchbook.pictures()
    left = {content: evidence for evidence in _drawn(report) if (content := _content(evidence)) not in pictures}
    jobs = -1 if len(left) >= WORTH_SHARING else 1
    pictures |= zip(left, Parallel(n_jobs=jobs, backend="loky")(map(delayed(picture), left.values())), strict=True)

    def with_picture(evidence: Any) -> Any:
        return {**evidence, "picture": pictures[_content(evidence)] if is_drawn(evidence) else None}

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


def _ignore_interrupts() -> None:
    """Ctrl-C ends the run, not its report."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)


def _drawn(report: Report) -> Iterator[Any]:
    """Yield what is drawn, in the order in which it stands in the report."""
    for claim in report["claims"]:
        for test in claim["tests"]:
            yield from filter(is_drawn, test["evidence"])


def _content(evidence: Any) -> str:
    """What a drawing shows: the same evidence of several claims is drawn once."""
    return json.dumps(evidence, sort_keys=True)
