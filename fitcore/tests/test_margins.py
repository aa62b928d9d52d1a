"""How close assertions come to failing."""

import json
import statistics
from pathlib import Path

import pytest

from fitcore.testing.margins import ENOUGH, distances, margins


@pytest.mark.parametrize(
    ("explanation", "expected"),
    [
        ("0.5 < 2", [1.5]),
        ("0.5 <= 2.5", [2.0]),
        ("3 > -1e-3", [3.001]),
        ("3.0 >= 1", [2.0]),
        ("np.float64(0.25) < np.float64(0.75)\n +  where np.float64(0.25) = mean()", [0.5]),
        ("tensor(0.5000, dtype=torch.float64) > 0.1", [0.4]),
        ("(0.5 + 0.1) < (2 * 0.4)", [0.2]),
        ("-(1 / 4) < (2 ** 3)", [8.25]),
        ("0.52 == 0.5 ± 0.1", [0.08]),
        ("(0.52 == 0.5 ± 1.0e-01 and 1 < 2)", [0.08, 1.0]),
        ("(1 < 2 or 3 < 4)", []),
        ("3 == 3", []),
        ("True < 2", []),
        ("1 < inf", []),
        ("1 < (1 / 0)", []),
        ("tensor([1, 2]) > 0", []),
        ("'a' < 'b'", []),
        ("True", []),
        ("<built-in function all>", []),
        ("not False", []),
    ],
)
def test_a_comparison_of_numbers_is_as_far_from_failing_as_they_are_apart(explanation, expected):
    assert distances(explanation) == pytest.approx(expected)


def noted(folder: Path, *lines: tuple[str, int, str, list[float]]) -> Path:
    folder.mkdir()
    (folder / "1.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines), encoding="utf-8")
    return folder


def test_what_varies_is_ordered_by_its_distance_from_failing_in_standard_deviations(tmp_path):
    runs = [
        noted(
            tmp_path / str(n),
            ("test_a", 7, "far > 1", [100.0 + n]),
            ("test_a", 8, "close > 1", [far]),
            ("test_b", 8, "twice > 1", [5.0 + n]),
            ("test_b", 8, "twice > 1", [15.0 - n]),
            ("test_b", 9, "constant > 1", [2.0]),
            ("test_b", 9, "changes once > 1", [150.0 + (n == 1)]),
            *([] if n == 1 else [("test_b", 10, "sometimes > 1", [0.1 + n])]),
        )
        for n, far in enumerate((1.0, 2.0, 4.0))
    ]
    found = margins(runs)
    assert [(margin.test, margin.line, margin.code, margin.distances) for margin in found] == [
        ("test_a", 8, "close > 1", (1.0, 2.0, 4.0)),
        ("test_b", 8, "twice > 1", (5.0, 6.0, 7.0)),
        ("test_b", 8, "twice > 1", (15.0, 14.0, 13.0)),
        ("test_a", 7, "far > 1", (100.0, 101.0, 102.0)),
        ("test_b", 9, "changes once > 1", (150.0, 151.0, 150.0)),
    ]
    assert found[0].deviations == pytest.approx(7 / 3 / statistics.stdev((1, 2, 4)))


def test_enough_is_the_quantile_of_the_rate_that_decisions_keep_to():
    assert 1 - statistics.NormalDist().cdf(ENOUGH) == pytest.approx(1e-6)
