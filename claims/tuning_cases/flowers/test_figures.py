"""The figures that case 2 prints of its two networks."""

from fitcore.testing import claim, override


def points(before, after):
    return 100 * (after - before)


def percent_of_before(before, after):
    return 100 * (after - before) / before


@claim(
    "tuning-cases/flower-gain-27-53-points",
    finding="So they are percentage points, though printed with a percent sign; of the accuracy before it is 45.79 %.",
    controls=[override("in percent of the accuracy before", gain=percent_of_before)],
)
def test_the_gain_is_in_points(evidence, gain=points):
    measured = gain(0.6012, 0.8765)
    assert evidence.figure("gain", reported=27.53, measured=measured, tolerance=0.005)
    assert round(percent_of_before(0.6012, 0.8765), 2) == 45.79
