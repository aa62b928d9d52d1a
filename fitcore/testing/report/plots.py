"""Drawings of evidence: the one place that uses Matplotlib."""

import gc
import math
import re
import statistics
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from io import BytesIO
from itertools import chain, cycle
from typing import TYPE_CHECKING, Any, Literal
from xml.etree import ElementTree
from xml.etree.ElementTree import Element

import numpy as np

from fitcore.testing.report.schema import Comparison, Curve, Observation
from fitcore.testing.report.wording import number

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

INK, FAINT, LIMIT = "#2b2b2b", "#8c8c8c", "#a63603"
# Okabe and Ito (2008), "Color universal design", without the yellow that white paper swallows.
PALETTE = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#333333")
DASHES: tuple[Any, ...] = ("-", (0, (5, 2)), (0, (1, 1.2)), (0, (6, 2, 1, 2)))
WIDTH, HEIGHT, STRIP_HEIGHT = 4.4, 2.4, 1.2
DOTS_AT_MOST, DOT_COLUMNS = 40, 60
ROW_HEIGHT, GOLDEN_RATIO = 0.42, 1.618034
LEGEND_CHARACTERS, LEGEND_ROW = 58, 0.17
# What is smaller counts as zero: scales computed from it would overflow.
SMALLEST = 1e-200

STYLE: dict[Any, Any] = {
    "svg.hashsalt": "fitcore",
    # Text stays text: smaller than outlines, and set in the reader's own sans-serif.
    "svg.fonttype": "none",
    "font.sans-serif": ["DejaVu Sans"],
    "font.size": 8.5,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.edgecolor": FAINT,
    "axes.linewidth": 0.7,
    "axes.labelcolor": INK,
    "axes.titlelocation": "left",
    "axes.titlesize": "medium",
    "axes.titlepad": 4,
    "axes.titley": 1.0,  # to search for a place that no tick label covers takes an eighth of the time
    "axes.formatter.limits": (-3, 5),
    "xtick.color": FAINT,
    "ytick.color": FAINT,
    "xtick.labelcolor": INK,
    "ytick.labelcolor": INK,
    "text.color": INK,
    "legend.frameon": False,
    "legend.handlelength": 2.2,
    "legend.borderpad": 0,
    "legend.borderaxespad": 0.3,
    "legend.labelspacing": 0.25,
    "lines.linewidth": 1.4,
    "path.simplify_threshold": 0.3,
}


def draw(evidence: Observation | Comparison | Curve) -> str:
    """Draw the evidence as an SVG document; the same evidence gives the same bytes."""
    import matplotlib as mpl
    from matplotlib.figure import Figure

    with mpl.rc_context(), np.errstate(over="ignore"), _uncollected():
        # A claim may have left settings of its own behind.
        mpl.rcdefaults()
        mpl.rcParams.update(STYLE)
        figure = Figure()
        if evidence["type"] == "observation":
            _draw_observation(figure, evidence)
        elif evidence["type"] == "comparison":
            _draw_comparison(figure, evidence)
        else:
            _draw_curve(figure, evidence)
        svg = BytesIO()
        metadata = dict.fromkeys(("Creator", "Date", "Format", "Type"))
        figure.savefig(svg, format="svg", transparent=True, metadata=metadata)
    return _shortened(svg.getvalue().decode())


@contextmanager
def _uncollected() -> Iterator[None]:
    """Don't look for garbage among the thousands of objects of a figure while they are made: an eighth of the time."""
    enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if enabled:
            gc.enable()


def _shortened(svg: str) -> str:
    """The drawing as one line, a quarter of the size.

    Coordinates go to a hundredth of a point, dots to a tenth, styles that recur are named once, names are short, and
    nothing is kept of how Matplotlib groups and indents.
    """
    root = ElementTree.fromstring(svg)
    for parent in list(root.iter()):
        parent[:] = [child for kept in parent for child in _ungrouped(kept)]
        for element in (parent, *parent):
            element.tail = None
        if not parent.tag.endswith(("}text", "}style")):
            parent.text = None
        digits = 1 if parent.tag.endswith("}use") else 2
        for name, value in list(parent.items()):
            parent.set(name, re.sub(rf"(\.\d{{{digits}}})\d+", r"\1", " ".join(value.split())))
            if value.startswith("rotate(-0 ") or (name == "id" and parent.tag.endswith(("}g", "}svg"))):
                del parent.attrib[name]
    _name_styles(root)
    _shorten_references(root)
    ElementTree.register_namespace("", "http://www.w3.org/2000/svg")
    drawing = ElementTree.tostring(root, encoding="unicode").replace(" />", "/>")
    # In a data URI a double quote takes three characters.
    return re.sub("<[^>]+>", lambda tag: tag[0].replace("'", "").replace('"', "'"), drawing)


def _ungrouped(element: Element) -> Iterator[Element]:
    """The element, or what is in it if it is a group that does nothing."""
    if element.tag.endswith("}g") and set(element.keys()) <= {"id"}:
        for child in element:
            yield from _ungrouped(child)
    else:
        yield element


def _name_styles(root: Element) -> None:
    for group in root.iter():
        styles = {child.get("style") for child in group}
        if group.tag.endswith("}g") and len(styles) == 1 and (style := styles.pop()):
            group.set("style", style)
            for child in group:
                del child.attrib["style"]
    counts = Counter(style for element in root.iter() if (style := element.get("style")))
    names = {style: f"s{index}" for index, (style, count) in enumerate(counts.items()) if count > 1}
    for element in root.iter():
        if element.tag.endswith("}style"):
            element.text = f"{element.text}" + "".join(f".{name}{{{style}}}" for style, name in names.items())
        elif element.get("style") in names:
            element.set("class", names[element.attrib.pop("style")])


def _shorten_references(root: Element) -> None:
    names = {element.get("id"): f"i{index}" for index, element in enumerate(root.iter()) if element.get("id")}
    for element in root.iter():
        for attribute, value in list(element.items()):
            if attribute == "id":
                element.set("id", names[value])
            elif attribute.endswith("}href"):
                del element.attrib[attribute]
                element.set("href", f"#{names[value[1:]]}")
            elif value.startswith("url(#"):
                element.set(attribute, f"url(#{names[value[5:-1]]})")


def _axes(figure: "Figure", height: float, left: float, top: float, bottom: float = 0.26) -> "Axes":
    """Axes with margins in inches: a layout engine would double the time a drawing takes."""
    right = 0.15
    figure.set_size_inches(WIDTH, height)
    return figure.add_axes(
        (left / WIDTH, bottom / height, (WIDTH - left - right) / WIDTH, (height - bottom - top) / height)
    )


def _scale(values: Sequence[float]) -> dict[str, Any]:
    """The axis scale that keeps every value visible: linear, logarithmic or, across zero, asinh."""
    sizes = [abs(value) for value in values if abs(value) >= SMALLEST]
    if not sizes or max(sizes) <= 100 * min(sizes):
        return {"value": "linear"}
    if min(values) >= SMALLEST:
        return {"value": "log"}
    middle = statistics.median(sizes)
    if max(sizes) <= 1000 * middle:
        return {"value": "linear"}
    # More than 50 decades on either side of zero would overflow the scale.
    return {"value": "asinh", "linear_width": max(middle, max(sizes) * 1e-50)}


def _tidy(axes: "Axes", which: Sequence[Literal["x", "y"]] = ("x", "y")) -> None:
    """Few ticks, and powers of ten as plain text: ticks, and formulas even more so, are what takes time."""
    axes.minorticks_off()
    for name in which:
        axis = axes.xaxis if name == "x" else axes.yaxis
        if axis.get_scale() == "linear":
            axes.locator_params(name, nbins=6 if name == "x" else 5)
        else:
            axes.locator_params(name, numticks=7)
            axis.set_major_formatter(lambda tick, _: number(tick))


def _draw_observation(figure: "Figure", evidence: Observation) -> None:
    values, limit = evidence["values"], evidence["limit"]
    extent = values if limit is None else [*values, limit]
    few = len(values) <= DOTS_AT_MOST
    height, left = (STRIP_HEIGHT, 0.3) if few else (HEIGHT, 0.6)
    axes = _axes(figure, height, left=left, top=0.2, bottom=0.42 if evidence["unit"] else 0.26)
    axes.set_xscale(**_scale(extent))
    low, high = min(extent), max(extent)
    if low == high:
        low, high = low - (abs(low) or 1) / 2, high + (abs(high) or 1) / 2
    axes.update_datalim([(low, 0.0), (high, 0.0)])
    axes.autoscale_view(scaley=False)
    positions = axes.transData.transform([(value, 0.0) for value in values])[:, 0]
    if few:
        _dot_plot(axes, values, positions)
    else:
        _histogram(axes, values, positions)
    _draw_limit(axes, limit)
    axes.set_xlabel(_literal(evidence["unit"] or ""), labelpad=1)
    _tidy(axes)


def _draw_limit(axes: "Axes", limit: float | None) -> None:
    if limit is None:
        return
    axes.axvline(limit, color=LIMIT, linestyle=DASHES[1], linewidth=1.2)
    axes.annotate(
        "limit", (limit, 1.0), xycoords=axes.get_xaxis_transform(), xytext=(0, 1),
        textcoords="offset points", ha="center", va="bottom", color=LIMIT,
    )  # fmt: skip


def _draw_comparison(figure: "Figure", evidence: Comparison) -> None:
    """A row of dots for each sample, spread so that they don't hide each other, with a bar at its median."""
    samples, limit = evidence["samples"], evidence["limit"]
    labels = [_literal(label) for label in samples]
    left = min(2.0, 0.15 + 0.069 * max(map(len, labels)))
    bottom = 0.42 if evidence["unit"] else 0.26
    axes = _axes(figure, 0.25 + bottom + ROW_HEIGHT * len(samples), left=left, top=0.25, bottom=bottom)
    everything = [*chain.from_iterable(samples.values()), *([] if limit is None else [limit])]
    axes.set_xscale(**_scale(everything))
    for row, (label, values) in enumerate(samples.items()):
        color = PALETTE[row % len(PALETTE)]
        # Multiples of the golden ratio fill an interval evenly, however many there are.
        spread = [row + 0.5 * (index * GOLDEN_RATIO % 1 - 0.5) for index in range(len(values))]
        axes.plot(values, spread, "o", color=color, markersize=3, alpha=0.5, markeredgewidth=0)
        axes.plot([evidence["medians"][label]] * 2, [row - 0.34, row + 0.34], color=INK, linewidth=2)
    axes.set_ylim(len(samples) - 0.5, -0.5)
    axes.set_yticks(range(len(samples)), labels)
    axes.tick_params(axis="y", length=0)
    _draw_limit(axes, limit)
    axes.set_xlabel(_literal(evidence["unit"] or ""), labelpad=1)
    _tidy(axes, which=("x",))


def _dot_plot(axes: "Axes", values: list[float], positions: np.ndarray) -> None:
    """A dot for each value, stacked where they coincide (Wilkinson, 1999, "Dot plots")."""
    stacks: Counter[int] = Counter()
    levels = []
    for column in (positions / axes.bbox.width * DOT_COLUMNS).round().astype(int).tolist():
        levels.append(stacks[column])
        stacks[column] += 1
    axes.plot(values, levels, "o", color=PALETTE[0], markersize=4.5, alpha=0.8, markeredgewidth=0)
    axes.set_ylim(-0.8, max(7, *stacks.values()))
    axes.yaxis.set_visible(False)
    axes.spines["left"].set_visible(False)


def _histogram(axes: "Axes", values: list[float], positions: np.ndarray) -> None:
    """Bins of equal width as drawn, whatever the scale; Rice's rule for their number."""
    low, high = positions.min() - 4, positions.max() + 4
    bins = min(round(2 * len(values) ** (1 / 3)), int(high - low) // 8)
    drawn = np.linspace(low, high, bins + 1)
    edges = axes.transData.inverted().transform([(position, 0.0) for position in drawn])[:, 0]
    axes.hist(values, bins=edges.tolist(), color=PALETTE[0], edgecolor="white", linewidth=0.5)
    axes.set_ylabel("count", labelpad=2)
    axes.locator_params(axis="y", integer=True)


def _draw_curve(figure: "Figure", evidence: Curve) -> None:
    x, series, roofs = evidence["x"], evidence["series"], evidence.get("roofs", {})
    entries = [*series, *(label for label in roofs if label not in series)]
    widest = max(map(len, entries), default=0) + 8
    columns = max(1, min(len(entries), LEGEND_CHARACTERS // widest))
    legend_rows = math.ceil(len(entries) / columns) if len(entries) > 1 else 0
    top = LEGEND_ROW * max(1, legend_rows) + 0.05
    bottom = 0.42 if evidence["x_label"] else 0.26
    axes = _axes(figure, HEIGHT - LEGEND_ROW + top - 0.26 + bottom, left=0.6, top=top, bottom=bottom)
    axes.set_xlabel(_literal(evidence["x_label"] or ""), labelpad=1)
    heights = list(chain.from_iterable([*series.values(), *roofs.values()]))
    under_a_roof = bool(roofs) and min(*heights, *x) >= SMALLEST
    axes.set_yscale(**({"value": "log"} if under_a_roof else _scale(heights)))
    # A margin beyond 10³⁰⁸, where diverging runs end, would overflow.
    axes.margins(y=0.05 if max(heights, default=0) < 1e290 else 0)
    if under_a_roof or _grows_geometrically(x):
        axes.set_xscale("log")
    else:
        axes.locator_params("x", integer=all(float(value).is_integer() for value in x))
    marker = "o" if len(x) <= 12 else None
    lines = {
        label: axes.plot(x, y, color=color, linestyle=dashes, marker=marker, markersize=3.5)[0]
        for (label, y), color, dashes in zip(series.items(), cycle(PALETTE), cycle(DASHES), strict=False)
    }
    for label, y in roofs.items():
        color = lines[label].get_color() if label in series else FAINT
        roof = axes.plot(x, y, color=color, linestyle=DASHES[1], linewidth=0.9, zorder=1)[0]
        lines.setdefault(label, roof)
    labels = [_literal(label) for label in entries]
    if legend_rows:
        axes.legend(lines.values(), labels, loc="lower left", bbox_to_anchor=(0, 1), ncols=columns)
    else:
        axes.set_title("".join(labels))
    _tidy(axes)


def _literal(text: str) -> str:
    """The text with dollars that don't begin a formula."""
    return text.replace("$", r"\$")


def _grows_geometrically(x: Sequence[float]) -> bool:
    """Whether the middle of a wide, positive x is nearer to the geometric than to the arithmetic mean of its ends."""
    low, middle, high = min(x), statistics.median(x), max(x)
    if low <= 0 or high <= 100 * low:
        return False
    return abs(middle - math.sqrt(low * high)) < abs(middle - (low + high) / 2)
