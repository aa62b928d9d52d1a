"""Do verdicts depend on luck? ``python -m fitcore.testing.audit --seeds 20 claims/shapes`` runs claims again and again.

Every run moves all seeds of the suite (``--base-seed``). Claims that came out differently from run to run are listed,
and what can be said of those that never did: an upper bound on how often they might, and which assertions come close.
"""

import argparse
import os
import subprocess
import sys
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory

from fitcore.testing.errors import ClaimError
from fitcore.testing.margins import ENOUGH, Margin, margins
from fitcore.testing.report.reading import read_report
from fitcore.testing.report.schema import Decision, Report
from fitcore.testing.statistics import FLAKE, fresh_seed_failure

CONFIDENCE = 0.95
FEWEST_FOR_A_SPREAD = 5


@dataclass(frozen=True)
class Audit:
    """What became of claims over several base seeds.

    Attributes:
        runs: number of base seeds.
        failures: by statement, the base seeds under which it wasn't confirmed, or a control of it wasn't detected.
        claims: number of statements that ran.
        risks: by decision (its test's node id and name), the probability to fail on fresh seeds, estimated from its
            trials under all base seeds together.

    """

    runs: int
    failures: dict[str, list[int]]
    claims: int
    risks: dict[tuple[str, str], float]

    @property
    def bound(self) -> float:
        """Upper bound of the flake rate of a claim that never failed, of confidence ``CONFIDENCE``."""
        return 1 - (1 - CONFIDENCE) ** (1 / self.runs)


def audit(reports: Sequence[Report]) -> Audit:
    """Compare reports of the same claims under several base seeds."""
    ran, failures = set[str](), dict[str, list[int]]()
    decisions = dict[tuple[str, str], list[Decision]]()
    for report in reports:
        for claim in report["claims"]:
            if claim["outcome"] in ("confirmed", "violated", "error"):
                ran.add(claim["id"])
            if claim["outcome"] in ("violated", "error"):
                failures.setdefault(claim["id"], []).append(report["environment"]["base_seed"])
            for test in claim["tests"]:
                for record in test["evidence"]:
                    if record["type"] == "decision" and record["fresh_seed_failure"] is not None:
                        decisions.setdefault((test["nodeid"], record["name"]), []).append(record)
    return Audit(len(reports), failures, len(ran), {which: _risk(taken) for which, taken in decisions.items()})


def _risk(taken: Sequence[Decision]) -> float:
    hits = sum(round(decision["estimate"] * decision["trials"]) for decision in taken)
    seen = sum(decision["trials"] for decision in taken)
    return max(fresh_seed_failure(hits, seen, decision["trials"], decision["threshold"]) for decision in taken)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run pytest under each base seed and print what changed; 0 if nothing did."""
    options, pytest_arguments = _parser().parse_known_args(arguments)
    seeds = range(options.first_seed, options.first_seed + options.seeds)
    with TemporaryDirectory() as name, ThreadPoolExecutor(options.jobs) as pool:
        folder = Path(name)
        try:
            found = audit(list(pool.map(partial(_run, arguments=pytest_arguments, folder=folder), seeds)))
        except ClaimError as error:
            print(f"error: {error}", file=sys.stderr)
            return 2
        varying = margins([_notes(folder, seed) for seed in seeds]) if len(seeds) >= FEWEST_FOR_A_SPREAD else []
    for line in _told(found, varying):
        print(line)
    return int(bool(found.failures))


def _told(found: Audit, varying: Sequence[Margin]) -> Iterator[str]:
    """What the audit prints."""
    for claim, failed in sorted(found.failures.items()):
        yield f"{claim}: failed under {len(failed)} of {found.runs} base seeds: {', '.join(map(str, failed))}"
    steady = found.claims - len(found.failures)
    yield (
        f"{steady} of {found.claims} statements came out the same under all {found.runs} base seeds: "
        f"each fails with probability below {found.bound:.2g} ({CONFIDENCE:.0%} confidence)"
    )
    thin = sorted(((risk, which) for which, risk in found.risks.items() if risk > FLAKE), reverse=True)
    yield f"decisions on trials: {len(found.risks)}, of which {len(thin)} fail with probability above {FLAKE:g}"
    for risk, (test, decision) in thin:
        yield f"  {risk:.1e}: {test}: {decision}"
    if varying:
        close = [margin for margin in varying if margin.deviations < ENOUGH]
        yield (
            f"plain assertions about numbers that vary: {len(varying)}, "
            f"of which {len(close)} are less than {ENOUGH:.1f} standard deviations from failing"
        )
        for margin in close:
            yield f"  {margin.deviations:.1f}: {margin.test}, line {margin.line}: {margin.code}"


def _notes(folder: Path, seed: int) -> Path:
    """Where a run notes what its assertions compare."""
    return folder / f"{seed} margins"


def _run(seed: int, arguments: Sequence[str], folder: Path) -> Report:
    directory = folder / str(seed)
    command = [sys.executable, "-m", "pytest", *arguments, "--base-seed", str(seed), "--claim-report", str(directory)]
    noting = ["-p", "fitcore.testing.margins", "--claim-margins", str(_notes(folder, seed))]
    # What pytest has compiled for other runs doesn't tell of assertions that pass: these compile anew, all once.
    environment = os.environ | {"PYTHONPYCACHEPREFIX": str(folder / "bytecode")}
    done = subprocess.run(
        [*command, *noting, "-o", "enable_assertion_pass_hook=true", "-q"],
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )
    try:
        report = read_report(directory)
    except ClaimError as error:
        raise ClaimError(f"{error}\n{done.stdout}{done.stderr}".rstrip()) from None
    summary = (done.stdout.strip().splitlines() or ["nothing was said"])[-1]
    print(f"base seed {seed}: {summary.strip('= ')}", flush=True)
    return report


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m fitcore.testing.audit",
        description="Run claims under several base seeds. All other arguments are pytest's.",
    )
    parser.add_argument("--seeds", type=int, default=10, metavar="K", help="number of base seeds (default: 10)")
    parser.add_argument("--first-seed", type=int, default=1, metavar="N", help="the first of them (default: 1)")
    parser.add_argument("--jobs", type=int, default=1, metavar="J", help="runs at a time (default: 1)")
    return parser


if __name__ == "__main__":
    sys.exit(main())
