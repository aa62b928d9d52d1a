"""Section 6.3.2: weighted sampling of imbalanced classes."""

import numpy as np
import pytest
import torch
from scipy.stats import chi2
from torch.utils.data import DataLoader, WeightedRandomSampler

from fitcore.data import class_balanced_sampler
from fitcore.testing import REFUTED, claim, error_of, override

COUNTS = torch.tensor([9000, 1000])
LABELS = torch.repeat_interleave(torch.arange(2), COUNTS)


def inverse_counts(labels):
    """One weight a sample, 1 / the number of samples of its class."""
    return (1.0 / torch.bincount(labels))[labels]


def unweighted_sampler(labels, count):
    return WeightedRandomSampler([1.0] * len(labels), count)


def sampler_of_counts(labels, count):
    """Weigh a sample with the size of its class."""
    return WeightedRandomSampler(torch.bincount(labels)[labels].tolist(), count)


def drawn(weights, count, replacement=True):
    return torch.tensor(list(WeightedRandomSampler(weights, count, replacement)))


@claim(
    "pytorch-notes/weightedsampler-listing-runs",
    verdict=REFUTED,
    finding="IndexError: it indexes the ten class weights by the numbers of the 50,000 samples. Indexed by their "
    "labels, they give one weight a sample, and the loader runs.",
    controls=[override("indexed by the labels", index=lambda labels: labels.tolist())],
)
def test_the_class_weights_cant_be_indexed_by_sample_numbers(index=lambda labels: list(range(len(labels)))):
    weights, labels = 1.0 / torch.full((10,), 5000.0), torch.arange(50_000) % 10
    error = error_of(weights.__getitem__, index(labels))
    assert isinstance(error, IndexError)
    assert "out of bounds for dimension 0 with size 10" in str(error)
    repaired = weights[labels]
    assert repaired.shape == (50_000,)
    loader = DataLoader(labels, batch_size=64, sampler=WeightedRandomSampler(repaired, 640))
    assert [len(batch) for batch in loader] == [64] * 10


@claim(
    "pytorch-notes/weightedsampler-repaired-balances-classes",
    finding="Of 10,000 draws from 9,000 and 1,000 samples half are of either class, with the spread of a fair coin; "
    "each rare sample is drawn five times on average.",
    controls=[
        override("equal weights", sampler=unweighted_sampler),
        override("counts for weights", sampler=sampler_of_counts),
    ],
)
def test_inverse_class_counts_draw_the_classes_equally_often(trials, evidence, sampler=class_balanced_sampler):
    rare = trials.map(lambda _: (LABELS[list(sampler(LABELS, 10_000))] == 1).sum())
    evidence.observe("draws of the rare class, of 10,000", rare, limit=5000)
    chi_squared = ((rare - 5000) / 50) ** 2  # the standard deviation of 10,000 coins is 50
    low, high = chi2.ppf([0.025, 0.975], 1)
    trials.always(abs(rare - 5000) < 400, name="half of the draws, to within eight standard deviations")
    trials.mostly(chi_squared < high, at_least=0.5, name="spread as a fair coin's, and no more")
    trials.mostly(chi_squared > low, at_least=0.5, name="and no less")


@claim(
    "pytorch-notes/weightedsampler-with-replacement-covers-dataset",
    verdict=REFUTED,
    finding="50,000 draws with replacement visit 63.2 % of 50,000 samples, 1 - 1/e, some of them seven or eight times. "
    "Without replacement each is visited once.",
    controls=[override("without replacement", replacement=False)],
    trials=10,
)
def test_an_epoch_with_replacement_misses_more_than_a_third(trials, evidence, replacement=True):
    weights = torch.ones(50_000)
    visits = trials.map(lambda _: torch.bincount(drawn(weights, 50_000, replacement), minlength=50_000))
    shares = (visits > 0).mean(1)
    evidence.observe("share of the samples visited", shares, limit=1 - 1 / np.e)
    trials.always(abs(shares - (1 - 1 / np.e)) < 0.02, name="63 % of the samples visited")
    once = torch.tensor(list(WeightedRandomSampler(weights, 50_000, replacement=False)))
    assert torch.equal(once.sort().values, torch.arange(50_000))


@claim(
    "pytorch-notes/weightedsampler-without-replacement-balances",
    verdict=REFUTED,
    finding="10,000 draws without replacement from 10,000 samples are all of them, at 9 to 1 as before; the weights "
    "only bring the rare class forward. More draws than samples raise RuntimeError. With replacement it is 1 to 1.",
    controls=[override("with replacement", replacement=True)],
    trials=20,
)
def test_as_many_draws_as_samples_without_replacement_change_nothing(trials, evidence, replacement=False):
    weights = inverse_counts(LABELS)
    orders = trials.map(lambda _: drawn(weights, 10_000, replacement))
    labels = LABELS.numpy()[orders]
    evidence.compare("share of the rare class", {"all draws": labels.mean(1), "first 1,000": labels[:, :1000].mean(1)})
    trials.always((np.sort(orders) == np.arange(10_000)).all(1), name="every sample is drawn once")
    trials.always(labels[:, :1000].mean(1) > 0.3, name="the rare class comes early")
    rebalanced = trials.map(lambda _: LABELS[drawn(weights, 10_000)].float().mean())
    trials.always(abs(rebalanced - 0.5) < 0.05, name="with replacement the classes are balanced")
    with pytest.raises(RuntimeError, match="without replacement"):
        drawn(weights, 10_001, replacement=False)
