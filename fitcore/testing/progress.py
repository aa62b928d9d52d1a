"""The live line: where a run stands, rewritten in place on a terminal."""

import shutil
from collections.abc import Generator
from typing import Any

import pytest


class ProgressLine:
    """Replaces pytest's dots, at its default verbosity, by one line that is rewritten after every test."""

    def __init__(self, reporter: pytest.TerminalReporter) -> None:
        self.reporter = reporter
        self.total = self.done = self.failed = 0
        reporter.showfspath = False

    @staticmethod
    def suits(config: pytest.Config, reporter: pytest.TerminalReporter) -> bool:
        """Whether somebody watches a terminal and asked for neither more, less nor unbuffered output."""
        captured = config.getoption("capture") != "no"
        return reporter.isatty() and config.get_verbosity() == 0 and captured

    def pytest_collection_finish(self, session: pytest.Session) -> None:
        """Learn how many tests there are."""
        self.total = len(session.items)

    def pytest_xdist_node_collection_finished(self, ids: list[str]) -> None:
        """Learn how many tests there are, where workers collect them."""
        self.total = len(ids)

    @pytest.hookimpl(wrapper=True)
    def pytest_report_teststatus(self) -> Generator[None, tuple[Any, ...], tuple[Any, ...]]:
        """Keep the category that the final counts go by, but print no letter."""
        category, *_ = yield
        return category, "", ""

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        """Rewrite the line."""
        self.failed += report.failed
        self.done += report.when == "teardown"
        name = report.nodeid.rpartition("/")[2]
        line = f"{self.done}/{self.total} tests, {self.failed} failed  {name}"
        self.reporter.rewrite(line[: shutil.get_terminal_size().columns - 1], erase=True)

    @pytest.hookimpl(tryfirst=True)
    def pytest_sessionfinish(self) -> None:
        """Make room for the summary."""
        self.reporter.rewrite("", erase=True)
