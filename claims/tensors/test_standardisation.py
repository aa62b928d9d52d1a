"""Section 1.10: features brought to mean 0 and standard deviation 1, and the guard against dividing by zero."""

import hypothesis.strategies as st
import pytest
import torch
from hypothesis import given

from fitcore.testing import CONDITIONAL, REFUTED, claim, override, replace
from fitcore.testing.strategies import tensors

std = torch.Tensor.std


def one_for_zero(stds, data):
    """The guard of the document."""
    return torch.where(stds == 0, torch.ones_like(stds), stds)


def one_for_constant_columns(stds, data):
    return torch.where((data == data[:1]).all(dim=0), torch.ones_like(stds), stds)


def unguarded(stds, data):
    return stds


def standardise(data, guard=one_for_zero):
    """Columns of ``data`` (samples, features) less their mean, over their guarded standard deviation."""
    return (data - data.mean(dim=0)) / guard(data.std(dim=0), data)


def of_all_features_together(data, dim):
    return std(data).expand(data.shape[1])


def uncorrected(data, dim):
    return std(data, dim=dim, correction=0)


@claim(
    "pytorch-notes/standardised-features-zero-mean-unit-std",
    finding="Whatever the scale of each feature, up to rounding. The standard deviation is the one that divides by 7; "
    "the one that divides by 8 comes out as 0.935.",
    controls=[
        replace("torch.Tensor.std", of_all_features_together),
        replace("torch.Tensor.mean", lambda data, dim: torch.zeros(data.shape[1]), name="no mean subtracted"),
    ],
)
def test_standardised_features_have_mean_zero_and_standard_deviation_one(trials, evidence):
    def moments(seed):
        features = standardise(torch.randn(8, 10) * torch.logspace(-3, 3, 10))
        columns = features.double().numpy()
        return [abs(columns.mean(0)).max(), abs(columns.std(0, ddof=1) - 1).max(), columns.std(0).mean()]

    means, stds, population_stds = trials.map(moments).T
    evidence.observe("largest mean of a feature", means, limit=1e-5)
    trials.always(means < 1e-5, name="mean 0")
    trials.always(stds < 1e-5, name="standard deviation 1")
    trials.always(abs(population_stds - 0.875**0.5) < 1e-5, name="dividing by 8: 0.935")


@claim(
    "pytorch-notes/std-zero-guard-prevents-nan",
    finding="The constant feature becomes 0. Without the guard it becomes NaN, 0/0, which torch computes without an "
    "error.",
    controls=[override("without the guard", guard=unguarded)],
)
@given(
    data=tensors((8, 10)),
    column=st.integers(0, 9),
    constant=st.floats(-100, 100, width=32),
    guard=st.just(one_for_zero),
)
def test_the_guard_keeps_a_constant_feature_finite(data, column, constant, guard):
    data[:, column] = constant
    guarded, without = standardise(data, guard), standardise(data, unguarded)
    assert guarded.isfinite().all()
    assert (guarded[:, column].abs() < 1e-4).all()
    assert not without[:, column].isfinite().any()


def any_constant():
    return 10 * torch.rand(())


def a_whole_number():
    return torch.randint(0, 10, ()).float()


def one_feature(constant):
    return constant.expand(8, 1).clone()


def beside_nine_others(constant):
    return torch.cat([one_feature(constant), torch.randn(8, 9)], dim=1)


@claim(
    "pytorch-notes/std-zero-guard-covers-all-constants",
    verdict=CONDITIONAL,
    finding="Beside other features every constant has a standard deviation of exactly 0. Alone, as an (8, 1) batch, "
    "four in ten (0.1 among them) have a tiny one, 1e-7 of their size or less, since their mean is rounded: they slip "
    "past == 0 and come out as ±0.94 instead of 0. Comparing the values themselves catches all.",
    controls=[
        override("whole numbers, whose mean is exact", draw=a_whole_number),
        override("beside other features", alone=beside_nine_others),
        override("the guard that compares values", guard=one_for_constant_columns),
    ],
    trials=300,
)
def test_a_zero_test_misses_constants_that_stand_alone(
    trials, evidence, draw=any_constant, alone=one_feature, guard=one_for_zero
):
    def sizes(seed):
        constant = draw()
        return [
            standardise(alone(constant), guard)[:, 0].abs().max(),
            standardise(beside_nine_others(constant), guard)[:, 0].abs().max(),
            standardise(one_feature(constant), one_for_constant_columns)[:, 0].abs().max(),
        ]

    by_itself, beside_others, compared = trials.map(sizes).T
    evidence.compare("what a constant feature becomes", {"alone": by_itself, "beside nine others": beside_others})
    trials.mostly(by_itself > 0.5, at_least=0.1, name="missed where it stands alone")
    trials.always(beside_others < 1e-4, name="caught beside others")
    trials.always(compared < 1e-4, name="caught alone by comparing values")


@claim(
    "pytorch-notes/standardise-batch-of-one",
    verdict=REFUTED,
    finding="The standard deviation of one sample is 0/0: NaN, with a warning, and NaN == 0 is false. All features "
    "become NaN. With std(correction=0) it is 0, which the guard catches.",
    controls=[replace("torch.Tensor.std", uncorrected)],
)
@given(data=tensors((1, 10)))
def test_the_guard_misses_a_batch_of_one(data):
    with pytest.warns(UserWarning, match="degrees of freedom is <= 0"):
        features = standardise(data)
    assert features.isnan().all()
    population_stds = one_for_zero(std(data, dim=0, correction=0), data)
    assert torch.equal((data - data.mean(dim=0)) / population_stds, torch.zeros(1, 10))
