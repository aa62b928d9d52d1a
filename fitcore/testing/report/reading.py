"""Reading ``claims.json`` back."""

import json
import sys
from collections.abc import Iterator
from datetime import datetime
from functools import cache
from itertools import chain
from pathlib import Path
from types import UnionType
from typing import Any, Literal, NoReturn, cast, get_args, get_origin, get_type_hints, is_typeddict

from fitcore.testing.errors import ClaimError
from fitcore.testing.report.schema import Report

_type_hints = cache(get_type_hints)


def read_report(path: Path) -> Report:
    """Read a report, which may come from anywhere: what is returned has the shape of the schema throughout.

    Args:
        path: a ``claims.json``, or the folder that holds one.

    Raises:
        ClaimError: if there is none, or it isn't a report of this version; the message says where it is wrong.

    """
    file = path / "claims.json" if path.is_dir() else path
    try:
        report = json.loads(file.read_text(encoding="utf-8"), parse_constant=_refuse)
    except OSError as error:
        raise ClaimError(f"{file}: can't read the report: {error.strerror}") from error
    except (ValueError, RecursionError) as error:
        raise ClaimError(f"{file}: no JSON: {error}") from error
    if not isinstance(report, dict) or report.get("schema") != 2 or "claims" not in report:
        raise ClaimError(f"{file}: no report of claims, or one of another version")
    for problem in chain(_mismatches(report, Report, "report"), _misdated(cast(Report, report))):
        raise ClaimError(f"{file}: no sound report of claims: {problem}")
    return cast(Report, report)


def _refuse(constant: str) -> NoReturn:
    raise ValueError(f"{constant} is no number in JSON")


def _mismatches(value: Any, expected: Any, where: str) -> Iterator[str]:
    """Say where ``value``, as read from JSON, is not of the type ``expected``, made of those of the schema."""
    origin, arguments = get_origin(expected), get_args(expected)
    if is_typeddict(expected):
        yield from _in_record(value, expected, where)
    elif origin is UnionType:
        if all(any(_mismatches(value, option, where)) for option in arguments):
            yield f"{where} is none of {', '.join(option.__name__ for option in arguments)}"
    elif origin is Literal:
        if value not in arguments:
            yield f"{where} is not one of {', '.join(map(str, arguments))}"
    elif origin is list:
        yield from _in_list(value, arguments[0], where)
    elif origin is dict:
        yield from _in_map(value, arguments[1], where)
    elif not _is_a(value, expected):
        yield f"{where} is no {expected.__name__}"


def _in_record(value: Any, expected: Any, where: str) -> Iterator[str]:
    if not isinstance(value, dict):
        yield f"{where} is no {expected.__name__}"
        return
    yield from (f"{where} lacks {key!r}" for key in sorted(expected.__required_keys__ - value.keys()))
    for key, hint in _type_hints(expected).items():
        if key in value:
            yield from _mismatches(value[key], hint, f"{where}.{key}")


def _in_list(value: Any, expected: Any, where: str) -> Iterator[str]:
    if not isinstance(value, list):
        yield f"{where} is no list"
    elif expected is not float or not all(map(_is_number, value)):  # most of a report is numbers
        for index, item in enumerate(value):
            yield from _mismatches(item, expected, f"{where}[{index}]")


def _in_map(value: Any, expected: Any, where: str) -> Iterator[str]:
    if not isinstance(value, dict):
        yield f"{where} is no object"
        return
    for key, item in value.items():
        yield from _mismatches(item, expected, f"{where}[{key!r:.80}]")


def _is_a(value: Any, expected: type) -> bool:
    return _is_number(value) if expected is float else type(value) is expected


def _is_number(value: Any) -> bool:
    return type(value) in (int, float) and abs(value) <= sys.float_info.max


def _misdated(report: Report) -> Iterator[str]:
    for environment in (report["environment"], *report["merged"]):
        try:
            datetime.fromisoformat(environment["started"])
        except ValueError:
            yield f"{environment['started']!r:.80} is no time in ISO 8601"
