"""Section 18.2.2: a single sample before BatchNorm1d."""

import hypothesis.strategies as st
import pytest
import torch
from hypothesis import given
from torch import nn
from torch.utils.data import DataLoader

from fitcore.models import MLP
from fitcore.testing import CONDITIONAL, claim, error_of, override, replace

batch_norm = nn.functional.batch_norm

TOO_FEW = "Expected more than 1 value per channel when training"


def by_running_statistics(x, mean, variance, *_):
    return batch_norm(x, mean, variance, training=False)


@claim(
    "pytorch-notes/bn-batch-of-one",
    verdict=CONDITIONAL,
    finding="One sample of shape (1, C), as in the listing, or (1, C, 1) stops with a ValueError: of one value there "
    "is no variance. One sequence (1, C, L) with L > 1 passes, normalised over its L steps. In evaluation each passes.",
    controls=[
        override("in evaluation", mode=False),
        replace("torch.nn.functional.batch_norm", by_running_statistics),
    ],
)
@given(
    channels=st.integers(1, 5),
    steps=st.lists(st.integers(1, 4), max_size=1),
    mode=st.just(True),
)
def test_batchnorm_rejects_one_sample_that_has_one_value_per_channel(channels, steps, mode):
    layer, x = nn.BatchNorm1d(channels).train(mode), torch.zeros(1, channels, *steps)
    error = error_of(layer, x)
    assert (isinstance(error, ValueError) and TOO_FEW in str(error)) == (steps in ([], [1]))
    assert error_of(layer.eval(), x) is None


def epoch(samples, batch_size, drop_last):
    model = MLP([3, 4, 1], batch_norm=True)
    for x in DataLoader(torch.ones(samples, 3), batch_size=batch_size, drop_last=drop_last):
        model(x)


@claim(
    "pytorch-notes/bn-batch-of-one",
    verdict=CONDITIONAL,
    finding="An epoch meets it where one sample remains for the last batch: with 1000 samples in batches of 27 or 37, "
    "for instance. drop_last=True leaves it out.",
    controls=[override("the last batch dropped", drop_last=True)],
)
@given(batch_size=st.integers(2, 6), batches=st.integers(1, 4), drop_last=st.just(False))
def test_an_epoch_stops_at_a_last_batch_of_one(batch_size, batches, drop_last):
    samples = batches * batch_size + 1
    with pytest.raises(ValueError, match=TOO_FEW):
        epoch(samples, batch_size, drop_last)
    assert error_of(epoch, samples, batch_size, True) is None
