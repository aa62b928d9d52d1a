"""Section 7.4: the two lines that are to make Chinese labels and minus signs show in plots."""

import warnings

import hypothesis.strategies as st
import matplotlib as mpl
import pytest
from fontTools.fontBuilder import FontBuilder
from fontTools.pens.ttGlyphPen import TTGlyphPen
from hypothesis import given, settings
from matplotlib import font_manager
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from fitcore.testing import CONDITIONAL, claim, override

FONTS = ["SimHei", "Microsoft YaHei", "DejaVu Sans"]
TITLE = "训练损失曲线"


def font_file(folder, title, name):
    """A font of that name with the characters of a title and those of ASCII, all of them squares."""
    characters = sorted({*title, *map(chr, range(32, 127))})
    pen = TTGlyphPen(None)
    pen.moveTo((0, 0))
    for corner in ((0, 700), (700, 700), (700, 0)):
        pen.lineTo(corner)
    pen.closePath()
    glyphs = [".notdef", *(f"uni{ord(each):04X}" for each in characters)]
    builder = FontBuilder(unitsPerEm=1000, isTTF=True)
    builder.setupGlyphOrder(glyphs)
    builder.setupCharacterMap({ord(each): glyph for each, glyph in zip(characters, glyphs[1:], strict=True)})
    builder.setupGlyf(dict.fromkeys(glyphs, pen.glyph()))
    builder.setupHorizontalMetrics(dict.fromkeys(glyphs, (750, 0)))
    builder.setupHorizontalHeader(ascent=800, descent=-200)
    builder.setupNameTable({"familyName": name, "styleName": "Regular"})
    builder.setupOS2()
    builder.setupPost()
    builder.save(folder / f"{name}.ttf")
    return folder / f"{name}.ttf"


@pytest.fixture
def installed():
    """``installed(path)`` installs a font beside those that Matplotlib brings; no others are there."""
    manager = font_manager.fontManager
    before = list(manager.ttflist)
    manager.ttflist[:] = [each for each in before if each.fname.startswith(mpl.get_data_path())]
    manager._findfont_cached.cache_clear()
    yield manager.addfont
    manager.ttflist[:] = before
    manager._findfont_cached.cache_clear()


def missing_characters(title, fonts=FONTS):
    """Which characters of a plot with that title Matplotlib warns that it can't draw."""
    with mpl.rc_context({**mpl.rcParamsDefault, "backend": "agg", "font.sans-serif": fonts}):
        figure = Figure()
        figure.add_subplot().set_title(title)
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            FigureCanvasAgg(figure).draw()
    return {int(str(each.message).split()[1]) for each in caught if "missing from font" in str(each.message)}


@claim(
    "pytorch-notes/cjk-font-list-renders-chinese",
    verdict=CONDITIONAL,
    finding="Only where SimHei or Microsoft YaHei is installed, as on Windows. The list installs nothing: without "
    "both, Matplotlib takes DejaVu Sans, the last name, which has none of the characters, warns of each and draws "
    "boxes. On Linux and macOS another font has to be named.",
    controls=[override("the fonts are not installed", install=None), override("Latin letters", title="Loss curve")],
)
@pytest.mark.parametrize("install", FONTS[:2])
def test_the_font_list_shows_chinese_only_where_one_of_its_fonts_is_installed(
    installed, tmp_path, evidence, install, title=TITLE
):
    without = missing_characters(title)
    if install:
        installed(font_file(tmp_path, TITLE, install))
    rows = {"without the fonts": without, f"with {install}": missing_characters(title)}
    evidence.table("characters missing", [{"": where, "characters": len(which)} for where, which in rows.items()])
    assert [len(which) for which in rows.values()] == [len(set(TITLE)), 0]
    assert missing_characters(title, ["DejaVu Sans"]) == without == set(map(ord, TITLE))


@claim(
    "pytorch-notes/axes-unicode-minus-false",
    finding="Tick labels have the hyphen (U+002D) then, which every font has, and else the minus sign (U+2212).",
    controls=[override("left at its default", setting=True)],
)
@settings(max_examples=10)
@given(tick=st.integers(-1000, -1), setting=st.just(False))
def test_negative_tick_labels_have_a_hyphen(tick, setting):
    def label(setting):
        with mpl.rc_context({"axes.unicode_minus": setting}):
            axes = Figure().add_subplot()
            axes.set_xticks([tick])
            axes.figure.canvas.draw()
            return axes.get_xticklabels()[0].get_text()

    assert label(setting) == str(tick) == f"-{-tick}"
    assert label(True) == f"\N{MINUS SIGN}{-tick}"
