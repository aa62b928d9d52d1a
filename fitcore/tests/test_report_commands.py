"""``python -m fitcore.testing.report``."""

import json
import subprocess
import sys

import pytest

from fitcore.testing.report.__main__ import main
from fitcore.tests.reports import claim, report


@pytest.fixture
def write(tmp_path):
    def write(name, *claims):
        path = tmp_path / name / "claims.json"
        path.parent.mkdir()
        path.write_text(json.dumps(report(*claims)), encoding="utf-8")
        return path

    return write


def test_render_writes_the_pages_of_all_runs_together(write, tmp_path, capsys):
    shards = [write("one", claim("a")), write("two", claim("b")).parent]
    assert main(["render", *map(str, shards), "-o", str(tmp_path / "whole")]) == 0
    assert capsys.readouterr().out == f"{tmp_path / 'whole' / 'index.html'}\n"
    merged = json.loads((tmp_path / "whole" / "claims.json").read_text("utf-8"))
    assert [found["id"] for found in merged["claims"]] == ["notes/a", "notes/b"]


@pytest.mark.parametrize(("verdict", "status"), [("holds", 0), ("refuted", 1)])
def test_compare_exits_with_1_if_a_verdict_changed(write, capsys, verdict, status):
    before, after = write("before", claim()), write("after", claim(verdict=verdict))
    assert main(["compare", str(before), str(after)]) == status
    assert capsys.readouterr().out.endswith(f"{status} verdicts or outcomes changed, 0 other differences\n")


def test_verdicts_prints_a_table_that_no_measurement_changes(write, capsys):
    refuted = {"verdict": "refuted", "finding": "a | b"}
    runs = write("a", claim(**refuted)), write("b", claim(**refuted, duration_s=9.0, outcome="skipped"))
    tables = []
    for run in runs:
        main(["verdicts", str(run)])
        tables.append(capsys.readouterr().out)
    assert r"| 1.2 | Gradients add up. | refuted | a \| b |" in tables[0]
    assert tables[0] == tables[1]


@pytest.mark.parametrize(
    ("text", "message"),
    [(None, "can't read the report: No such file"), ("{", "no JSON"), ('{"schema": 0}', "no report of claims")],
)
def test_what_is_no_report_is_told_in_one_line(tmp_path, capsys, text, message):
    path = tmp_path / "claims.json"
    if text is not None:
        path.write_text(text, encoding="utf-8")
    assert main(["verdicts", str(path)]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith(f"error: {path}: {message}")


def test_the_module_can_be_run(write):
    command = [sys.executable, "-m", "fitcore.testing.report", "compare"]
    run = subprocess.run(
        [*command, write("a", claim()), write("b", claim())], capture_output=True, text=True, check=True
    )
    assert run.stdout == "0 verdicts or outcomes changed, 0 other differences\n"
    assert not run.stderr
