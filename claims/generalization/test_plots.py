"""Section 2.2: what the plot of the losses shows, and whether its Chinese labels are drawn."""

import warnings

import hypothesis.strategies as st
import matplotlib as mpl
import numpy as np
import pytest
from hypothesis import assume, given, settings
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from fitcore.testing import REFUTED, claim, override

histories = st.lists(st.floats(0.01, 100), min_size=2, max_size=20, unique=True)


def plot_losses(training, validation, mark, labels=("training", "validation", "best")):
    """The document's plot; ``mark`` draws the dashed line, and what it returns is that line."""
    axes = Figure(figsize=(10, 4)).add_subplot()
    axes.plot(training, label=labels[0])
    axes.plot(validation, label=labels[1])
    line = mark(axes, validation, label=f"{labels[2]}: {min(validation):.4f}")
    axes.legend()
    axes.set_xlabel("Epoch")
    axes.set_ylabel("MSE Loss")
    return axes, line


def horizontal(axes, validation, label):
    return axes.axhline(y=min(validation), color="r", linestyle="--", label=label)


def vertical(axes, validation, label):
    return axes.axvline(x=int(np.argmin(validation)), color="r", linestyle="--", label=label)


@claim(
    "generalization/best-val-line-marks-epoch",
    verdict=REFUTED,
    finding="It is horizontal: it marks the lowest validation loss, over all epochs alike, and is the same whenever "
    "that loss was reached. A vertical line at its argmin marks the epoch.",
    controls=[override("a vertical line", mark=vertical)],
)
@settings(max_examples=10)
@given(validation=histories, mark=st.just(horizontal))
def test_the_dashed_line_marks_the_lowest_loss_and_not_its_epoch(validation, mark, evidence):
    best = int(np.argmin(validation))
    reversed_ = validation[::-1]
    assume(best != int(np.argmin(reversed_)))
    of_this, of_reversed = (plot_losses(v, v, mark)[1].get_xydata() for v in (validation, reversed_))
    assert np.array_equal(of_this, of_reversed)
    assert np.array_equal(of_this, [[0, min(validation)], [1, min(validation)]])
    assert list(plot_losses(validation, validation, vertical)[1].get_xdata()) == [best, best]


CHINESE = ("训练损失", "验证损失", "最佳验证点")


@claim(
    "generalization/chinese-plot-labels-render",
    verdict=REFUTED,
    finding="Matplotlib's default font, DejaVu Sans, has none of the characters: it warns of each and draws a box. "
    "Latin labels are drawn; for Chinese ones, font.sans-serif has to name a font that has them.",
    controls=[override("Latin labels", labels=("training", "validation", "best"))],
)
def test_the_default_font_lacks_the_chinese_labels(evidence, labels=CHINESE):
    def picture(labels):
        axes, _ = plot_losses([9, 4, 2, 1], [9, 5, 4, 6], horizontal, labels)
        canvas = FigureCanvasAgg(axes.figure)
        canvas.draw()
        return np.asarray(canvas.buffer_rgba())[..., :3]

    # The bundled font alone: what else is installed differs from machine to machine.
    with mpl.rc_context({**mpl.rcParamsDefault, "backend": "agg", "font.sans-serif": ["DejaVu Sans"]}):
        with pytest.warns(UserWarning, match="missing from font"):
            evidence.image("the plot with default fonts", picture(labels))
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            picture(("training", "validation", "best"))
