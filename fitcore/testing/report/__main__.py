"""Reports from the command line: ``python -m fitcore.testing.report {render,compare,verdicts} ...``."""

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from fitcore.testing.errors import ClaimError
from fitcore.testing.report import write_report
from fitcore.testing.report.differences import differences, summary
from fitcore.testing.report.html import render_verdicts
from fitcore.testing.report.merging import merge
from fitcore.testing.report.reading import read_report


def main(arguments: Sequence[str] | None = None) -> int:
    """Run a command; return its exit status: 0, 1 where ``compare`` found a verdict changed, 2 for a mistake."""
    options = _parser().parse_args(arguments)
    try:
        return int(options.command(options))
    except (ClaimError, OSError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 2


def _render(options: argparse.Namespace) -> int:
    print(write_report(merge(*map(read_report, options.reports)), options.output))
    return 0


def _compare(options: argparse.Namespace) -> int:
    changes = differences(read_report(options.before), read_report(options.after))
    print(*changes, summary(changes), sep="\n")
    return int(any(change.decisive for change in changes))


def _verdicts(options: argparse.Namespace) -> int:
    sys.stdout.write(render_verdicts(merge(*map(read_report, options.reports))))
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m fitcore.testing.report",
        description="Reports of claims. A report is given as its claims.json, or the folder that holds it.",
    )
    commands = parser.add_subparsers(required=True)
    render = commands.add_parser(
        "render", help="write the pages of a report, with what other runs add to it where it has no result itself"
    )
    render.add_argument("reports", nargs="+", type=Path, metavar="REPORT", help="the first one counts most")
    render.add_argument("-o", "--output", type=Path, required=True, metavar="DIR", help="where to write the pages")
    render.set_defaults(command=_render)
    compare = commands.add_parser("compare", help="what changed between two runs; exits 1 if a verdict or outcome did")
    compare.add_argument("before", type=Path)
    compare.add_argument("after", type=Path)
    compare.set_defaults(command=_compare)
    verdicts = commands.add_parser("verdicts", help="a table of all verdicts in Markdown, on standard output")
    verdicts.add_argument("reports", nargs="+", type=Path, metavar="REPORT")
    verdicts.set_defaults(command=_verdicts)
    return parser


if __name__ == "__main__":
    sys.exit(main())
