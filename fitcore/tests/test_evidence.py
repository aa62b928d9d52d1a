"""Tests of ``fitcore.testing.evidence``: what is kept of what a claim records, and what is refused."""

import base64
import enum
import io
import json

import matplotlib.image
import numpy as np
import pytest
import torch

from fitcore.testing import ClaimError
from fitcore.testing.evidence import MOST_POINTS, Evidence
from fitcore.tests.project import Project

Colour = enum.StrEnum("Colour", ["RED"])


@pytest.fixture
def evidence() -> Evidence:
    return Evidence()


MISTAKES = {
    "NaN": (lambda e: e.observe("loss", [1.0, float("nan")]), "evidence 'loss' has a value that is not finite"),
    "infinity": (lambda e: e.observe("loss", torch.tensor(torch.inf)), "'loss' has a value that is not finite"),
    "text": (lambda e: e.observe("loss", ["1.5"]), "evidence 'loss' is no array of real numbers: <U3"),
    "nothing": (lambda e: e.observe("loss", None), "evidence 'loss' is no array of real numbers: object"),
    "complex numbers": (lambda e: e.observe("loss", 1j), "evidence 'loss' is no array of real numbers: complex128"),
    "ragged rows": (lambda e: e.observe("loss", [[1], [1, 2]]), "evidence 'loss' is no array of numbers"),
    "no values": (lambda e: e.observe("loss", []), "evidence 'loss' has no values"),
    "two limits": (lambda e: e.observe("loss", 1, limit=[1, 2]), "evidence 'loss: limit' must be one value"),
    "a curve of another length": (
        lambda e: e.curve("loss", [1, 2], {"train": [1]}),
        "evidence 'loss': 'train' has shape (1,), x has (2,)",
    ),
    "a diverging curve": (
        lambda e: e.curve("loss", [1, 2], {"train": [1, np.inf]}),
        "evidence 'loss: train' has a value that is not finite",
    ),
    "no series": (lambda e: e.curve("loss", [1, 2], {}), "evidence 'loss' needs a series over a one-dimensional x"),
    "a surface": (lambda e: e.curve("loss", [[1]], {"a": [[1]]}), "needs a series over a one-dimensional x"),
    "too many series": (
        lambda e: e.curve("loss", range(501), {str(i): range(501) for i in range(101)}),
        "evidence 'loss' has 101 series; at most 100",
    ),
    "figures of two shapes": (
        lambda e: e.figure("w", reported=1.0, measured=[1.0], tolerance=0.1),
        "evidence 'w': reported () and measured (1,) differ in shape",
    ),
    "figures of four axes": (
        lambda e: e.figure("w", reported=np.zeros((1, 1, 1, 1)), measured=np.zeros((1, 1, 1, 1)), tolerance=0.1),
        "evidence 'w' has a figure of 4 axes; at most 3",
    ),
    "a figure that is NaN": (
        lambda e: e.figure("w", reported=1.0, measured=np.nan, tolerance=0.1),
        "evidence 'w' has a value that is not finite",
    ),
    "a tolerance that is NaN": (
        lambda e: e.figure("w", reported=1.0, measured=1.0, tolerance=np.nan),
        "evidence 'w: tolerance' has a value that is not finite",
    ),
    "no rows": (lambda e: e.table("t", []), "evidence 't' has no rows"),
    "rows of other columns": (lambda e: e.table("t", [{"a": 1}, {"b": 1}]), "'t' has rows of different columns"),
    "a cell of two values": (lambda e: e.table("t", [{"a": [1, 2]}]), "evidence 't: a' must be one value, got an"),
    "a cell that is NaN": (lambda e: e.table("t", [{"a": np.nan}]), "evidence 't: a' has a value that is not finite"),
    "an image of one axis": (lambda e: e.image("i", [0.5]), "must be (height, width) or (height, width, 3), got (1,)"),
    "an empty image": (lambda e: e.image("i", np.zeros((0, 3))), "must be (height, width) or (height, width, 3)"),
    "an image out of range": (lambda e: e.image("i", [[2.0]]), "evidence 'i' must be uint8, or floats in [0, 1]"),
}


@pytest.mark.parametrize(("record", "message"), MISTAKES.values(), ids=MISTAKES)
def test_what_no_reader_could_use_is_refused(record, message, evidence):
    with pytest.raises(ClaimError) as error:
        record(evidence)
    assert message in str(error.value)
    assert not evidence.records


def test_a_mistake_in_evidence_is_one_line_and_keeps_the_rest(project: Project):
    project.claims("""
@claim("doc/a", controls=no_control("it records nonsense"))
def test_a(evidence):
    evidence.observe("sound", 1)
    evidence.observe("loss", "low")

@claim("doc/b", controls=no_control("it is sound"))
def test_b(evidence):
    evidence.observe("sound", 2)
""")
    project.run().assert_outcomes(failed=1, passed=1)
    assert project.says("test_claims.py:4: claim test_a: evidence 'loss' is no array of real numbers: <U3")
    assert project.record("a")["outcome"] == "error"
    assert (project.values("a"), project.values("b")) == ([1.0], [2.0])


def test_a_mistake_in_a_fixture_is_one_line_too(project: Project):
    project.claims("""
@pytest.fixture
def loss(evidence): evidence.observe("loss", "low")

@claim("doc/a", controls=no_control("it records nonsense"))
def test_a(loss): pass
""")
    project.run().assert_outcomes(errors=1)
    assert project.says("test_claims.py:7: claim test_a: evidence 'loss' is no array of real numbers: <U3")


def test_observations_under_one_name_add_up(evidence):
    evidence.observe("x", [1, 2], unit="s", limit=4)
    evidence.observe("x", torch.tensor(6.0, requires_grad=True), unit="s", limit=4)
    expected = {"values": [1, 2, 6], "count": 3, "minimum": 1, "maximum": 6, "mean": 3, "unit": "s", "limit": 4}
    assert evidence.records == [{"type": "observation", "name": "x", **expected}]


def test_a_comparison_keeps_its_samples_apart(evidence):
    evidence.compare("loss", {"before": torch.tensor([3.0, 1.0, 2.0]), "after": [0]}, unit="°", limit=2)
    expected = {"samples": {"before": [3, 1, 2], "after": [0]}, "medians": {"before": 2, "after": 0}}
    assert evidence.records == [{"type": "comparison", "name": "loss", **expected, "unit": "°", "limit": 2}]


@pytest.mark.parametrize("samples", [{}, {"before": [1.0], "after": []}])
def test_a_comparison_needs_values_in_every_sample(evidence, samples):
    with pytest.raises(ClaimError, match="evidence 'loss' has no values"):
        evidence.compare("loss", samples)


def test_many_observations_are_thinned_and_their_statistics_are_not(evidence):
    evidence.observe("x", np.arange(10_000) == 5_000)
    record = evidence.records[0]
    assert len(record["values"]) <= MOST_POINTS
    assert (max(record["values"]), record["count"], record["mean"]) == (1.0, 10_000, 1e-4)


def test_long_curves_are_thinned_and_keep_the_extremes_of_every_series(evidence):
    x = np.arange(10_000)
    evidence.curve("loss", x, {"up": x == 1_234, "down": -1.0 * (x == 4_321)})
    record = evidence.records[0]
    assert len(record["x"]) == len(record["series"]["up"]) <= MOST_POINTS
    assert (max(record["series"]["up"]), min(record["series"]["down"])) == (1, -1)
    assert {0, 1_234, 4_321, 9_999} <= set(record["x"])


@pytest.mark.parametrize(("measured", "reproduced"), [(2.92764, True), (2.9277, False), (np.float32(2.9276), True)])
def test_a_figure_reproduces_within_its_tolerance(measured, reproduced, evidence):
    assert evidence.figure("loss", reported=2.9276, measured=measured, tolerance=5e-5) is reproduced
    assert evidence.records[0]["reproduced"] is reproduced


def test_figures_of_unsigned_bytes_do_not_wrap_around(evidence):
    assert evidence.figure("grey", reported=np.uint8(3), measured=np.uint8(2), tolerance=1)


def test_the_cells_of_a_table_are_plain_values(evidence):
    row = {"s": Colour.RED, "n": np.str_("n"), "b": np.bool_(True), "i": np.int64(3), "f": torch.tensor(0.5), 4: 4}
    evidence.table("t", [row])
    cells = evidence.records[0]["rows"][0]
    assert cells == ["red", "n", True, 3, 0.5, 4]
    assert [type(cell) for cell in cells] == [str, str, bool, int, float, int]
    assert evidence.records[0]["columns"][-1] == "4"


@pytest.mark.parametrize("value", [1.0, 255], ids=["float", "uint8"])
@pytest.mark.parametrize("shape", [(2, 3), (2, 3, 3)], ids=["grey", "colour"])
def test_an_image_keeps_its_pixels(value, shape, evidence):
    pixels = np.zeros(shape, dtype=type(value) if value == 1 else np.uint8)
    pixels[0, 1] = value
    evidence.image("i", torch.from_numpy(pixels))
    png = base64.b64decode(evidence.records[0]["png"])
    shown = matplotlib.image.imread(io.BytesIO(png))[..., 0]
    assert shown[0, 1] == 1
    assert shown.sum() == 1


def test_records_are_json_in_the_order_of_their_first_use(evidence):
    evidence.observe("x", 1)
    evidence.figure("w", reported=[1, 2], measured=[1, 2], tolerance=0)
    evidence.observe("x", 2)
    assert [record["name"] for record in evidence.records] == ["x", "w"]
    assert json.loads(json.dumps(evidence.records, allow_nan=False)) == evidence.records


def test_all_but_observations_are_replaced_under_the_same_name(evidence):
    evidence.curve("x", [1], {"a": [1]})
    evidence.curve("x", [1], {"a": [2]})
    evidence.observe("x", 3)
    assert [record.get("series") for record in evidence.records] == [{"a": [2.0]}, None]


def test_nothing_is_left_for_the_next_test(evidence):
    evidence.observe("x", 1)
    evidence.begin(keep=True)
    evidence.observe("x", 2)
    assert evidence.records[0]["values"] == [2]


def test_what_is_not_to_be_kept_is_not_looked_at_either(evidence):
    evidence.begin(keep=False)
    evidence.observe("x", np.nan)
    evidence.curve("x", [1], {"a": [1, 2]})
    evidence.compare("x", {})
    evidence.table("x", [])
    evidence.image("x", [np.inf])
    assert not evidence.figure("w", reported=[1, 2], measured=[1], tolerance=0)
    assert not evidence.figure("w", reported=1, measured=np.nan, tolerance=1)
    assert evidence.figure("w", reported=1, measured=1.5, tolerance=1)
    assert evidence.records == []
