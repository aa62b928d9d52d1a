import hypothesis.strategies as st
import pytest
import torch
from hypothesis import assume, given

from fitcore.data import stratified_split, train_validation_split


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


@given(counts=st.lists(st.integers(5, 30), min_size=1, max_size=4), fraction=st.floats(0.2, 0.8))
def test_a_stratified_split_has_the_same_share_of_every_class(counts, fraction):
    labels = torch.arange(len(counts)).repeat_interleave(torch.tensor(counts))
    training, validation = stratified_split(labels, fraction)
    assert len(validation) == int(fraction * len(labels))
    assert torch.cat([training, validation]).sort().values.tolist() == list(range(len(labels)))
    held_out = torch.bincount(labels[validation], minlength=len(counts))
    expected = torch.tensor(counts) * len(validation) / len(labels)
    assert (held_out - expected).abs().max() <= 1


def test_a_stratified_split_follows_its_generator_or_the_global_state():
    labels = [0, 1] * 25
    first, second = (stratified_split(labels, generator=torch.Generator().manual_seed(1)) for _ in range(2))
    assert all(map(torch.equal, first, second))
    torch.manual_seed(1)
    assert all(map(torch.equal, first, stratified_split(labels)))
    assert not torch.equal(first[0], stratified_split(labels)[0])


@pytest.mark.parametrize(
    ("labels", "fraction", "message"),
    [
        ([0, 1] * 5, 0.0, "fraction must be between 0 and 1, got 0.0"),
        ([0, 1], 0.2, "at fraction 0.2, got 2"),
        ([], 0.2, "at fraction 0.2, got 0"),
        ([0] * 9 + [7], 0.2, "every class needs two samples, class 7 has one"),
        ([0, 0, 1, 1, 2, 2], 0.4, "each of 3 classes; fraction 0.4 of 6 samples holds back 2"),
        ([[0, 1]] * 9, 0.4, r"labels must be one-dimensional, got shape \(9, 2\)"),
    ],
)
def test_labels_that_cant_be_stratified(labels, fraction, message):
    with pytest.raises(ValueError, match=message):
        stratified_split(torch.tensor(labels), fraction)
