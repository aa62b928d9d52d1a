import json
import math
import multiprocessing
import re
import resource
from html import unescape

import matplotlib as mpl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fitcore.testing.report import html, plots, tally, wording, write_report
from fitcore.tests.reports import (
    EVIDENCE,
    case,
    claim,
    comparison,
    control,
    curve,
    decision,
    observation,
    pending,
    report,
)

FINITE = st.floats(-1e100, 1e100, allow_nan=False)


def test_writes_the_three_files_and_returns_the_page(tmp_path):
    written = report(claim(), pending("later"))
    page = write_report(written, tmp_path / "reports" / "latest")
    assert page == tmp_path / "reports" / "latest" / "index.html"
    assert sorted(path.name for path in page.parent.iterdir()) == ["claims.json", "index.html", "summary.md"]
    assert json.loads((page.parent / "claims.json").read_text("utf-8")) == written


@pytest.mark.parametrize("broken", [{"rerun": math.nan}, {"verdict": "unheard-of"}], ids=["json", "page"])
def test_a_failure_leaves_the_previous_report_whole(tmp_path, broken):
    write_report(report(claim()), tmp_path)
    before = {path.name: path.read_bytes() for path in tmp_path.iterdir()}
    with pytest.raises((ValueError, KeyError)):
        write_report(report(claim(**broken)), tmp_path)
    assert {path.name: path.read_bytes() for path in tmp_path.iterdir()} == before


def test_an_interrupted_write_leaves_the_previous_file_and_no_draft(tmp_path, monkeypatch):
    write_report(report(claim()), tmp_path)
    before = {path.name: path.read_bytes() for path in tmp_path.iterdir()}

    def interrupt(*_):
        raise KeyboardInterrupt

    monkeypatch.setattr("os.replace", interrupt)
    with pytest.raises(KeyboardInterrupt):
        write_report(report(), tmp_path)
    assert {path.name: path.read_bytes() for path in tmp_path.iterdir()} == before


def error_on_a_full_disk(directory, limit):
    """Write another report where no file may exceed ``limit`` bytes, and say what came of it."""
    resource.setrlimit(resource.RLIMIT_FSIZE, (limit, limit))
    try:
        write_report(report(claim(finding="Another.")), directory)
    except OSError as error:
        return str(error)
    return None


@pytest.mark.parametrize("name", ["claims.json", "index.html"])
@pytest.mark.filterwarnings("ignore:os.fork:RuntimeWarning")  # of JAX, where another test has imported it
@pytest.mark.filterwarnings("ignore:This process .* is multi-threaded:DeprecationWarning")
def test_a_full_disk_leaves_the_previous_report_whole(tmp_path, name):
    write_report(report(claim()), tmp_path)
    before = {path.name: path.read_bytes() for path in tmp_path.iterdir()}
    with multiprocessing.get_context("fork").Pool(1) as child:
        error = child.apply(error_on_a_full_disk, (tmp_path, len(before[name]) - 100))
    assert "File too large" in error
    assert {path.name: path.read_bytes() for path in tmp_path.iterdir()} == before


def test_text_that_is_no_unicode_is_written_escaped(tmp_path):
    written = report(claim(finding="no file \udcff"))
    page = write_report(written, tmp_path)
    assert json.loads((tmp_path / "claims.json").read_text("utf-8")) == written
    assert r"no file \udcff" in page.read_text("utf-8")


def test_every_claim_has_one_anchor():
    claims = [claim("a"), claim("b", verdict="untestable", untestable="no experiment", tests=[]), pending("c")]
    assert re.findall(r'id="(notes/\w)"', html.render_page(report(*claims))) == ["notes/a", "notes/b", "notes/c"]


@given(text=st.text(st.characters(codec="utf-8", exclude_categories=["Cc", "Cs"]), min_size=1))
@settings(max_examples=50)
def test_text_is_escaped_and_shown_in_full(text):
    page = html.render_page(report(pending("a", statement=f"<script>{text}")))
    assert page.count("<script>") == 1
    assert f"<script>{text}" in unescape(page)


def test_every_kind_of_text_is_escaped():
    hostile = "<script>'\"&"
    evidence = [record | {"name": hostile} for record in EVIDENCE] + [curve([1], **{hostile: [1], "b": [2]})]
    attacked = claim(
        statement=hostile, setup=hostile, finding=hostile, verdict="refuted", outcome="violated", rerun=hostile,
        tests=[case(nodeid=hostile, reason=hostile, outcome="failed", evidence=evidence)], section=hostile,
        controls=[control(False, name=hostile)],
    )  # fmt: skip
    page = html.render_page(report(attacked, command=hostile, platform=hostile))
    assert page.count("<script>") == 1
    assert "could not be drawn" not in page


def test_the_page_loads_nothing():
    page = html.render_page(report(claim(), pending("b", statement="See https://example.org/a.png.")))
    addresses = re.findall(r"""\s(?:src|href|srcset|action)\s*=\s*["']?([^"'\s>]+)""", page)
    assert {address.partition(":")[0] for address in addresses if not address.startswith(("#", "%23"))} == {"data"}
    assert not re.search(r"url\((?!%23)|@import", page)


def test_a_drawing_that_fails_leaves_its_error_in_its_place(tmp_path):
    page = write_report(report(claim(tests=[case(evidence=[curve([1, 2], loss=[1.0])])])), tmp_path)
    assert "could not be drawn. ValueError" in page.read_text("utf-8")


@pytest.mark.parametrize("claims", [[], [pending("a")], [claim(), claim("b", origin="derived")]])
def test_any_number_of_claims_renders(claims):
    assert "<h1>" in html.render_page(report(*claims))
    assert "| Notes |" in html.render_summary(report(*claims))


@pytest.mark.parametrize(
    ("flag", "notice"), [("partial", "This is a partial run"), ("interrupted", "This run was interrupted")]
)
def test_incomplete_runs_say_so(flag, notice):
    incomplete, whole = report(claim(), **{flag: True}), report(claim())
    assert notice in html.render_page(incomplete)
    assert notice in html.render_summary(incomplete)
    assert notice not in html.render_page(whole) + html.render_summary(whole)


def test_the_summary_escapes_what_would_break_its_table():
    pages = report(claim())
    pages["documents"][0]["title"] = "a | b\n<c>"
    assert r"| a \| b \<c\> | 1 | 0 | 0 | 0 | 0 | 1 |" in html.render_summary(pages)


HOSTILE = "<script>alert(1)</script> | `x`\n\n# Heading \\"


def test_the_tables_in_markdown_escape_all_that_a_catalogue_or_a_claim_says():
    attacked = claim(statement=HOSTILE, section=HOSTILE, finding=HOSTILE, verdict="refuted", outcome="violated",
                     tests=[case(outcome="failed", reason=HOSTILE)])  # fmt: skip
    found = report(attacked, command=HOSTILE, device=HOSTILE)
    found["documents"][0]["title"] = HOSTILE
    for text in (html.render_verdicts(found), html.render_summary(found)):
        outside_code = re.sub(r"``.*?``", "", text)
        assert not re.search(r"(?<!\\)<|^# Heading", outside_code, re.MULTILINE)
        rows = [re.sub(r"\\.", "", line).count("|") for line in text.splitlines() if line.startswith("|")]
        assert set(rows) <= {5, 8}


def test_the_summary_stops_listing_after_thirty_findings():
    refuted = [claim(f"s{n}", verdict="refuted", finding=f"Finding number {n}.") for n in range(35)]
    summary = html.render_summary(report(*refuted))
    assert "Finding number 29." in summary
    assert "Finding number 30." not in summary
    assert "- ... and 5 more" in summary


def test_concerns_are_violations_then_errors_then_vacuous_claims():
    claims = [
        claim("vacuous", outcome="error", controls=[control(False, reason="it still passes")]),
        claim("error", outcome="error", tests=[case(outcome="error", reason="RuntimeError: no grad")]),
        claim("crash", outcome="error", controls=[control(None, reason="TypeError: no such argument")]),
        claim("violated", outcome="violated", tests=[case(outcome="failed", reason="loss grew")] * 2),
        claim("refuted", verdict="refuted"),
    ]
    found = [(concern.claim["id"], concern.reasons) for concern in tally.concerns(claims)]
    assert found == [
        ("notes/violated", ["loss grew"]),
        ("notes/error", ["RuntimeError: no grad"]),
        ("notes/crash", ["Control “no clearing”: TypeError: no such argument"]),
        ("notes/vacuous", ["Control “no clearing”: it still passes"]),
    ]


def test_a_control_shared_by_statements_counts_once():
    shared = [claim("a"), claim("b"), claim("c", controls=[], no_control="an identity")]
    assert tally.controls(shared) == tally.Controls(detected=1, vacuous=0, not_run=0, claims_without=1)


@pytest.mark.parametrize(
    "evidence",
    [
        observation([2.0] * 300),
        observation([0.0]),
        observation([1e-9], limit=1e9),
        observation([-1e300, 0.0, 1e300]),
        observation([10.0**n for n in range(-300, 300)]),
        curve(range(500), a=[math.sin(n) for n in range(500)], b=range(500)),
        curve(range(300), loss=[10.0**n for n in range(300)]),
        curve(range(40), w=[(-10.0) ** n for n in range(40)]),
        curve([1e-5, 1e-3, 1e-1], **{"$\\frac{$": [1, 1, 1], "_private": [0, 0, 0]}),
        curve([1], a=[1]),
    ],
)
def test_odd_data_draws_the_same_twice(evidence):
    first = plots.draw(evidence)
    assert "</svg>" in first
    assert plots.draw(evidence) == first


@given(values=st.lists(FINITE, min_size=1, max_size=60), limit=st.none() | FINITE)
@settings(max_examples=25)
def test_any_finite_observation_draws(values, limit):
    assert "</svg>" in plots.draw(observation(values, limit))
    assert "</svg>" in plots.draw(comparison(limit, all=values, first=values[:1]))


def test_drawing_leaves_the_settings_of_others_alone():
    with mpl.rc_context({"font.size": 40}):
        large = plots.draw(EVIDENCE[0])
        assert mpl.rcParams["font.size"] == 40
    assert plots.draw(EVIDENCE[0]) == large


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (0, "0"), (2.92765, "2.928"), (10000, "10,000"), (-0.5, "−0.5"), (9.99999, "10"), (1e-4, "10⁻⁴"),
        (1.25e-9, "1.25 × 10⁻⁹"), (123456.7, "123,457"), (-3e30, "−3 × 10³⁰"), (12345678, "12,345,678"),
    ],
)  # fmt: skip
def test_numbers_are_written_to_four_digits(value, text):
    assert wording.number(value) == text


@pytest.mark.parametrize(
    ("changes", "text"),
    [
        ({}, "88 of 88 trials"),
        (
            {"rule": "mostly", "estimate": 0.75, "interval": [0.6, 0.9], "threshold": 0.5, "p_value": 2e-6},
            "66 of 88 trials, a share between 0.6 and 0.9 where above 0.5 is needed; p = 2 × 10⁻⁶, α = 10⁻⁴",
        ),
        (
            {"fresh_seed_failure": 1e-9},
            "88 of 88 trials; a fresh set of seeds would fail with probability below 10⁻⁶",
        ),
        (
            {"rule": "equivalent", "fresh_seed_failure": 0.002},
            "weaker side: 88 of 88 trials; a fresh set of seeds would fail with probability about 0.002",
        ),
    ],
)
def test_decisions_are_told_in_plain_words(changes, text):
    assert wording.decision(decision(**changes)) == text


@pytest.mark.parametrize(
    ("seconds", "text"), [(0.034, "34 ms"), (2.14, "2.1 s"), (200, "3 min 20 s"), (3900, "1 h 5 min")]
)
def test_durations_use_the_unit_that_fits(seconds, text):
    assert wording.duration(seconds) == text


@pytest.mark.parametrize(
    ("observed", "text"),
    [
        (observation([1.0, 4.0], limit=5.0), "2 values from 1 to 4 m/s, mean 2.5, limit 5"),
        (observation([3.0]) | {"unit": None}, "3"),
        (observation([3.0, 3.0], limit=4.0), "3 m/s, all 2 values, limit 4"),
        (observation([1.0, 2.0]) | {"count": 600}, "600 values from 1 to 2 m/s, mean 1.5; 2 drawn"),
    ],
)
def test_observations_are_told_in_a_line(observed, text):
    assert wording.observed(observed) == text
