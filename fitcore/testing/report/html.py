"""The pages: ``index.html`` for readers and ``summary.md`` for a CI job."""

import re
from dataclasses import dataclass
from functools import cache
from typing import TYPE_CHECKING
from urllib.parse import quote

from markupsafe import Markup

from fitcore.testing.report import plots, tally, wording
from fitcore.testing.report.schema import Comparison, Curve, Observation, Report

if TYPE_CHECKING:
    from jinja2 import Environment


@dataclass(frozen=True)
class Picture:
    """A drawing as a data URI, or the reason why there is none."""

    source: str | None
    failure: str | None


def render_page(report: Report) -> str:
    """Render ``index.html``: one file that loads nothing."""
    return _templates().get_template("index.html.j2").render(report=report)


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
        "picture": picture,
        "markdown": markdown,
        "code": code,
    }
    return templates


def picture(evidence: Observation | Comparison | Curve) -> Picture:
    """Draw the evidence; a report is worth more than any one drawing in it, so a failure becomes its text."""
    try:
        svg = plots.draw(evidence)
    except Exception as error:
        return Picture(None, f"{type(error).__name__}: {error}")
    # Nothing is left that would have to be escaped in an attribute; base64 would take a third more.
    return Picture(Markup("data:image/svg+xml," + quote(svg, safe=" !$'()*+,-./:;=?@[]_{|}~")), None)


def markdown(text: str) -> str:
    """Escape text for a line or a table cell of GitHub-flavoured Markdown."""
    return re.sub(r"([\\`*_\[\]<>|~$])", r"\\\1", " ".join(text.split()))


def code(text: str) -> str:
    """Mark text as code in Markdown, whatever backticks it contains."""
    fence = "`" * (1 + max((len(ticks) for ticks in re.findall("`+", text)), default=0))
    padding = " " if "`" in text else ""
    return f"{fence}{padding}{text}{padding}{fence}"
