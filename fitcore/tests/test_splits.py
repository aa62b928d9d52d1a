import hypothesis.strategies as st
import pytest
import torch
from hypothesis import assume, given

from fitcore.data import train_validation_split


@given(samples=st.integers(2, 200), fraction=st.floats(0.01, 0.99))
def test_the_parts_are_disjoint_cover_all_and_have_the_sizes_asked_for(samples, fraction):
    assume(int(fraction * samples) >= 1)
    training, validation = train_validation_split(samples, fraction)
    assert len(validation) == int(fraction * samples)
    assert torch.cat([training, validation]).sort().values.tolist() == list(range(samples))


def test_a_generator_makes_it_reproducible():
    first, second = (train_validation_split(50, generator=torch.Generator().manual_seed(1)) for _ in range(2))
    assert all(map(torch.equal, first, second))


def test_without_a_generator_it_follows_the_global_state():
    torch.manual_seed(1)
    first = train_validation_split(50)
    torch.manual_seed(1)
    assert all(map(torch.equal, first, train_validation_split(50)))


@pytest.mark.parametrize("fraction", [0.0, 1.0, -0.2, 1.5, float("nan")])
def test_fractions_outside_0_to_1(fraction):
    with pytest.raises(ValueError, match=f"fraction must be between 0 and 1, got {fraction}"):
        train_validation_split(10, fraction)


@pytest.mark.parametrize("samples", [0, 1, 4])
def test_too_few_samples_for_one_to_be_held_back(samples):
    with pytest.raises(ValueError, match=f"at fraction 0.2, got {samples}"):
        train_validation_split(samples)
