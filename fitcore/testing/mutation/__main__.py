"""Mutation from the command line: ``python -m fitcore.testing.mutation fitcore.schedulers --tests fitcore/tests``."""

import argparse
import json
import random
import sys
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, get_args

import pytest

from fitcore.testing.errors import ClaimError
from fitcore.testing.mutation.campaign import Campaign, Outcome, Reached, Result
from fitcore.testing.mutation.explanations import Explanation, explanations, stale
from fitcore.testing.mutation.mutants import find_living, sources

SETTINGS = (
    *("-qq", "--disable-warnings", "--claim-report=none", "--controls=skip", "--hypothesis-seed=0"),
    *("-p", "no:cacheprovider", "-p", "no:faulthandler"),  # which would write, or tell, something of every mutant
)


def main(arguments: Sequence[str] | None = None) -> int:
    """Try the mutants and print what nobody noticed; 0 if all of that is explained, and 2 if nothing could be tried."""
    options = _parser().parse_args(arguments)
    try:
        explained = explanations(options.explained)
        campaign = _torch_campaign(options) if options.torch else _campaign(options, explained)
    except ClaimError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    with TemporaryDirectory() as folder:
        status = pytest.main([*SETTINGS, f"--basetemp={folder}/tests", *options.tests], [campaign])
    if status not in (pytest.ExitCode.OK, pytest.ExitCode.NO_TESTS_COLLECTED):
        return 2
    if options.output:
        options.output.write_text(json.dumps([_record(result) for result in campaign.results], indent=1) + "\n")
    print(_summary(campaign.results))
    if options.torch:
        return int(any(result.outcome == "survived" for result in campaign.results))
    survivors = [result.change for result in campaign.results if result.outcome in ("survived", "unreached")]
    unexplained = [mutant for mutant in survivors if _reason(mutant, explained) is None]
    old = stale(explained, options.targets, survivors) if not options.limit else []
    for explanation in old:
        print(f"stale explanation: {explanation.function}: {explanation.before} -> {explanation.after}")
    print(f"{len(survivors)} survivors, {len(unexplained)} of them unexplained")
    return int(bool(unexplained or old))


def _campaign(options: argparse.Namespace, explained: Sequence[Explanation]) -> Campaign:
    found = sources(options.targets)
    mutants = [mutant for source in found for mutant in source.mutants()]
    if options.limit and options.limit < len(mutants):
        chosen = set(random.Random(0).sample(range(len(mutants)), options.limit))
        mutants = [mutant for number, mutant in enumerate(mutants) if number in chosen]

    def watch(reached: Reached) -> None:
        for source in found:
            source.watch(reached)

    def heard(result: Result) -> str:
        survived = result.outcome in ("survived", "unreached") and _reason(result.change, explained) is None
        return _told(result) if survived or options.all else ""

    return Campaign(mutants, watch, prepare=lambda: find_living(found), exhaustive=options.all, heard=heard)


def _torch_campaign(options: argparse.Namespace) -> Campaign:
    from fitcore.testing.mutation.torch_faults import FAULTS, watch

    return Campaign(FAULTS[: options.limit], watch, exhaustive=options.all, heard=_told)


def _told(result: Result) -> str:
    change, reached = result.change, len(result.reaching)
    noticed = f"noticed by {len(result.noticed)}: {', '.join(result.noticed)}" if result.noticed else ""
    return (
        f"{change.where}\n  - {change.before}\n  + {change.after}\n"
        f"  {result.outcome}, reached by {reached} tests{', ' if noticed else ''}{noticed}"
    )


def _summary(results: Sequence[Result]) -> str:
    counts = Counter(result.outcome for result in results)
    return f"{len(results)} mutants: " + ", ".join(f"{counts[outcome]} {outcome}" for outcome in get_args(Outcome))


def _reason(mutant: Any, explained: Sequence[Explanation]) -> str | None:
    return next((explanation.reason for explanation in explained if explanation.explains(mutant)), None)


def _record(result: Result) -> dict[str, Any]:
    change = {key: getattr(result.change, key) for key in ("where", "before", "after")}
    return {**change, "outcome": result.outcome, "reaching": result.reaching, "noticed": result.noticed}


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m fitcore.testing.mutation",
        description="Break code, one operator at a time, and tell which tests notice.",
    )
    parser.add_argument("targets", nargs="*", metavar="MODULE", help="package, module or module:function to break")
    parser.add_argument(
        "--tests",
        nargs="+",
        default=["fitcore/tests"],
        metavar="PATH",
        help="the tests that should notice, as pytest takes them (default: fitcore/tests)",
    )
    parser.add_argument("--torch", action="store_true", help="break functions of torch instead")
    parser.add_argument("--all", action="store_true", help="tell of every mutant all tests that notice")
    parser.add_argument("--limit", type=int, metavar="N", help="try N mutants, drawn from all")
    parser.add_argument(
        "--explained",
        type=Path,
        default=Path("reports/mutants.toml"),
        metavar="FILE",
        help="why some survive (default: reports/mutants.toml)",
    )
    parser.add_argument("-o", "--output", type=Path, metavar="FILE", help="where to write what was found, as JSON")
    return parser


if __name__ == "__main__":
    sys.exit(main())
