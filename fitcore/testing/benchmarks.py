"""Hooks of pytest-benchmark: what a claim took under a control is no result, and is neither shown nor saved."""

from collections.abc import Generator, Mapping, Sequence
from typing import Any

import pytest

Groups = Sequence[tuple[str | None, list[dict[str, Any]]]]


@pytest.hookimpl(wrapper=True)
def pytest_benchmark_group_stats() -> Generator[None, Groups, Groups]:
    """Leave controls out of the table."""
    groups = yield
    kept = ((name, [each for each in group if not _under_control(each)]) for name, group in groups)
    return [(name, group) for name, group in kept if group]


def pytest_benchmark_update_json(output_json: dict[str, Any]) -> None:
    """Leave controls out of what is saved, and out of the parameters of the others."""
    kept = [each for each in output_json["benchmarks"] if not _under_control(each)]
    for each in kept:
        if each["params"]:
            each["params"] = {name: value for name, value in each["params"].items() if name != "_claim_control"} or None
    output_json["benchmarks"] = kept


def _under_control(benchmark: Mapping[str, Any]) -> bool:
    return (benchmark["params"] or {}).get("_claim_control") is not None
