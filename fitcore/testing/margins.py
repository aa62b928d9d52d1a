"""How close assertions come to failing: ``assert a.mean() < b.mean()`` is no decision, and estimates nothing.

A pytest plugin, for `fitcore.testing.audit`: run after run it notes what the comparisons that passed have compared, and
`margins` holds their distances from failing against their spread over base seeds. What ``all(...)`` compares within
itself isn't seen.
"""

import ast
import json
import operator
import os
import re
from collections import Counter
from collections.abc import Callable, Generator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from statistics import NormalDist, fmean, stdev
from typing import TextIO

import pytest

from fitcore.testing.plugin import ITEM
from fitcore.testing.statistics import FLAKE

ENOUGH = NormalDist().inv_cdf(1 - FLAKE)
"""How many standard deviations from failing a normal distance has to be, to be negative with probability ``FLAKE``."""

_ARITHMETIC: dict[type[ast.operator], Callable[[float, float], float]] = {
    ast.Add: operator.add,
    ast.Sub: operator.sub,
    ast.Mult: operator.mul,
    ast.Div: operator.truediv,
    ast.Pow: operator.pow,
}


@dataclass(frozen=True)
class Margin:
    """One comparison of one test, over base seeds.

    Attributes:
        test: node id.
        line: of the assertion.
        code: of the assertion.
        distances: from failing, one a base seed.

    """

    test: str
    line: int
    code: str
    distances: tuple[float, ...]

    @property
    def deviations(self) -> float:
        """Mean distance, in standard deviations."""
        return fmean(self.distances) / stdev(self.distances)


def margins(runs: Sequence[Path]) -> list[Margin]:
    """Comparisons that every run made and whose distances vary, the nearest to failing first.

    Args:
        runs: folders that the plugin wrote to, two or more.
    """
    found = [_noted(run) for run in runs]
    common = [key for key in found[0] if all(key in run for run in found)]
    over_runs = {key: tuple(run[key] for run in found) for key in common}
    varying = {key: values for key, values in over_runs.items() if len(set(values)) > 1}
    return sorted((Margin(*key[:3], values) for key, values in varying.items()), key=lambda margin: margin.deviations)


def distances(explanation: str) -> list[float]:
    """How far each comparison of numbers is from failing, in an assertion as pytest explains it.

    ``right - left`` for ``left < right`` and ``left <= right``, the reverse for ``>`` and ``>=``, and for ``left ==
    approx(right)`` what is left of the tolerance. Of a chain pytest shows the last comparison only.
    """
    shown = re.sub(r"== (\S+) ± ([^\s)]+)", r"== approx(\1, \2)", explanation.partition("\n")[0])
    try:
        whole = ast.parse(shown, mode="eval").body
    except SyntaxError:
        return []
    parts = whole.values if isinstance(whole, ast.BoolOp) and isinstance(whole.op, ast.And) else [whole]
    found = []
    for part in parts:
        with suppress(ValueError, ArithmeticError):
            found.append(_distance(part))
    return found


def _distance(comparison: ast.expr) -> float:
    """Distance of one comparison; ValueError if it isn't one of two numbers."""
    match comparison:
        case ast.Compare(left, [ast.Eq()], [ast.Call(ast.Name("approx"), [right, tolerance])]):
            return _number(tolerance) - abs(_number(left) - _number(right))
        case ast.Compare(less, [ast.Lt() | ast.LtE()], [more]) | ast.Compare(more, [ast.Gt() | ast.GtE()], [less]):
            return _number(more) - _number(less)
    raise ValueError(f"no comparison by size: {ast.unparse(comparison)}")


def _number(shown: ast.expr) -> float:
    """``0.5``, ``-0.5``, ``(0.2 + 0.3)``, ``np.float64(0.5)`` and ``tensor(0.5000, dtype=torch.float64)`` alike."""
    match shown:
        case ast.Constant(value=float() | int() as value) if not isinstance(value, bool):
            return float(value)
        case ast.UnaryOp(ast.USub(), operand):
            return -_number(operand)
        case ast.BinOp(left, symbol, right) if type(symbol) in _ARITHMETIC:
            return float(_ARITHMETIC[type(symbol)](_number(left), _number(right)))
        case ast.Call(args=[value]):
            return _number(value)
    raise ValueError(f"no number: {ast.unparse(shown)}")


def _noted(run: Path) -> dict[tuple[str, int, str, int], float]:
    """Distances by test, line, code, and how often the test had been there before."""
    found: dict[tuple[str, int, str, int], float] = {}
    times = Counter[tuple[str, int, str]]()
    for file in run.glob("*.jsonl"):
        for line in file.read_text(encoding="utf-8").splitlines():
            test, number, code, seen = json.loads(line)
            for distance in seen:
                where = (test, number, code)
                found[*where, times[where]] = distance
                times[where] += 1
    return found


def pytest_addoption(parser: pytest.Parser) -> None:
    """Add the option that says where to."""
    parser.addoption("--claim-margins", metavar="DIR", type=Path, required=True, help="where to note the comparisons")


def pytest_configure(config: pytest.Config) -> None:
    """Begin a file of this process."""
    config.pluginmanager.register(_Watch(config.option.claim_margins / f"{os.getpid()}.jsonl"))


class _Watch:
    """Has notes taken while claims run.

    Not while controls do, which are to fail, nor Hypothesis properties, which seek what is nearest to failing: where
    nobody takes notes, pytest explains no assertion that holds, which takes as long as the tests themselves.
    """

    def __init__(self, file: Path) -> None:
        file.parent.mkdir(parents=True, exist_ok=True)
        self._notes = _Notes(file.open("w", encoding="utf-8"))

    @pytest.hookimpl(wrapper=True, tryfirst=True)
    def pytest_runtest_protocol(self, item: pytest.Item) -> Generator[None, object, object]:
        plugins = item.config.pluginmanager
        claim_item = item.stash.get(ITEM, None)
        if claim_item is None or claim_item.control is not None or hasattr(getattr(item, "obj", None), "hypothesis"):
            return (yield)
        plugins.register(self._notes)
        try:
            return (yield)
        finally:
            plugins.unregister(self._notes)

    def pytest_unconfigure(self) -> None:
        self._notes.file.close()


class _Notes:
    """What the comparisons of a test have compared."""

    def __init__(self, file: TextIO) -> None:
        self.file = file

    def pytest_assertion_pass(self, item: pytest.Item, lineno: int, orig: str, expl: str) -> None:
        if seen := distances(expl):
            self.file.write(json.dumps([item.nodeid, lineno, orig, seen]) + "\n")
