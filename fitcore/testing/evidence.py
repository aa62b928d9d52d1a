"""What a claim leaves behind: observations, curves, reported-versus-measured figures, tables, images, decisions."""

import base64
import io
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from fitcore.testing.errors import ClaimError

if TYPE_CHECKING:
    from fitcore.testing.statistics import Decision

MOST_POINTS = 500
MOST_SERIES = 100
MOST_AXES = 3


class Evidence:
    """Recorder of the running claim's evidence: what pytest hands out as the fixture ``evidence``.

    Every value must be a finite number (tensors and arrays are taken as they are). Under a control nothing is kept, nor
    looked at: what a claim would show may be infinite there. Recording twice under one name appends observations, and
    replaces anything else: so a Hypothesis property leaves the observations of all its examples.
    """

    def __init__(self) -> None:
        self._records: dict[tuple[str, str], dict[str, Any]] = {}
        self._observed: dict[str, list[float]] = {}
        self._keeping = True

    def begin(self, keep: bool) -> None:
        """Forget everything, before the next test, whose evidence is to be kept unless it runs under a control."""
        self._records.clear()
        self._observed.clear()
        self._keeping = keep

    @property
    def records(self) -> list[dict[str, Any]]:
        """The records so far, in the order of their names' first use, as JSON values."""
        return list(self._records.values())

    def observe(self, name: str, values: Any, unit: str | None = None, limit: float | None = None) -> None:
        """Record one value a trial (or a single one), and the limit they are held against."""
        if not self._keeping:
            return
        observed = self._observed.setdefault(name, [])
        observed.extend(_numbers(name, values).ravel().tolist())
        if not observed:
            raise ClaimError(f"evidence {name!r} has no values")
        array = np.asarray(observed)
        self._keep(
            type="observation",
            name=name,
            values=array[_thinned(array)].tolist(),
            count=len(array),
            minimum=float(array.min()),
            maximum=float(array.max()),
            mean=float(array.mean()),
            unit=unit,
            limit=None if limit is None else _number(f"{name}: limit", limit),
        )

    def compare(
        self, name: str, samples: Mapping[str, Any], unit: str | None = None, limit: float | None = None
    ) -> None:
        """Record labelled samples of one quantity, to be shown side by side, and the limit they are held against."""
        if not self._keeping:
            return
        values = {str(label): _numbers(f"{name}: {label}", sample).ravel() for label, sample in samples.items()}
        if not values or not all(sample.size for sample in values.values()):
            raise ClaimError(f"evidence {name!r} has no values")
        if len(values) > MOST_SERIES:
            raise ClaimError(f"evidence {name!r} has {len(values)} samples; at most {MOST_SERIES}")
        self._keep(
            type="comparison",
            name=name,
            samples={label: sample[_thinned(sample)].tolist() for label, sample in values.items()},
            medians={label: float(np.median(sample)) for label, sample in values.items()},
            unit=unit,
            limit=None if limit is None else _number(f"{name}: limit", limit),
        )

    def curve(
        self,
        name: str,
        x: Any,
        series: Mapping[str, Any],
        x_label: str | None = None,
        roofs: Mapping[str, Any] | None = None,
    ) -> None:
        """Record labelled series over a common ``x`` (n,), thinned to 500 points with every series' extremes kept.

        ``roofs`` are what limits them, over the same ``x``: a roof is shown in the colour of the series of its label.
        With roofs the scales are logarithmic, as in S. Williams, A. Waterman, D. Patterson, "Roofline", Communications
        of the ACM 52 (2009).
        """
        if not self._keeping:
            return
        abscissa = _numbers(name, x)
        ordinates = {str(label): _numbers(f"{name}: {label}", values) for label, values in series.items()}
        limits = {str(label): _numbers(f"{name}: roof of {label}", values) for label, values in (roofs or {}).items()}
        if not ordinates or abscissa.ndim != 1 or not abscissa.size:
            raise ClaimError(f"evidence {name!r} needs a series over a one-dimensional x")
        if len(ordinates) > MOST_SERIES:
            raise ClaimError(f"evidence {name!r} has {len(ordinates)} series; at most {MOST_SERIES}")
        for label, values in (*ordinates.items(), *limits.items()):
            if values.shape != abscissa.shape:
                raise ClaimError(f"evidence {name!r}: {label!r} has shape {values.shape}, x has {abscissa.shape}")
        kept = _thinned(*ordinates.values(), *limits.values())
        lines = [{label: values[kept].tolist() for label, values in each.items()} for each in (ordinates, limits)]
        drawn = {"series": lines[0]} | ({"roofs": lines[1]} if limits else {})
        self._keep(type="curve", name=name, x=abscissa[kept].tolist(), x_label=x_label, **drawn)

    def figure(self, name: str, *, reported: Any, measured: Any, tolerance: float) -> bool:
        """Record a figure that the document reports beside what was measured.

        Returns:
            Whether it reproduces: every |measured - reported| <= ``tolerance``, which is best half a unit of the last
            digit that the document prints.

        """
        if not self._keeping:
            return _reproduces(_array(name, reported), _array(name, measured), tolerance)
        report, measurement = _numbers(name, reported), _numbers(name, measured)
        if report.shape != measurement.shape:
            raise ClaimError(
                f"evidence {name!r}: reported {report.shape} and measured {measurement.shape} differ in shape"
            )
        if report.ndim > MOST_AXES:
            raise ClaimError(f"evidence {name!r} has a figure of {report.ndim} axes; at most {MOST_AXES}")
        allowed = _number(f"{name}: tolerance", tolerance)
        reproduced = _reproduces(report, measurement, allowed)
        self._keep(
            type="figure",
            name=name,
            reported=report.tolist(),
            measured=measurement.tolist(),
            tolerance=allowed,
            reproduced=reproduced,
        )
        return reproduced

    def table(self, name: str, rows: Sequence[Mapping[str, Any]]) -> None:
        """Record rows of one set of columns; a cell is a string, a boolean or a finite number."""
        if not self._keeping:
            return
        if not rows:
            raise ClaimError(f"evidence {name!r} has no rows")
        columns = list(rows[0])
        if any(list(row) != columns for row in rows):
            raise ClaimError(f"evidence {name!r} has rows of different columns")
        cells = [[_cell(f"{name}: {column}", row[column]) for column in columns] for row in rows]
        self._keep(type="table", name=name, columns=list(map(str, columns)), rows=cells)

    def image(self, name: str, array: Any) -> None:
        """Record a picture: (height, width) grey values or (height, width, 3) colours, uint8 or floats in [0, 1]."""
        if not self._keeping:
            return
        from matplotlib.image import imsave

        pixels = _array(name, array)
        if pixels.dtype != np.uint8:
            pixels = _numbers(name, pixels)
        if pixels.ndim not in (2, 3) or pixels.shape[2:] not in ((), (3,)) or not pixels.size:
            raise ClaimError(f"evidence {name!r} must be (height, width) or (height, width, 3), got {pixels.shape}")
        if pixels.dtype != np.uint8 and (pixels.min() < 0 or pixels.max() > 1):
            raise ClaimError(f"evidence {name!r} must be uint8, or floats in [0, 1]")
        png, white = io.BytesIO(), 255 if pixels.dtype == np.uint8 else 1.0
        imsave(png, pixels, vmin=0, vmax=white, cmap="gray", format="png")
        self._keep(type="image", name=name, png=base64.b64encode(png.getvalue()).decode("ascii"))

    def decision(self, name: str, decision: "Decision", alpha: float) -> None:
        """Record what a rule of ``fitcore.testing.statistics`` decided; the fixture ``trials`` does so itself."""
        self._keep(
            type="decision",
            name=name,
            rule=decision.rule,
            trials=decision.trials,
            estimate=decision.estimate,
            interval=list(decision.interval),
            threshold=decision.threshold,
            p_value=decision.p_value,
            alpha=alpha,
            fresh_seed_failure=decision.fresh_seed_failure,
            confirmed=decision.confirmed,
        )

    def _keep(self, **record: Any) -> None:
        self._records[record["type"], record["name"]] = record


def _reproduces(reported: NDArray[Any], measured: NDArray[Any], tolerance: float) -> bool:
    return reported.shape == measured.shape and bool(np.all(np.abs(measured - reported) <= tolerance))


def _array(name: str, values: Any) -> NDArray[Any]:
    try:
        array = np.asarray(values.detach().cpu() if hasattr(values, "detach") else values)
    except (TypeError, ValueError) as error:
        raise ClaimError(f"evidence {name!r} is no array of numbers: {error}") from None
    if array.dtype.kind not in "biuf":
        raise ClaimError(f"evidence {name!r} is no array of real numbers: {array.dtype}")
    return array


def _numbers(name: str, values: Any) -> NDArray[np.float64]:
    """``values`` as an array of finite numbers."""
    array = _array(name, values).astype(np.float64)
    if not np.isfinite(array).all():
        raise ClaimError(f"evidence {name!r} has a value that is not finite")
    return array


def _number(name: str, value: Any) -> float:
    number = _numbers(name, value)
    if number.ndim:
        raise ClaimError(f"evidence {name!r} must be one value, got an array of shape {number.shape}")
    return float(number)


def _cell(name: str, value: Any) -> str | bool | float | int:
    plain = value.item() if isinstance(value, np.generic) else value
    # By exact type, since pytest-xdist carries no subclass of these (an enum, say) from process to process.
    exact = next((kind for kind in (str, bool, int) if isinstance(plain, kind)), None)
    return _number(name, plain) if exact is None else exact(plain)


def _thinned(*series: NDArray[np.float64]) -> NDArray[np.intp]:
    """Indices of at most ``MOST_POINTS`` points: evenly spread, with the extremes of every series."""
    extremes = [index for values in series for index in (values.argmin(), values.argmax())]
    n = len(series[0])
    if n <= MOST_POINTS:
        return np.arange(n)
    spread = np.linspace(0, n - 1, MOST_POINTS - len(extremes)).astype(np.intp)
    return np.unique(np.concatenate([spread, np.asarray(extremes, dtype=np.intp)]))
