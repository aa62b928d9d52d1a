"""Controls: interventions under which a claim must fail, or it proves nothing."""

import functools
import inspect
import pkgutil
import types
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any
from unittest.mock import patch

import pytest


class Detected(BaseException):
    """A claim failed by assertion under its control, as it must.

    No ``Exception``, so that Hypothesis stops at the first failing example instead of shrinking it.
    """


class Vacuous(pytest.fail.Exception):  # type: ignore[name-defined]
    """A claim still passes under its control."""

    __module__ = "builtins"  # as pytest's own outcomes, so that a report shows the name alone


@dataclass(frozen=True)
class Replace:
    """Patch the attribute ``target`` (dotted path) with ``by`` while the test runs."""

    target: str
    by: Any
    name: str
    patches = True

    def problems(self, test: Callable[..., object]) -> Iterator[str]:
        """Say whether the target doesn't exist, refuses to be patched, or would not be as before after it."""
        try:
            owner, _, attribute = self.target.rpartition(".")
            if owner and _is_inherited_slot(pkgutil.resolve_name(owner), attribute):
                # Python would leave the class a sequence, say, once a __getitem__ has been set and deleted.
                yield f"control target {self.target!r} can't be restored: override the operation instead"
                return
            with patch(self.target, self.by):
                pass
        except (ImportError, AttributeError, TypeError, ValueError) as error:
            yield f"control target {self.target!r} can't be replaced: {error}"

    @contextmanager
    def applied_to(self, arguments: Mapping[str, Any]) -> Iterator[dict[str, Any]]:
        """Patch the target, and hand the arguments on as they are."""
        with patch(self.target, self.by):
            yield dict(arguments)


@dataclass(frozen=True)
class Override:
    """Run the test with other values for some of its arguments."""

    name: str
    arguments: Mapping[str, Any] = field(hash=False)
    patches = False

    def problems(self, test: Callable[..., object]) -> Iterator[str]:
        """Say which arguments the test doesn't have."""
        if not self.arguments:
            yield f"control {self.name!r} overrides no argument"
        known = inspect.signature(_innermost(test)).parameters
        for argument, value in self.arguments.items():
            if type(value).__module__.startswith("hypothesis."):
                yield f"control {self.name!r} overrides {argument!r} with a strategy; it takes a value"
            if argument not in known:
                yield f"control {self.name!r} overrides {argument!r}, which is no argument of {test.__name__}"

    @contextmanager
    def applied_to(self, arguments: Mapping[str, Any]) -> Iterator[dict[str, Any]]:
        """Hand the arguments on, the overridden ones exchanged."""
        yield {**arguments, **self.arguments}


@dataclass(frozen=True)
class NoControl:
    """Why a claim can have no control."""

    reason: str


def replace(target: str, by: Any, name: str | None = None) -> Replace:
    """Control: patch the attribute at the dotted path ``target`` with ``by`` for one run.

    The claim has to reach the attribute through that path when it runs (``torch.nn.utils.clip_grad_norm_(...)``),
    not through a name it imported before. ``name`` is by default made from the name of ``by``.
    """
    return Replace(target, by, name or getattr(by, "__name__", f"{target} = {by!r}").replace("_", " "))


def override(name: str, /, **arguments: Any) -> Override:
    """Control: rerun the test with other values for its parameters, defaulted or Hypothesis-drawn arguments.

    Hypothesis refuses ``@given`` on a test with defaulted arguments: there, draw the setting from ``st.just(...)``. The
    control gives the value itself, ``override("halved", share=0.5)``, which then stands for what every example drew.
    """
    return Override(name, arguments)


def no_control(reason: str) -> NoControl:
    """Declare that a claim can have no control, which only a bare identity of constants may say."""
    return NoControl(reason)


def failed_by_assertion(error: BaseException | None) -> bool:
    """Whether an error is a failed assertion: ``AssertionError``, or ``pytest.raises`` (``warns``) that saw nothing.

    So is a group of nothing else, which Hypothesis raises for several distinct failures of one property.
    """
    if isinstance(error, BaseExceptionGroup):
        return all(map(failed_by_assertion, error.exceptions))
    saw_nothing = isinstance(error, pytest.fail.Exception) and str(error).startswith(("DID NOT RAISE", "DID NOT WARN"))
    return isinstance(error, AssertionError) or saw_nothing


def _is_inherited_slot(owner: object, attribute: str) -> bool:
    """Whether it is a special method that a class inherits from one written in C, as a slot of the type."""
    if not isinstance(owner, type) or attribute in vars(owner):
        return False
    return isinstance(inspect.getattr_static(owner, attribute), types.WrapperDescriptorType)


def _innermost(test: Callable[..., object]) -> Callable[..., object]:
    """The function under Hypothesis's ``@given``, whose signature still has the drawn arguments."""
    return getattr(getattr(test, "hypothesis", None), "inner_test", test)


@contextmanager
def intervened(item: pytest.Function, control: Replace | Override) -> Iterator[None]:
    """Make ``item`` run its test under ``control`` and raise ``Detected`` where it fails by assertion.

    Under Hypothesis the intervention goes inside ``@given`` (its documented ``hypothesis.inner_test`` handle), so that
    drawn arguments can be overridden and the first failing example ends the run.
    """
    test = item.obj
    inner = _innermost(test)

    @functools.wraps(inner)
    def run(*args: Any, **kwargs: Any) -> Any:
        try:
            with control.applied_to(kwargs) as arguments:
                return inner(*args, **arguments)
        except BaseException as error:
            if failed_by_assertion(error):
                raise Detected from error
            raise

    if inner is test:
        item.obj = run
    else:
        test.hypothesis.inner_test = run
    try:
        yield
    finally:
        if inner is test:
            item.obj = test
        else:
            test.hypothesis.inner_test = inner
