"""Case 3: MAE and MSE, and the shapes that an MSE is taken of."""

import hypothesis.strategies as st
import numpy as np
import pytest
import torch
from hypothesis import example, given
from torch import nn
from torch.testing import assert_close

from fitcore.ensembles import mean_squared_errors
from fitcore.testing import claim, override
from fitcore.testing.strategies import tensors

DEEPER = {"hidden": (64, 32), "weight_decay": 1e-5}
reals = st.floats(-1e3, 1e3)
PRINTED = np.array([[0.3567, 0.2015], [0.0892, 0.0198]])


@claim(
    "tuning-cases/case3-mae-mse-consistent-figures",
    finding="0.2015 ≥ 0.1272 and 0.0198 ≥ 0.0080, with ratios of 1.58 and 2.49; normal errors have π/2 = 1.57.",
    controls=[override("square roots of the errors", power=0.5)],
)
@example(errors=torch.tensor([0.0, 3.0], dtype=torch.float64), power=2.0)
@given(errors=st.integers(1, 20).flatmap(lambda n: tensors((n,), torch.float64, reals)), power=st.just(2.0))
def test_the_mse_is_at_least_the_squared_mae(errors, power):
    mae, moment = errors.abs().mean(), (errors.abs() ** power).mean()
    assert moment >= mae**power * (1 - 1e-12)
    assert (PRINTED[:, 1] >= PRINTED[:, 0] ** power).all()


@claim(
    "tuning-cases/mae-more-robust-to-outliers-than-mse",
    finding="One error of 10 among 100 of 0.1 makes the MAE 2 times and the MSE 101 times as large. So it is for any "
    "outlier.",
    controls=[override("an error like the others", times=1.0)],
)
@example(size=0.1, times=100.0, count=100)
@given(size=st.floats(0.01, 10), times=st.floats(1.5, 1e3), count=st.integers(2, 200))
def test_an_outlier_raises_the_mse_by_a_larger_factor_than_the_mae(size, times, count):
    errors = torch.full((count,), size, dtype=torch.float64)
    spoilt = errors.clone()
    spoilt[0] *= times
    mae, mse = (spoilt.pow(power).mean() / errors.pow(power).mean() for power in (1, 2))
    assert_close([mae.item(), mse.item()], [1 + (times**power - 1) / count for power in (1, 2)])
    assert mse - 1 > 2 * (mae - 1) > 0


def broadcast(outputs, targets):
    """What the MSE of (n, 1) and (n,) comes to in every copy: over all n x n pairs."""
    return (outputs - targets.mT).square().mean((1, 2))


def outer(outputs, targets):
    return nn.MSELoss()(outputs, targets)


def flattened(outputs, targets):
    return nn.MSELoss()(outputs.flatten(), targets)


@claim(
    "tuning-cases/case3-flatten-against-n-target-needed",
    finding="torch warns, and takes the mean over all 32 x 32 pairs. Whatever the outputs, that is their mean square "
    "distance from the mean target, plus a constant.",
    controls=[override("flattened outputs", loss=flattened)],
)
@given(data=st.data(), n=st.integers(2, 32), loss=st.just(outer))
def test_the_mse_of_a_column_and_a_row_pulls_every_output_to_the_mean_target(data, n, loss):
    outputs, targets = data.draw(tensors((n, 1), torch.float64)), torch.arange(n, dtype=torch.float64)
    with pytest.warns(UserWarning, match="target size"):
        value = loss(outputs, targets)
    assert_close(value, (outputs - targets.mean()).square().mean() + targets.var(correction=0))
    assert_close(value, broadcast(outputs[None], targets[None, :, None])[0])


@claim(
    "tuning-cases/case3-flatten-against-n-target-needed",
    finding="After 5 epochs the test MAE is 0.75, about that of the mean price (0.77); with flattened outputs 0.094.",
    controls=[override("flattened outputs", loss=mean_squared_errors)],
    trials=48,
)
def test_without_flattening_the_regressor_learns_the_mean_price(initial, prices, trials, evidence, loss=broadcast):
    spoilt, sound = initial(**DEEPER, loss=loss, epochs=5).test[4], initial(**DEEPER).test[4]
    of_the_mean = prices().test[1].abs().mean()
    evidence.compare("test MAE after 5 epochs", {"not flattened": spoilt, "flattened": sound}, limit=of_the_mean)
    trials.equivalent(spoilt, of_the_mean.expand(len(spoilt)), within=0.05)
    trials.less(5 * sound, spoilt, name="flattened: less than a fifth")
