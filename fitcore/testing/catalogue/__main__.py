"""Catalogues from the command line: ``python -m fitcore.testing.catalogue {check,scaffold} ...``."""

import argparse
import sys
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

from fitcore.testing.catalogue.scaffold import scaffold
from fitcore.testing.catalogue.statements import load_document
from fitcore.testing.errors import ClaimError


def main(arguments: Sequence[str] | None = None) -> int:
    """Run a command; return its exit status: 1 where a catalogue has a mistake."""
    options = _parser().parse_args(arguments)
    return int(options.command(options))


def _check(options: argparse.Namespace) -> int:
    mistakes = 0
    for path in options.files:
        try:
            document = load_document(path)
        except ClaimError as error:
            mistakes += 1
            print(error)
        else:
            origins = Counter(statement.origin for statement in document.statements)
            counts = ", ".join(f"{count} {origin}" for origin, count in origins.items())
            print(f"{path}: {len(document.statements)} statements ({counts})" if counts else f"{path}: no statements")
    return int(mistakes > 0)


def _scaffold(options: argparse.Namespace) -> int:
    try:
        sys.stdout.write(scaffold(load_document(options.file)))
    except ClaimError as error:
        print(error, file=sys.stderr)
        return 1
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m fitcore.testing.catalogue", description="Catalogues of statements."
    )
    commands = parser.add_subparsers(required=True)
    check = commands.add_parser("check", help="read catalogues, and tell file and line of what is wrong")
    check.add_argument("files", nargs="+", type=Path, metavar="FILE")
    check.set_defaults(command=_check)
    stubs = commands.add_parser(
        "scaffold", help="a test module to begin with, on standard output: one stub a statement, failing until written"
    )
    stubs.add_argument("file", type=Path, metavar="FILE")
    stubs.set_defaults(command=_scaffold)
    return parser


if __name__ == "__main__":
    sys.exit(main())
