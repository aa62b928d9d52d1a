"""What a claim declares: the statements it measures, the verdict it asserts, the controls that must break it."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import TypeVar

import pytest

from fitcore.testing.controls import NoControl, Override, Replace

Test = TypeVar("Test", bound=Callable[..., object])
Control = Replace | Override

MOST_STATEMENTS = 3


class Verdict(StrEnum):
    """What a claim asserts of its statements; ``untestable`` and ``pending`` stand in the catalogue's part."""

    HOLDS = "holds"
    CONDITIONAL = "conditional"
    REFUTED = "refuted"


HOLDS, CONDITIONAL, REFUTED = Verdict


@dataclass(frozen=True)
class Parameter:
    """The statement's id is the value of this parameter, so that each parameter case serves its own statement."""

    name: str


def parameter(name: str) -> Parameter:
    """Take the statement from the test's parameter ``name`` instead of naming it in the decorator."""
    return Parameter(name)


@dataclass(frozen=True)
class Claim:
    """The arguments of ``@claim``, kept as given: what is wrong with them is said by ``problems``."""

    statements: tuple[str | Parameter, ...]
    verdict: Verdict | str
    finding: str
    controls: Sequence[Control] | NoControl | None
    trials: int | None

    @property
    def interventions(self) -> tuple[Control, ...]:
        """The usable controls, in the order given; none while ``controls`` is ill-formed."""
        if not isinstance(self.controls, list | tuple):
            return ()
        return tuple(control for control in self.controls if isinstance(control, Control))

    def problems(self, test: Callable[..., object]) -> Iterator[str]:
        """Say, a line each, what makes this declaration unusable for ``test``."""
        if not self.statements:
            yield "names no statement"
        if len(self.statements) > MOST_STATEMENTS:
            yield f"names {len(self.statements)} statements; at most {MOST_STATEMENTS}, or one for each parameter case"
        if self.verdict not in list(Verdict):
            yield f"verdict must be one of {', '.join(Verdict)}, got {self.verdict!r}"
        elif self.verdict != HOLDS and not self.finding.strip():
            yield f"finding is required where the verdict is {self.verdict}: say what is true instead"
        if self.trials is not None and not (isinstance(self.trials, int) and self.trials >= 1):
            yield f"trials must be an integer >= 1, got {self.trials!r}"
        yield from self._control_problems(test)

    def _control_problems(self, test: Callable[..., object]) -> Iterator[str]:
        if isinstance(self.controls, NoControl):
            if not self.controls.reason.strip():
                yield "no_control() needs a reason"
            return
        if not self.controls:
            yield "controls is required: name an intervention under which it must fail, or no_control(reason)"
            return
        if not isinstance(self.controls, list | tuple) or len(self.interventions) != len(self.controls):
            yield "controls must be a list of replace(...) and override(...), or no_control(reason)"
            return
        names = [control.name for control in self.interventions]
        yield from (f"has two controls named {name!r}" for name in sorted(set(names)) if names.count(name) > 1)
        for control in self.interventions:
            yield from control.problems(test)


def claim(
    *statements: str | Parameter,
    verdict: Verdict | str = HOLDS,
    finding: str = "",
    controls: Sequence[Control] | NoControl | None = None,
    trials: int | None = None,
) -> Callable[[Test], Test]:
    """Declare a pytest test as the claim that establishes the verdict on one to three statements.

    Args:
        statements: ids as ``"document/statement"``, or ``parameter(name)`` where each parameter case has its own.
        verdict: ``HOLDS``, ``CONDITIONAL`` (true under stated conditions, false under others) or ``REFUTED``.
        finding: what was measured and what is true instead; required unless the verdict is ``HOLDS``.
        controls: interventions under which the test must fail by assertion, each run as a test item of its own;
            or ``no_control(reason)`` for a bare identity of constants.
        trials: how many seeds the ``trials`` fixture offers; by default as many as confirm at error rate 1e-4,
            and fail on fresh seeds at most once in 1e6 runs, a median effect that shows in nine trials of ten.

    A mistake in a declaration doesn't stop the collection: the test becomes an error that says what is wrong.
    """
    if len(statements) == 1 and callable(statements[0]):  # @claim without parentheses: an error of that test alone
        return claim()(statements[0])
    declared = Claim(statements, verdict, finding, controls, trials)

    def decorate(test: Test) -> Test:
        return pytest.mark.usefixtures("_claim_control")(pytest.mark.claim(declared)(test))

    return decorate
