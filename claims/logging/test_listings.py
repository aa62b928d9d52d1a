"""Section 8.4: why the first listing does not run as printed."""

import pytest

from fitcore.testing import REFUTED, claim, error_of, override

# Our own words for what the listing does at these places, with what it leaves out left out.
DOTS, UNDEFINED, ORPHAN = "......", "writer = SummaryWriter(log_dir='logs')", "step = 0\n        step += 1"
REPAIRED = {DOTS: "# ......", UNDEFINED: "from io import StringIO as SummaryWriter", ORPHAN: "step = 0\nstep += 1"}
EXPECTED = {DOTS: SyntaxError, UNDEFINED: NameError, ORPHAN: IndentationError}


def run(source):
    exec(compile(source, "listing", "exec"), {})


@claim(
    "pytorch-notes/partial-tb-listing-not-standalone",
    verdict=REFUTED,
    finding="Its rows of dots are no Python, and what they stand for is missing: the imports, the model, the data, the "
    "head of the loop to which indented lines belong. The complete example after it runs.",
    controls=[override("repaired", repair=REPAIRED.get)],
)
@pytest.mark.parametrize("fragment", EXPECTED, ids=["rows of dots", "no imports", "no head of the loop"])
def test_the_first_listing_fails_where_it_leaves_something_out(example, fragment, repair=str):
    with pytest.raises(EXPECTED[fragment]):
        run(repair(fragment))
    assert error_of(run, REPAIRED[fragment]) is None
    assert error_of(example, epochs=3, lean=True) is None
