import hypothesis.strategies as st
import numpy as np
import pytest
from hypothesis import given

from fitcore.evaluation.diagnosis import Pattern, diagnose, roughness

epochs = np.arange(40)
falling = np.exp(-epochs / 8)
wave = 0.4 * (-1.0) ** epochs

SIMULATED = {
    "both fall and level off": (0.1 + falling, 0.2 + falling, Pattern.HEALTHY),
    "validation rises again": (0.1 + falling, 0.3 + falling + 0.02 * epochs, Pattern.OVERFITTING),
    "validation rises from the start": (0.1 + falling, 1.1 + 0.02 * epochs, Pattern.OVERFITTING),
    "neither moves": (1 - 0.001 * epochs, 1.1 - 0.001 * epochs, Pattern.UNDERFITTING),
    "both stall too high": (0.9 + 0.1 * falling, 1 + 0.1 * falling, Pattern.UNDERFITTING),
    "both zigzag": (1 + wave, 1.1 + wave, Pattern.OSCILLATING),
    "a zigzag that falls": (1 + falling + wave, 1.1 + falling + wave, Pattern.OSCILLATING),
    "the training diverges": (np.where(epochs < 20, 1, np.inf), np.where(epochs < 20, 1, np.nan), Pattern.OSCILLATING),
}


@pytest.mark.parametrize("name", SIMULATED)
@given(unit=st.floats(1e-3, 1e3))
def test_simulated_patterns_are_recognised_in_any_unit(name, unit):
    training, validation, pattern = SIMULATED[name]
    assert diagnose(unit * training, unit * validation) is pattern


@pytest.mark.parametrize("name", [name for name in SIMULATED if name != "neither moves"])  # whose way is all noise
@given(seed=st.integers(0, 2**32 - 1))
def test_they_are_recognised_under_a_little_noise(name, seed):
    *curves, pattern = SIMULATED[name]
    noise = np.random.default_rng(seed).normal(1, 0.001, (2, 40))
    assert diagnose(*(curve * factors for curve, factors in zip(curves, noise, strict=True))) is pattern


@pytest.mark.parametrize(
    ("training", "validation", "pattern"),
    [
        ([10, 0, 3], [10, 0, 3], Pattern.HEALTHY),  # 13 up and down over a distance of 10
        ([10, 0, 3.1], [10, 0, 3.1], Pattern.OSCILLATING),
        ([10, 8, 6], [10, 8, 6], Pattern.HEALTHY),
        ([10, 8, 6.1], [10, 8, 6.1], Pattern.UNDERFITTING),
        ([10, 5, 2], [20, 10, 11], Pattern.HEALTHY),
        ([10, 5, 2], [20, 10, 11.1], Pattern.OVERFITTING),
        ([10, 2, 2], [20, 10, 20], Pattern.HEALTHY),  # what is lost isn't gained on the training data
        ([10, np.nan, 2], [10, 5, 2], Pattern.OSCILLATING),
    ],
)
def test_the_bounds_are_those_that_are_stated_and_belong_to_the_healthy(training, validation, pattern):
    assert diagnose(training, validation) is pattern


def test_a_baseline_unmasks_a_model_that_is_too_small_and_starts_far_off():
    training = 0.8 + 3 * falling
    assert diagnose(training, training) is Pattern.HEALTHY
    assert diagnose(training, training, baseline=1.0) is Pattern.UNDERFITTING


@given(st.lists(st.floats(0, 100), min_size=2, max_size=20))
def test_roughness_is_one_for_monotone_curves_and_never_less(losses):
    assert roughness(sorted(losses, reverse=True)) == pytest.approx(1)
    assert roughness(losses) >= 1 - 1e-9


def test_roughness_of_a_zigzag_is_the_number_of_its_ways():
    assert roughness([0, 1, 0, 1, 0]) == 4
    assert roughness([2, 2, 2]) == 1


@pytest.mark.parametrize(
    ("training", "validation"),
    [([1, 2], [1, 2]), ([1, 2, 3], [1, 2]), ([1, 2, 3], [1, 2, 3, 4]), ([[1], [2], [3]], [[1], [2], [3]])],
)
def test_curves_that_do_not_fit_together_are_refused(training, validation):
    with pytest.raises(ValueError, match=r"same three or more epochs, got \("):
        diagnose(training, validation)
