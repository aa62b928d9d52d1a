"""The same claims under several versions of torch: ``python -m fitcore.testing.versions 2.15 2.13 2.11 -- claims``.

For each version there is a virtual environment, made at the first run and kept, with that torch, the torchvision that
belongs to it, and the project. The claims run in each, and what the others found is compared with the first: on
standard output, and in a report of all runs together.
"""

import argparse
import os
import re
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

from fitcore.testing.errors import ClaimError
from fitcore.testing.report import Report, write_report
from fitcore.testing.report.differences import differences, summary
from fitcore.testing.report.merging import merge
from fitcore.testing.report.reading import read_report


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the claims under each version; 0 if they came to the same, 1 if a verdict or an outcome changed.

    That claims fail in a run is no failure of this command: it is there to find them. 2 if a run couldn't be had.
    """
    given = list(sys.argv[1:] if arguments is None else arguments)
    end = given.index("--") if "--" in given else len(given)
    options = _parser().parse_args(given[:end])
    try:
        reports = []
        for version in options.versions:
            print(f"torch {version}: installing", flush=True)
            python = environment(version, options.cache, options.install or ["-e."])
            print(f"torch {version}: running", flush=True)
            reports.append(run(version, python, given[end + 1 :], options.output / f"torch-{version}"))
        page = write_report(merge(*reports), options.output)
    except (ClaimError, OSError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    decisive = False
    for version, report in zip(options.versions[1:], reports[1:], strict=True):
        changes = differences(reports[0], report)
        print(f"\nfrom torch {options.versions[0]} to {version}:", *changes, summary(changes), sep="\n")
        decisive |= any(change.decisive for change in changes)
    print(f"\nreport of all runs: {page}")
    return int(decisive)


def environment(version: str, cache: Path, specifiers: Sequence[str]) -> Path:
    """Make a virtual environment ready, or find it so, and return its Python.

    Raises:
        ClaimError: if a step fails, in the words of the tool that failed.
    """
    folder = cache.resolve() / f"torch-{version}"
    python = folder / ("Scripts" if os.name == "nt" else "bin") / "python"
    if not python.exists():
        _step(version, sys.executable, "-m", "venv", folder)
    _step(version, python, "-m", "pip", "install", "--quiet", _pinned(version), "torchvision", *specifiers)
    # A build for CPUs, say, and a torchvision for another fit by their numbers, and yet don't work together.
    _step(version, python, "-c", "import torchvision.ops")
    return python


def run(version: str, python: Path, arguments: Sequence[str], directory: Path) -> Report:
    """Run pytest in an environment, and return its report, which is left in ``directory``.

    Raises:
        ClaimError: the run left no report, or one of another torch.
    """
    (directory / "claims.json").unlink(missing_ok=True)
    command: list[str | Path] = [python, "-m", "pytest", *arguments, f"--claim-report={directory.resolve()}"]
    status = subprocess.run(command, check=False).returncode
    if not (directory / "claims.json").exists():
        raise ClaimError(f"torch {version}: pytest left no report; its exit status is {status}")
    report = read_report(directory)
    found = str(report["environment"]["torch"])
    if not f"{found.partition('+')[0]}.".startswith(f"{version}."):
        raise ClaimError(f"torch {version}: the claims ran under torch {found}")
    return report


def _pinned(version: str) -> str:
    """``2.13`` is any 2.13.x; three numbers are just that release, and no local build of it."""
    return f"torch==={version}" if version.count(".") >= 2 else f"torch=={version}.*"


def _step(version: str, *command: str | Path) -> None:
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        said = (done.stderr or done.stdout).strip() or f"exit status {done.returncode}"
        raise ClaimError(f"torch {version}: {' '.join(map(str, command))} failed:\n{said}")


def _version(text: str) -> str:
    if not re.fullmatch(r"\d+\.\d+(\.\d+)?", text):
        raise argparse.ArgumentTypeError(f"must be a version such as 2.11 or 2.11.0, got {text!r}")
    return text


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m fitcore.testing.versions",
        description="Run claims under several versions of torch, and compare what they came to with the first.",
        usage="%(prog)s [options] VERSION VERSION... [-- ARGUMENT OF PYTEST...]",
    )
    parser.add_argument("versions", nargs="+", type=_version, metavar="VERSION", help="of torch: 2.11, or 2.11.0")
    parser.add_argument(
        "--cache",
        type=Path,
        default=Path(".venv") / "versions",
        metavar="DIR",
        help="where the environments are kept, some GB each (default: %(default)s)",
    )
    parser.add_argument(
        "--install",
        action="append",
        metavar="SPEC",
        help="what pip installs besides torch and torchvision, e.g. '-e.[test]'; may be repeated (default: '-e.')",
    )
    parser.add_argument(
        "-o",
        "--output",
        type=Path,
        default=Path("reports") / "versions",
        metavar="DIR",
        help="where the reports go (default: %(default)s)",
    )
    return parser


if __name__ == "__main__":
    sys.exit(main())
