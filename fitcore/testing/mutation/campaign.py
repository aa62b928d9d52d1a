"""Runs tests against mutants: a pytest plugin that replaces pytest's own loop once the tests are collected."""

import gc
import mmap
import multiprocessing
import os
import signal
import time
import traceback
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from functools import partial
from multiprocessing.connection import Connection
from typing import Any, Literal, Protocol, TypeVar

import pytest

T = TypeVar("T")
Measurement = tuple[float, bool]
"""Seconds that a test took, and whether it failed."""
Outcome = Literal["killed", "timed out", "survived", "unreached"]


class Change(Protocol):
    """What can be broken."""

    @property
    def statement(self) -> object:
        """What a test has to reach for it to matter."""

    def apply(self) -> None:
        """Break it, for the rest of this process."""


@dataclass(frozen=True)
class Result:
    """What became of a mutant.

    Attributes:
        change: the mutant.
        outcome: whether a test failed or took far too long, or none did, or none reaches it.
        reaching: the tests that were run, the cheapest first.
        noticed: those of them that failed: the first, or all where all were run.

    """

    change: Any
    outcome: Outcome
    reaching: tuple[str, ...]
    noticed: tuple[str, ...] = ()


@dataclass(frozen=True)
class _Test:
    item: pytest.Item
    cost: float  # seconds of this process's processor time
    reached: frozenset[object]


class Reached:
    """Which statements were reached, by this process or by one that it has forked."""

    def __init__(self, statements: Iterable[object]) -> None:
        self._places = {statement: place for place, statement in enumerate(dict.fromkeys(statements))}
        self._marks = mmap.mmap(-1, max(len(self._places), 1))

    def add(self, statement: object) -> None:
        """Note one; others than those of the mutants don't matter."""
        if statement in self._places:
            self._marks[self._places[statement]] = 1

    def take(self) -> frozenset[object]:
        """Those that were reached, which are then forgotten."""
        found = frozenset(statement for statement, place in self._places.items() if self._marks[place])
        self._marks[:] = bytes(len(self._marks))
        return found


class Campaign:
    """The plugin.

    Args:
        changes: the mutants.
        watch: makes this process note the statements that it reaches.
        prepare: called when the tests, and with them the code, have been imported.
        exhaustive: whether to run every test that reaches a mutant, and not to stop at the first that fails.
        heard: called with each result, and with a line for the reader.

    """

    def __init__(
        self,
        changes: Sequence[Change],
        watch: Callable[[Reached], None],
        *,
        prepare: Callable[[], None] = lambda: None,
        exhaustive: bool = False,
        heard: Callable[[Result], str] = lambda result: "",
    ) -> None:
        self.changes, self.watch, self.prepare, self.exhaustive = changes, watch, prepare, exhaustive
        self.heard = heard
        self.results: list[Result] = []
        self.failing: list[str] = []

    @pytest.hookimpl(tryfirst=True)
    def pytest_collection(self) -> None:
        """Let Hypothesis stop at the first failing example: nobody reads a shrunk one."""
        import hypothesis

        phases = [hypothesis.Phase.explicit, hypothesis.Phase.generate]
        hypothesis.settings.register_profile("mutation", hypothesis.settings.default, phases=phases)
        hypothesis.settings.load_profile("mutation")

    @pytest.hookimpl(tryfirst=True)
    def pytest_runtestloop(self, session: pytest.Session) -> bool:
        """Run every test once as it is, then those that reach a mutant against it."""
        reporter = session.config.pluginmanager.get_plugin("terminalreporter")
        say = reporter.write_line if reporter else print
        self.prepare()
        # Processes that a test may start with joblib or `Shared.each`, one a core, wouldn't see what is broken in this.
        os.environ["LOKY_MAX_CPU_COUNT"] = "1"
        gc.freeze()  # children share what is here, and never search it
        tests = sorted(self._measured(session), key=lambda test: test.cost)
        say(f"{len(tests)} of {len(session.items)} tests reach the code, in {sum(t.cost for t in tests):.0f} s")
        for nodeid in self.failing:
            say(f"left out, since it fails unbroken: {nodeid}")
        for change in self.changes:
            self.results.append(self._tried(session, change, [t for t in tests if change.statement in t.reached]))
            line = self.heard(self.results[-1])
            if line:
                say(line)
        gc.unfreeze()
        return True

    def _measured(self, session: pytest.Session) -> list[_Test]:
        """Each test in a process of its own, so that none profits from what another has cached."""
        reached = Reached(change.statement for change in self.changes)

        def measure() -> list[tuple[Measurement | None, frozenset[object]]]:
            self.watch(reached)
            return [(forked(partial(run, item))[0], reached.take()) for item in session.items]

        def run(item: pytest.Item) -> Measurement:
            start = time.process_time()
            failed = _fails(session, item, None)
            return time.process_time() - start, failed

        measurements, status = forked(measure)
        if measurements is None:
            raise RuntimeError(f"the tests can't be run: their process ended with status {status}")
        tests = []
        for item, (measured, statements) in zip(session.items, measurements, strict=True):
            if measured is None or measured[1]:
                self.failing.append(item.nodeid)
            elif statements:
                tests.append(_Test(item, measured[0], statements))
        return tests

    def _tried(self, session: pytest.Session, change: Change, tests: Sequence[_Test]) -> Result:
        def run() -> list[str]:
            change.apply()
            noticed = []
            for test, following in zip(tests, [*(test.item for test in tests[1:]), None], strict=True):
                # A healthy test may be slower by far on another day; a mutant that never ends is to end here.
                _end_after(1 + 5 * test.cost)
                if _fails(session, test.item, following):
                    noticed.append(test.item.nodeid)
                    if not self.exhaustive:
                        break
            return noticed

        reaching = tuple(test.item.nodeid for test in tests)
        if not tests:
            return Result(change, "unreached", reaching)
        noticed, status = forked(run)
        if noticed is None:
            return Result(change, "timed out" if status in (-signal.SIGPROF, -signal.SIGALRM) else "killed", reaching)
        return Result(change, "killed" if noticed else "survived", reaching, tuple(noticed))


def forked(run: Callable[[], T]) -> tuple[T | None, int | None]:
    """What ``run`` returns in a fork of this process, ``None`` if that ended before, and the process's exit status.

    Raises RuntimeError with the traceback where ``run`` raises anything.
    """
    context = multiprocessing.get_context("fork")
    receiver, sender = context.Pipe(duplex=False)
    process = context.Process(target=_run, args=(run, sender))
    process.start()
    sender.close()
    try:
        result, trouble = receiver.recv()
    except EOFError:
        result = trouble = None
    process.join()
    if trouble is not None:
        raise RuntimeError(trouble)
    return result, process.exitcode


def _run(run: Callable[[], object], sender: Connection) -> None:
    try:
        sender.send((run(), None))
    except BaseException:
        sender.send((None, traceback.format_exc()))
    os._exit(0)  # without waiting for threads, or cleaning up what the parent still needs


def _end_after(seconds: float) -> None:
    """End this process by a signal after so much of its processor time, and after ten times as long on the clock."""
    signal.setitimer(signal.ITIMER_PROF, seconds)
    signal.alarm(int(10 * seconds))


def _fails(session: pytest.Session, item: pytest.Item, following: pytest.Item | None) -> bool:
    manager = session.config.pluginmanager
    if manager.has_plugin("terminalreporter"):
        manager.unregister(name="terminalreporter")
    before = session.testsfailed
    session.config.hook.pytest_runtest_protocol(item=item, nextitem=following)
    return session.testsfailed > before
