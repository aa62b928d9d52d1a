"""The pages: ``index.html`` for readers and ``summary.md`` for a CI job."""

import re
from functools import cache
from typing import TYPE_CHECKING

from fitcore.testing.report import tally, wording
from fitcore.testing.report.pictures import Sketchbook, illustrated
from fitcore.testing.report.schema import Report

if TYPE_CHECKING:
    from jinja2 import Environment


def render_page(report: Report, sketchbook: Sketchbook | None = None) -> str:
    """Render ``index.html``: one file that loads nothing. What the sketchbook holds isn't drawn again."""
    return _templates().get_template("index.html.j2").render(report=illustrated(report, sketchbook))


def render_summary(report: Report) -> str:
    """Render ``summary.md`` in GitHub-flavoured Markdown."""
    return _templates().get_template("summary.md.j2").render(report=report)


def render_verdicts(report: Report) -> str:
    """Render the table of all verdicts in GitHub-flavoured Markdown, which depends on no measurement."""
    return _templates().get_template("verdicts.md.j2").render(report=report)


@cache
def _templates() -> "Environment":
    # Imported here: a run that writes no report needs no template engine.
    from jinja2 import Environment, PackageLoader, StrictUndefined, select_autoescape

    templates = Environment(
        loader=PackageLoader("fitcore.testing.report"),
        autoescape=select_autoescape(enabled_extensions=["html.j2"]),
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    templates.globals |= {"tally": tally, "wording": wording}
    templates.filters |= {
        "cell": wording.cell,
        "conclusion": wording.conclusion,
        "decision": wording.decision,
        "duration": wording.duration,
        "moment": wording.moment,
        "number": wording.number,
        "observed": wording.observed,
        "markdown": markdown,
        "code": code,
    }
    return templates


def markdown(text: str) -> str:
    """Escape text for a line or a table cell of GitHub-flavoured Markdown."""
    return re.sub(r"([\\`*_\[\]<>|~$])", r"\\\1", " ".join(text.split()))


def code(text: str) -> str:
    """Mark text as code in a line of Markdown, whatever backticks it contains."""
    text = " ".join(text.splitlines())
    fence = "`" * (1 + max((len(ticks) for ticks in re.findall("`+", text)), default=0))
    padding = " " if "`" in text else ""
    return f"{fence}{padding}{text}{padding}{fence}"
