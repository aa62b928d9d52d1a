"""Section 6.7.2: a data set that keeps the first samples it has read."""

from time import perf_counter, sleep

import hypothesis.strategies as st
import numpy as np
import torch
from hypothesis import example, given
from torch.utils.data import DataLoader, Dataset, RandomSampler

from fitcore.data import CachedDataset
from fitcore.testing import CONDITIONAL, REFUTED, claim, override


class FirstSeen(Dataset):
    """The document's cache: by index as it is given, without copies, and never evicting."""

    def __init__(self, dataset, cache_size=1000):
        self.dataset, self.cache_size, self.cache = dataset, cache_size, {}

    def __len__(self):
        return len(self.dataset)

    def __getitem__(self, index):
        if index in self.cache:
            return self.cache[index]
        sample = self.dataset[index]
        if len(self.cache) < self.cache_size:
            self.cache[index] = sample
        return sample


class LeastRecentlyUsed(FirstSeen):
    """A cache that evicts what has not been used for longest."""

    def __getitem__(self, index):
        sample = self.cache.pop(index) if index in self.cache else self.dataset[index]
        if self.cache_size and len(self.cache) >= self.cache_size:
            del self.cache[next(iter(self.cache))]
        self.cache[index] = sample
        return sample


class Read(Dataset):
    """Samples that are fresh tensors, and in memory that workers share, how often each was read."""

    def __init__(self, length, seconds=0.0):
        self.reads = torch.zeros(length, dtype=torch.int64).share_memory_()
        self.seconds = seconds

    def __len__(self):
        return len(self.reads)

    def __getitem__(self, index):
        self.reads[index] += 1
        if self.seconds:
            sleep(self.seconds)
        return torch.tensor(int(index))


def nothing_kept(dataset, cache_size=1000):
    return FirstSeen(dataset, 0)


def everything_kept(dataset, cache_size=1000):
    return FirstSeen(dataset, len(dataset))


def reads_of_epochs(data, source, epochs, **loading):
    """How many samples of ``source`` each epoch over ``data`` reads."""
    loader, reads = DataLoader(data, **loading), [0]
    for _ in range(epochs):
        assert torch.equal(torch.cat(list(loader)).sort().values, torch.arange(len(source)))
        reads.append(int(source.reads.sum()))
    return np.diff(reads).tolist()


def seconds_of_epochs(data):
    """Of the first epoch, and of the fastest of three more."""
    loader, seconds = DataLoader(data, batch_size=10, shuffle=True), []
    for _ in range(4):
        start = perf_counter()
        list(loader)
        seconds.append(perf_counter() - start)
    return seconds[0], min(seconds[1:])


@claim(
    "pytorch-notes/cached-dataset-speeds-later-epochs",
    finding="Without workers, and as far as the cache reaches: later epochs take a few percent of the first one at "
    "most, of samples that are waited for as of photographs that are augmented.",
    controls=[override("nothing kept", cached=nothing_kept)],
)
def test_a_cache_that_holds_all_samples_makes_later_epochs_fast(
    torchvision_dataset, printed, evidence, cached=FirstSeen
):
    sources = {
        "50 samples, 2 ms each": Read(50, seconds=0.002),
        "100 photographs, augmented": torchvision_dataset("CIFAR10", printed.training, count=100),
    }
    times = {name: seconds_of_epochs(cached(source)) for name, source in sources.items()}
    rows = [{"data": name, "first epoch, ms": 1e3 * t[0], "later, ms": 1e3 * t[1]} for name, t in times.items()]
    evidence.table("epochs", rows)
    assert all(later < 0.5 * first for first, later in times.values())


@claim(
    "pytorch-notes/cached-dataset-with-worker-processes",
    verdict=CONDITIONAL,
    finding="By default no: each epoch starts new workers from the loading process, whose cache has stayed empty, and "
    "every sample is read again. With persistent_workers=True each worker keeps a cache of its own, which finds all "
    "samples if they come in the same order, and if shuffled between two workers about half of them. A cache that was "
    "filled before the workers start is copied into them.",
    controls=[override("no workers", num_workers=0)],
)
def test_workers_lose_their_caches_unless_they_persist(evidence, num_workers=2):
    def reads(filled=0, **loading):
        source = Read(60)
        data = FirstSeen(source)
        assert [data[index] for index in range(filled)] == list(range(filled))
        return reads_of_epochs(data, source, epochs=2, batch_size=2, num_workers=num_workers, **loading)

    counts = {
        "default": reads(),
        "persistent": reads(persistent_workers=num_workers > 0),
        "persistent, shuffled": reads(persistent_workers=num_workers > 0, shuffle=True),
        "filled before": reads(filled=60),
    }
    rows = [{"workers": name, "first epoch": first, "second": second} for name, (first, second) in counts.items()]
    evidence.table("samples read, of 60", rows)
    assert counts["default"] == [60, 60]
    assert counts["persistent"] == [60, 0]
    assert 0 < counts["persistent, shuffled"][1] < 60
    assert counts["filled before"] == [60, 0]


@claim(
    "pytorch-notes/cached-dataset-freezes-augmentation",
    verdict=REFUTED,
    finding="The first augmentation of a cached image is the only one: ten reads give one image. Those that the cache "
    "has no room for go on changing. To keep the image and augment it after it came from the cache gives ten "
    "different ones.",
    controls=[override("nothing kept", cached=nothing_kept)],
    trials=5,
)
def test_a_cached_image_is_augmented_once_for_all(torchvision_dataset, printed, trials, evidence, cached=FirstSeen):
    def distinct(data, index=0):
        return len(torch.stack([data[index][0] for _ in range(10)]).unique(dim=0))

    def counts(_):
        data = cached(torchvision_dataset("CIFAR10", printed.training, count=2), 1)
        images = torchvision_dataset("CIFAR10", count=2)
        repaired = CachedDataset(images, 1, transform=lambda sample: (printed.training(sample[0]), sample[1]))
        return distinct(data), distinct(data, index=1), distinct(repaired)

    kept, beyond, repaired = trials.map(counts).T
    evidence.compare("different images in ten reads", {"cached": kept, "no room": beyond, "augmented after": repaired})
    trials.always(kept == 1, name="cached: one image")
    trials.always(beyond > 1, name="no room: several")
    trials.always(repaired > 1, name="augmented after the cache: several")


@claim(
    "pytorch-notes/cached-dataset-hit-count",
    finding="In whatever order an epoch goes through the samples: those that found no room are read again.",
    controls=[
        override("evicting the least recently used", cached=LeastRecentlyUsed),
        override("all kept", cached=everything_kept),
    ],
)
@example(length=3000, cache_size=1000, seed=0, cached=FirstSeen)
@example(length=1000, cache_size=1000, seed=0, cached=FirstSeen)
@given(length=st.integers(1, 50), cache_size=st.integers(0, 60), seed=st.integers(0, 2**32), cached=st.just(FirstSeen))
def test_each_later_epoch_reads_what_did_not_fit(length, cache_size, seed, cached):
    source = Read(length)
    sampler = RandomSampler(source, generator=torch.Generator().manual_seed(seed))
    counts = reads_of_epochs(cached(source, cache_size), source, epochs=3, sampler=sampler, batch_size=100)
    missing = max(0, length - cache_size)
    assert counts == [length, missing, missing]


@claim(
    "pytorch-notes/cached-dataset-returns-shared-object",
    verdict=REFUTED,
    finding="Every read, the first one too, hands out the very object in the cache: what is done to it in place is "
    "there in all later reads. Batches of a DataLoader are copies, and safe; so is what a cache of copies returns.",
    controls=[override("a cache of copies", cached=CachedDataset), override("nothing kept", cached=nothing_kept)],
)
@given(length=st.integers(1, 10), data=st.data(), cached=st.just(FirstSeen))
def test_a_cached_sample_changed_in_place_stays_changed(length, data, cached):
    shared, batched, copied = (kind(Read(length), length) for kind in (cached, FirstSeen, CachedDataset))
    index, change = data.draw(st.integers(0, length - 1)), data.draw(st.integers(1, 9))
    for _ in range(2):
        shared[index].add_(change)
        copied[index].add_(change)
        next(iter(DataLoader(batched, batch_size=length))).add_(change)
    assert shared[index] == index + 2 * change
    assert (batched[index], copied[index]) == (index, index)


@claim(
    "pytorch-notes/cached-dataset-index-types",
    verdict=REFUTED,
    finding="It finds what is equal and hashes alike: NumPy integers, True for 1. A tensor hashes by identity, so that "
    "five reads with torch.tensor(1) read five times and take five places; and -1 and 9 of ten samples are two. An "
    "index brought to an int from 0 to n - 1 first is found in every form.",
    controls=[override("a cache that converts indices", cached=CachedDataset)],
)
@given(length=st.integers(2, 10), data=st.data(), cached=st.just(FirstSeen))
def test_tensors_and_negative_numbers_miss_the_cache(length, data, cached):
    def reads(kind, *indices):
        source = Read(length)
        samples = kind(source, cache_size=100)
        assert {int(samples[index]) % length for index in indices} == {place}
        return int(source.reads.sum())

    place = data.draw(st.integers(0, length - 1))
    assert reads(cached, place, np.int64(place), np.uint8(place)) == 1
    assert reads(cached, *(torch.tensor(place) for _ in range(5))) == 5
    assert reads(cached, place, place - length) == 2
    assert reads(CachedDataset, place, np.int64(place), torch.tensor(place), torch.tensor(place), place - length) == 1


@claim(
    "pytorch-notes/cached-dataset-no-eviction",
    controls=[override("evicting the least recently used", cached=LeastRecentlyUsed)],
)
@example(order=range(10), cache_size=3, cached=FirstSeen)
@given(order=st.permutations(range(10)), cache_size=st.integers(1, 9), cached=st.just(FirstSeen))
def test_a_full_cache_keeps_the_first_samples_that_it_saw(order, cache_size, cached):
    source = Read(10)
    data = cached(source, cache_size)
    for index in (*order, *order[cache_size:], *order):
        data[index]
    first, later = order[:cache_size], order[cache_size:]
    assert [int(source.reads[index]) for index in first] == [1] * len(first)
    assert [int(source.reads[index]) for index in later] == [3] * len(later)
