"""``python -m fitcore.testing.report``."""

import json
import math
import subprocess
import sys

import pytest

from fitcore.testing.report.__main__ import main
from fitcore.testing.report.reading import read_report
from fitcore.tests.reports import EVIDENCE, case, claim, curve, pending, report


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


DAMAGED = {
    "NaN": (lambda found: found["claims"][0].update(duration_s=math.nan), "no JSON: NaN is no number in JSON"),
    "a number beyond all": (
        lambda found: found["claims"][0].update(duration_s=10**400),
        "report.claims[0].duration_s is no float",
    ),
    "no claims": (lambda found: found.update(claims={"notes/a": {}}), "report.claims is no list"),
    "a claim that is none": (lambda found: found["claims"].append([]), "report.claims[1] is no ClaimRecord"),
    "half a claim": (lambda found: found["claims"][0].pop("tests"), "report.claims[0] lacks 'tests'"),
    "an unheard-of verdict": (
        lambda found: found["claims"][0].update(verdict="<script>"),
        "report.claims[0].verdict is not one of holds, conditional, refuted, untestable, pending",
    ),
    "evidence of no kind": (
        lambda found: found["claims"][0]["tests"][0].update(evidence=[{"type": "opinion"}]),
        "report.claims[0].tests[0].evidence[0] is none of Observation, Comparison, Curve,",
    ),
    "a text among numbers": (
        lambda found: found["claims"][0].update(tests=[case(evidence=[curve([1, 2], loss=[1.0, "low"])])]),
        "report.claims[0].tests[0].evidence[0] is none of",
    ),
    "a map that is none": (
        lambda found: found["claims"][0].update(tests=[case(evidence=[curve([1, 2]) | {"series": [1]}])]),
        "report.claims[0].tests[0].evidence[0] is none of",
    ),
    "no time": (lambda found: found["environment"].update(started="yesterday"), "'yesterday' is no time in ISO 8601"),
}


@pytest.fixture(params=["render", "compare", "verdicts"])
def run_on(request, write, tmp_path):
    """Run a command on one file; ``render`` would write to ``pages``."""
    others = {"render": ["-o", str(tmp_path / "pages")], "compare": [str(write("whole", claim()))]}
    return lambda path: main([request.param, str(path), *others.get(request.param, [])])


@pytest.mark.parametrize(("damage", "message"), DAMAGED.values(), ids=DAMAGED)
def test_a_damaged_report_is_told_in_one_line_and_nothing_is_written(run_on, tmp_path, capsys, damage, message):
    found = report(claim())
    damage(found)
    path = tmp_path / "damaged.json"
    path.write_text(json.dumps(found), encoding="utf-8")
    assert run_on(path) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith(f"error: {path}: ")
    assert message in line
    assert not (tmp_path / "pages").exists()


UNREADABLE = {
    "nested too deeply": b"[" * 100_000,
    "truncated": b'{"schema": 2, "claims": [',
    "no text": b"\xff\xfe\0",
    "a number of too many digits": b'{"schema": ' + b"1" * 10_000 + b"}",
}


@pytest.mark.parametrize("content", UNREADABLE.values(), ids=UNREADABLE)
def test_what_no_parser_reads_is_told_in_one_line(tmp_path, capsys, content):
    path = tmp_path / "claims.json"
    path.write_bytes(content)
    assert main(["verdicts", str(path)]) == 2
    assert capsys.readouterr().err.startswith(f"error: {path}: no JSON: ")


def test_every_kind_of_evidence_is_read_back(tmp_path):
    path = tmp_path / "claims.json"
    written = report(claim(tests=[case(evidence=EVIDENCE)]), pending("later"))
    path.write_text(json.dumps(written), encoding="utf-8")
    assert read_report(path) == written


def test_the_module_can_be_run(write):
    command = [sys.executable, "-m", "fitcore.testing.report", "compare"]
    run = subprocess.run(
        [*command, write("a", claim()), write("b", claim())], capture_output=True, text=True, check=True
    )
    assert run.stdout == "0 verdicts or outcomes changed, 0 other differences\n"
    assert not run.stderr
