"""Sections 6 and 6.3.1: what a DataLoader does with shuffle, drop_last, pin_memory, and a test set."""

from functools import partial
from math import ceil

import hypothesis.strategies as st
import numpy as np
import pytest
import torch
from hypothesis import given
from torch import nn
from torch.nn.functional import cross_entropy
from torch.utils.data import DataLoader, RandomSampler, SequentialSampler, TensorDataset, WeightedRandomSampler

from fitcore.data import cifar10
from fitcore.evaluation.ceilings import synchronised
from fitcore.evaluation.throughput import least_seconds
from fitcore.models import MLP
from fitcore.testing import CONDITIONAL, claim, error_of, override


def epochs(samples, batch_size, count, **options):
    """The order of the samples in each epoch of one loader, (count, samples)."""
    loader = DataLoader(TensorDataset(torch.arange(samples)), batch_size, **options)
    return torch.stack([torch.cat([batch for (batch,) in loader]) for _ in range(count)])


@claim(
    "pytorch-notes/shuffle-true-new-permutation-each-epoch",
    finding="In 20 epochs of 100 samples no two orders are the same, and a sample moves by 33.3 places on average, as "
    "in permutations drawn uniformly.",
    controls=[
        override("no shuffling", shuffle=False),
        override("a mixed order that is kept", shuffle=False, sampler=[37 * n % 100 for n in range(100)]),
        override("with replacement", shuffle=False, sampler=RandomSampler(range(100), replacement=True)),
    ],
    trials=10,
)
def test_shuffling_visits_each_sample_once_in_a_new_order(trials, evidence, shuffle=True, sampler=None):
    orders = trials.map(lambda _: epochs(100, 10, 20, shuffle=shuffle, sampler=sampler))
    evidence.image("the samples of 20 epochs, first seed", orders[0] / 99)
    moved = abs(orders - np.arange(100)).mean((1, 2))
    evidence.observe("places that a sample moves", moved, limit=(100**2 - 1) / 300)
    trials.always((np.sort(orders) == np.arange(100)).all((1, 2)), name="each epoch has every sample once")
    trials.always([len(np.unique(of_trial, axis=0)) == 20 for of_trial in orders], name="in 20 different orders")
    trials.always(abs(moved - (100**2 - 1) / 300) < 4, name="as random as can be")


@claim(
    "pytorch-notes/steps-equal-total-over-batch",
    verdict=CONDITIONAL,
    finding="Where the batch size divides the number of samples. Else a smaller batch comes last (100 in batches of 30 "
    "make four steps), unless drop_last=True leaves it out (three).",
    controls=[override("a sampler that draws more", sampler=[0] * 1000)],
)
@given(samples=st.just(100) | st.integers(1, 200), batch_size=st.sampled_from([10, 30, 7, 100]), sampler=st.none())
def test_steps_are_samples_over_batch_size_rounded_up_or_down(samples, batch_size, sampler):
    loaders = [DataLoader(range(samples), batch_size, sampler=sampler, drop_last=drop) for drop in (False, True)]
    all_steps, full_steps = (len(list(loader)) for loader in loaders)
    assert [len(loader) for loader in loaders] == [all_steps, full_steps]
    assert (all_steps, full_steps) == (ceil(samples / batch_size), samples // batch_size)
    assert (all_steps == samples / batch_size) == (samples % batch_size == 0)


@claim(
    "pytorch-notes/train-loader-drop-last-count",
    finding="781 full batches, and 16 images left over.",
    controls=[override("the last batch kept", drop_last=False), override("batches of 50", batch_size=50)],
)
def test_dropping_the_last_batch_leaves_781_of_782(evidence, drop_last=True, batch_size=64):
    sizes = list(DataLoader(range(50_000), batch_size, drop_last=drop_last, collate_fn=len))
    assert evidence.figure("batches", reported=781, measured=len(sizes), tolerance=0)
    assert set(sizes) == {64}
    *full, last = DataLoader(range(50_000), batch_size, collate_fn=len)
    assert (len(full), last) == (781, 16)


@claim(
    "pytorch-notes/sampler-excludes-shuffle-true",
    finding="ValueError, as soon as the loader is made; with shuffle=False, or none given, the sampler is taken.",
    controls=[override("not shuffled", shuffle=False)],
)
@given(
    samples=st.integers(1, 20),
    make=st.sampled_from(
        [SequentialSampler, RandomSampler, lambda data: WeightedRandomSampler([1.0] * len(data), len(data))]
    ),
    shuffle=st.just(True),
)
def test_a_sampler_and_shuffling_exclude_each_other(samples, make, shuffle):
    data = range(samples)
    error = error_of(DataLoader, data, sampler=make(data), shuffle=shuffle)
    assert isinstance(error, ValueError)
    assert "sampler option is mutually exclusive with shuffle" in str(error)
    assert error_of(DataLoader, data, sampler=make(data), shuffle=False) is None


def classifier(images, labels):
    """A network with batch normalisation that has learned most of the images."""
    model = MLP([768, 16, 10], nn.ReLU, batch_norm=True)
    optimizer = torch.optim.Adam(model.parameters(), lr=0.01)
    for _ in range(15):
        optimizer.zero_grad()
        cross_entropy(model(images), labels).backward()
        optimizer.step()
    return model


@claim(
    "pytorch-notes/test-set-needs-no-shuffle",
    finding="In evaluation no prediction depends on its batch, so that all orders give the same accuracy. Left in "
    "training mode, batch normalisation makes them depend on it, and the accuracy changes with the order.",
    controls=[override("left in training mode", training=True)],
    trials=5,
)
def test_the_order_of_the_test_set_does_not_change_its_accuracy(shared, trials, evidence, training=False):
    images = shared(cifar10, train=False)[:300]
    data = TensorDataset(images.scaled[:, :, ::2, ::2].flatten(1), images.labels)

    def correct(_):
        model = classifier(*data[:]).train(training)
        loaders = [DataLoader(data, 64, shuffle=shuffle) for shuffle in (False, True, True)]
        return [sum((model(x).argmax(1) == y).sum().item() for x, y in loader) for loader in loaders]

    counts = trials.map(correct)
    evidence.observe("correct, of 300 images, in the order of the data", counts[:, 0])
    trials.always(counts[:, 0] == counts[:, 1], name="shuffled once")
    trials.always(counts[:, 0] == counts[:, 2], name="and once more")


@pytest.mark.skipif(torch.accelerator.is_available(), reason="is about machines without an accelerator")
@claim(
    "pytorch-notes/pin-memory-without-gpu-is-harmless-noop",
    controls=[override("not asked for", pin_memory=False)],
)
def test_without_an_accelerator_pinning_warns_and_does_nothing(pin_memory=True):
    data = TensorDataset(torch.arange(20))
    with pytest.warns(UserWarning, match="no accelerator is found"):
        batches = [batch for (batch,) in DataLoader(data, 5, pin_memory=pin_memory)]
    assert not any(batch.is_pinned() for batch in batches)
    assert torch.equal(torch.cat(batches), torch.arange(20))


def to_the_gpu(batches, non_blocking):
    for batch in batches:
        batch.to("cuda", non_blocking=non_blocking)


@pytest.mark.gpu
@claim(
    "pytorch-notes/pin-memory-speeds-gpu-transfer",
    finding="Of the copy itself: from pageable memory the driver copies by way of a pinned buffer of its own.",
    controls=[override("pageable memory", pin=torch.clone)],
)
@pytest.mark.parametrize("non_blocking", [False, True])
def test_pinned_batches_reach_the_gpu_faster(non_blocking, evidence, pin=torch.Tensor.pin_memory):
    pageable = [torch.rand(64, 3, 32, 32) for _ in range(50)]
    batches = {"pageable": pageable, "pinned": [pin(batch) for batch in pageable]}
    copies = {memory: partial(to_the_gpu, each, non_blocking) for memory, each in batches.items()}
    waiting = {memory: synchronised(copy, torch.device("cuda")) for memory, copy in copies.items()}
    seconds = least_seconds(waiting, rounds=20)
    evidence.table("50 batches to the GPU", [{f"{memory}, ms": 1e3 * time for memory, time in seconds.items()}])
    (batch,) = next(iter(DataLoader(TensorDataset(pageable[0]), 64, pin_memory=True)))
    assert batch.is_pinned()
    assert seconds["pinned"] < 0.8 * seconds["pageable"]
