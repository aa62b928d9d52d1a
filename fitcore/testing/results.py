"""Gathers what the claims of a run left behind, writes the report and sums up."""

import platform
import re
import shlex
import time
from collections import defaultdict
from collections.abc import Sequence
from datetime import UTC, datetime
from importlib import metadata
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import pytest

from fitcore.testing.assembly import CollectedClaim, ItemRun, Run, assemble
from fitcore.testing.catalogue import Catalogue
from fitcore.testing.progress import ProgressLine
from fitcore.testing.report.schema import EnvironmentRecord, Report
from fitcore.testing.terminal import summarize

if TYPE_CHECKING:
    from fitcore.testing.report.pictures import Sketchbook

PHASES = {"setup", "call", "teardown"}


class Results:
    """Lives in the one process that sees every report, also under pytest-xdist."""

    def __init__(self, config: pytest.Config) -> None:
        self.config = config
        self.catalogue: Catalogue | None = None
        self.started = datetime.now(UTC)
        self.clock = time.perf_counter()
        self.interrupted = False
        self.uncollected = False
        self.hardware: dict[str, Any] = {}
        self.collected: dict[str, CollectedClaim] = {}
        self.reports: defaultdict[tuple[str, str | None], list[Any]] = defaultdict(list)
        self.report: Report | None = None
        self.page: Path | None = None
        self.trouble: list[str] = []
        self.recordings: list[str] = []
        self.directory: Path | None = None
        self.sketchbook: Sketchbook | None = None

    @pytest.hookimpl(tryfirst=True)
    def pytest_sessionstart(self, session: pytest.Session) -> None:
        """See to it that the report can be written; show the live line, where somebody watches."""
        self.directory = _report_directory(session.config)
        if self.directory is not None:
            self.sketchbook = _sketchbook(session.config)
        reporter = session.config.pluginmanager.get_plugin("terminalreporter")
        if reporter is not None and ProgressLine.suits(session.config, reporter):
            session.config.pluginmanager.register(ProgressLine(reporter), "fitcore.testing.progress")

    def pytest_collectreport(self, report: pytest.CollectReport) -> None:
        """Note that claims may be missing from the collection."""
        self.uncollected |= report.failed

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        """Keep the reports of claims and of their controls."""
        claim = getattr(report, "claim", None)
        if claim is None and report.when not in PHASES:
            claim = self._killed(report)
        if claim is None:
            return
        process = claim.pop("process", None)
        if process is not None:
            self.collected |= {collected["nodeid"]: collected for collected in process.pop("collected")}
            self.hardware = process
        self.reports[claim["nodeid"], claim["control"]].append(report)
        if self.sketchbook is not None:
            self.sketchbook.begin(claim.get("evidence", []))

    def _killed(self, report: Any) -> dict[str, Any] | None:
        """What to attach to the report that pytest-xdist makes up for the test at which a worker died."""
        begun = (key for key, reports in self.reports.items() if reports[0].nodeid == report.nodeid)
        key = next(begun, (report.nodeid, None) if report.nodeid in self.collected else None)
        if key is not None:
            report.claim = {"nodeid": key[0], "control": key[1], "failure": "crash"}
        return getattr(report, "claim", None)

    def pytest_keyboard_interrupt(self) -> None:
        """Note that the report will be of an interrupted run."""
        self.interrupted = True

    def pytest_internalerror(self) -> None:
        """Note so too where pytest itself breaks down: under a plugin, or without workers that live."""
        self.interrupted = True

    def pytest_sessionfinish(self, session: pytest.Session) -> None:
        """Write the report of what ran, however the run ended."""
        if self.catalogue is None or not self.collected:
            return
        items = {key: item for key, reports in self.reports.items() if (item := _item_run(reports))}
        run = Run(list(self.collected.values()), items, self._environment(), self._rerun)
        self.report = assemble(self.catalogue, run)
        self.trouble += _missing_claims(self.catalogue, self.report)
        if self.directory is not None:
            from fitcore.testing.report import write_report
            from fitcore.testing.report.recorded import with_recordings

            shown, self.recordings = with_recordings(self.report, self._folders_of_recordings())
            try:
                self.page = write_report(shown, self.directory, self.sketchbook)
            except (OSError, ValueError) as error:
                self.trouble.append(f"can't write the report to {self.directory}: {error}")
        if self.trouble and session.exitstatus == pytest.ExitCode.OK:
            session.exitstatus = pytest.ExitCode.TESTS_FAILED

    def pytest_unconfigure(self) -> None:
        """Leave no process behind."""
        if self.sketchbook is not None:
            self.sketchbook.close()

    def pytest_terminal_summary(self, terminalreporter: pytest.TerminalReporter) -> None:
        """Show document x verdict, what is not confirmed and why, and where the report is."""
        if self.report is not None:
            summarize(terminalreporter, self.report, self.trouble, self.page)
            for line in self.recordings:
                terminalreporter.write_line(line, yellow=True)

    def _folders_of_recordings(self) -> list[Path]:
        """Those that the configuration names; none for a run that is recorded there itself, as it is."""
        folders: list[Path] = self.config.getini("claim_recorded")
        assert self.directory is not None
        of_report = self.directory.resolve()
        return [] if any(of_report.is_relative_to(folder.resolve()) for folder in folders) else folders

    def _environment(self) -> EnvironmentRecord:
        option = self.config.option
        return {
            "python": platform.python_version(),
            "platform": platform.platform(),
            "torch": _version("torch"),
            "torchvision": _version("torchvision"),
            "numpy": _version("numpy"),
            "device": self.hardware["device"],
            "threads": self.hardware["threads"],
            "base_seed": option.base_seed,
            "trials_scale": option.trials,
            "controls": option.controls,
            "started": self.started.isoformat(timespec="seconds"),
            "duration_s": round(time.perf_counter() - self.clock, 3),
            "command": shlex.join(["pytest", *map(str, self.config.invocation_params.args)]),
            "partial": self._partial(),
            "interrupted": self.interrupted,
        }

    def _partial(self) -> bool:
        """Whether claims may exist that weren't collected, so that ``pending`` says nothing."""
        option, here = self.config.option, self.config.invocation_params.dir
        asked = [(here / argument).resolve() for argument in self.config.args]
        folders = [path if path.is_dir() else path.parent for path in self.config.getini("claim_catalogue")]
        covered = all(any(folder.resolve().parent.is_relative_to(path) for path in asked) for folder in folders)
        narrowed = option.ignore or option.ignore_glob or getattr(option, "lf", False)
        return bool(narrowed) or self.uncollected or not covered

    def _rerun(self, tests: Sequence[str]) -> str:
        option = self.config.option
        arguments = ["pytest", *tests, "--base-seed", str(option.base_seed)]
        arguments += ["--trials", f"{option.trials:g}"] if option.trials != 1 else []
        arguments += [f"--data-root={option.data_root}"] if option.data_root else []
        return shlex.join(arguments)


def _report_directory(config: pytest.Config) -> Path | None:
    """The directory of ``--claim-report``, known to be writable before anything runs; ``None`` for none."""
    if config.option.claim_report == "none" or config.option.collectonly:
        return None
    given = config.option.claim_report
    directory = config.invocation_params.dir / given if given else config.rootpath / "reports" / "latest"
    try:
        directory.mkdir(parents=True, exist_ok=True)
        probe = directory / ".writable"
        probe.touch()
        probe.unlink(missing_ok=True)  # as another run may have done, which begins just now
    except OSError as error:
        raise pytest.UsageError(f"--claim-report: can't write to {directory}: {error.strerror}") from None
    return directory


def _sketchbook(config: pytest.Config) -> "Sketchbook | None":
    """One, if there is a core to draw on that no process of this run works on."""
    # Imported here, since an installed plugin is loaded by every pytest run.
    import joblib

    from fitcore.testing.report.pictures import Sketchbook

    return Sketchbook() if joblib.cpu_count() > (config.getoption("numprocesses", None) or 1) else None


def _item_run(reports: Sequence[Any]) -> ItemRun | None:
    """What the reports of an item's phases say together; ``None`` where it was cut short."""
    outcome: Literal["passed", "failed", "error", "skipped"] = "passed"
    decisive = next((report for report in reports if not report.passed), None)
    if decisive is not None and decisive.failed:
        outcome = "error" if decisive.claim["failure"] == "crash" else "failed"
    elif decisive is not None:
        outcome = "skipped"
    elif {report.when for report in reports} != PHASES:
        return None
    return ItemRun(
        nodeid=reports[0].nodeid,
        outcome=outcome,
        reason=None if decisive is None else _reason(decisive.longrepr),
        duration_s=sum(report.duration for report in reports),
        trials=next((report.claim["trials"] for report in reports if "trials" in report.claim), None),
        evidence=[record for report in reports for record in report.claim.get("evidence", [])],
    )


def _reason(longrepr: Any) -> str:
    """Why an item failed or was skipped, in one line."""
    if isinstance(longrepr, tuple):
        return str(longrepr[2]).removeprefix("Skipped: ")
    crash = getattr(longrepr, "reprcrash", None)
    text = str(longrepr) if crash is None else crash.message
    return re.sub("^(AssertionError|Failed|Vacuous): ", "", text).strip().partition("\n")[0]


def _missing_claims(catalogue: Catalogue, report: Report) -> list[str]:
    """What a document that calls itself complete still lacks, where everything was collected."""
    if report["environment"]["partial"]:
        return []
    pending = {claim["id"] for claim in report["claims"] if claim["verdict"] == "pending"}
    return [
        f"{statement.location}: {statement.id} has no claim, although its document says complete = true"
        for document in catalogue.documents
        if document.complete
        for statement in document.statements
        if statement.id in pending
    ]


def _version(package: str) -> str | None:
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return None
