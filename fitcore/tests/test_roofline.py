"""Curves under the roofs that limit them."""

import re

import pytest

from fitcore.testing.errors import ClaimError
from fitcore.testing.evidence import Evidence
from fitcore.testing.report import write_report
from fitcore.testing.report.plots import FAINT, PALETTE, draw
from fitcore.tests.reports import case, claim, report

SIZES = [64, 512, 4096]
RATES = {"float32": [0.1, 20.0, 50.0], "bfloat16": [0.1, 60.0, 700.0]}
ROOFS = {"float32": [43.0, 52.0, 52.0], "bfloat16": [86.0, 688.0, 790.0]}


def recorded(roofs=None, series=RATES):
    evidence = Evidence()
    evidence.curve("TFLOP/s", SIZES, series, "rows", roofs=roofs)
    (record,) = evidence.records
    return record


def dashed(svg):
    """Colours of the dashed lines within the axes' area."""
    styles = dict(re.findall(r"\.(s\d+)\{([^}]*)\}", svg))
    lines = re.findall(r"<path [^>]*(?:class='(s\d+)'|style='([^']*)')", svg)
    found = [styles.get(name, style) for name, style in lines]
    return {re.search("stroke: ?(#[0-9a-fA-F]+)", style)[1].lower() for style in found if "dasharray" in style}


def test_roofs_are_recorded_beside_the_series():
    assert recorded(ROOFS)["roofs"] == ROOFS
    assert "roofs" not in recorded()


def test_a_roof_of_another_length_is_refused():
    with pytest.raises(ClaimError, match=r"'float32' has shape \(2,\), x has \(3,\)"):
        recorded({"float32": [1.0, 2.0]})


def test_a_roof_has_the_colour_of_its_series():
    assert {PALETTE[0].lower(), PALETTE[1].lower()} <= dashed(draw(recorded(ROOFS)))


def test_a_roof_of_its_own_is_named():
    svg = draw(recorded({"a copy": [52.0] * 3}, {"exp(x)": [1.0, 2.0, 3.0]}))
    assert "a copy" in svg
    assert dashed(svg) == {FAINT}


def ticks(record):
    return re.findall(">([\\d.,]+)</text>", draw(record))


def test_scales_are_logarithmic_under_a_roof():
    close = {"float32": [50.0, 51.0, 52.0]}
    assert {"1000", "2000", "3000"} <= set(ticks(recorded(series=close)))
    assert {"100", "1,000"} <= set(ticks(recorded(close, close)))


def test_what_is_zero_is_drawn_under_a_roof_too():
    assert "<svg" in draw(recorded({"float32": [0.0, 52.0, 52.0]}))


def test_the_page_says_in_words_how_high_the_roofs_are(tmp_path):
    page = write_report(report(claim(tests=[case(evidence=[recorded(ROOFS), recorded()])])), tmp_path)
    texts = re.findall('alt="([^"]*)"', page.read_text(encoding="utf-8"))
    assert texts == [
        "TFLOP/s: float32, bfloat16, for x from 64 to 4,096; below 52 (float32), 790 (bfloat16)",
        "TFLOP/s: float32, bfloat16, for x from 64 to 4,096",
    ]
