import hypothesis.strategies as st
import numpy as np
import pytest
import torch
from hypothesis import given
from torch.utils.data import DataLoader

from fitcore.data import CachedDataset


class Counted:
    """Samples that each are a new tensor and their index, and how often they were read."""

    def __init__(self, length):
        self.length, self.reads = length, []

    def __len__(self):
        return self.length

    def __getitem__(self, index):
        self.reads.append(index)
        return torch.full((2,), index), {"index": index}


@given(length=st.integers(1, 10), cache_size=st.integers(0, 12), data=st.data())
def test_each_sample_comes_back_as_it_is_and_later_epochs_read_what_is_not_cached(length, cache_size, data):
    counted = Counted(length)
    cached = CachedDataset(counted, cache_size)
    assert len(cached) == length
    for reads in (length, max(0, length - cache_size)):
        counted.reads.clear()
        order = data.draw(st.permutations(range(length)))
        samples = [cached[index] for index in order]
        assert [sample[0].tolist() for sample in samples] == [[index] * 2 for index in order]
        assert [sample[1]["index"] for sample in samples] == order
        assert len(counted.reads) == reads


@pytest.mark.parametrize("index", [1, -2, np.int64(1), torch.tensor(1), torch.tensor([-2]), True])
def test_every_index_of_a_sample_finds_it(index):
    counted = Counted(3)
    cached = CachedDataset(counted, 3)
    assert (cached[1][1], cached[index][1]) == ({"index": 1}, {"index": 1})
    assert counted.reads == [1]


def test_a_change_in_place_changes_a_copy():
    cached = CachedDataset(Counted(3), 3)
    for _ in range(2):
        image, labels = cached[1]
        assert (image.tolist(), labels) == ([1, 1], {"index": 1})
        image.zero_()
        labels.clear()


def test_the_transform_is_applied_anew_in_every_read():
    counted = Counted(1)
    cached = CachedDataset(counted, 1, transform=lambda sample: sample[0] + torch.rand(()))
    assert not torch.equal(cached[0], cached[0])
    assert counted.reads == [0]


def test_a_loader_reads_it():
    batches = list(DataLoader(CachedDataset(Counted(5), 2), batch_size=2))
    assert [labels["index"].tolist() for _, labels in batches] == [[0, 1], [2, 3], [4]]


@pytest.mark.parametrize("index", [3, -4, 100])
def test_an_index_beyond_the_end(index):
    with pytest.raises(IndexError, match=f"index must be from -3 to 2, got {index}"):
        CachedDataset(Counted(3), 3)[index]


@pytest.mark.parametrize("index", [slice(2), 1.0, "1"])
def test_an_index_that_is_no_whole_number(index):
    with pytest.raises(TypeError):
        CachedDataset(Counted(3), 3)[index]


def test_a_negative_size():
    with pytest.raises(ValueError, match="cache_size must not be negative, got -1"):
        CachedDataset(Counted(3), -1)


def test_a_data_set_without_length():
    with pytest.raises(TypeError, match="dataset must have a length, got generator"):
        CachedDataset((n for n in range(3)), 1)
