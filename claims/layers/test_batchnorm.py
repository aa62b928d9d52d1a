"""Section 5: what batch normalisation computes and remembers in training, and what it uses in evaluation."""

import hypothesis.strategies as st
import pytest
import torch
from hypothesis import given
from torch import nn
from torch.testing import assert_close

from fitcore.seeding import seeded
from fitcore.testing import CONDITIONAL, REFUTED, claim, override, replace
from fitcore.testing.strategies import shapes, tensors

EPS = 1e-5
LAYERS = {2: nn.BatchNorm1d, 3: nn.BatchNorm1d, 4: nn.BatchNorm2d, 5: nn.BatchNorm3d}

some_shape = shapes(min_dims=2, max_dims=5, min_side=2, max_side=4)
batches = tensors(some_shape, torch.float64)
several_batches = some_shape.flatmap(lambda shape: st.lists(tensors(shape, torch.float64), min_size=2, max_size=4))

batch_norm = nn.functional.batch_norm


def layer_for(x, **options):
    return LAYERS[x.ndim](x.shape[1], dtype=x.dtype, **options)


def statistics(x, correction):
    """Mean and variance of each channel, (C,) both; ``correction`` 0 is the biased variance, 1 the unbiased."""
    channels = x.transpose(0, 1).flatten(1)
    return channels.mean(1), channels.var(1, correction=correction)


def normalised(x, mean, variance):
    """The channels of ``x`` less their ``mean``, over the root of their ``variance`` + ε."""
    mean, variance = (values.view(-1, *[1] * (x.ndim - 2)) for values in (mean, variance))
    return (x - mean) / (variance + EPS).sqrt()


def remembered(layer):
    return [buffer.clone() for buffer in layer.buffers()]


def by_running_statistics(x, mean, variance, *_):
    return batch_norm(x, mean, variance, training=False)


def by_batch_statistics(x, *_):
    return normalised(x, *statistics(x, correction=0))


def by_unbiased_variance(x, *_):
    return normalised(x, *statistics(x, correction=1))


def with_momentum_on_the_past(x, mean, variance, *settings):
    *_, training, momentum, _ = settings
    return batch_norm(x, mean, variance, training=training, momentum=1 - momentum)


def with_biased_memory(x, mean, variance, *settings):
    *_, momentum, _ = settings
    for old, new in zip((mean, variance), statistics(x, correction=0), strict=True):
        old.lerp_(new, momentum)
    return by_batch_statistics(x)


def stay_in_training(module, mode=True):
    return module


@claim(
    "pytorch-notes/batchnorm-train-uses-batch-statistics",
    finding="In any number of dimensions: over all that a channel has in the batch, the variance divided by n, not by "
    "n - 1, and ε = 0.00001 added to it.",
    controls=[
        replace("torch.nn.functional.batch_norm", by_running_statistics),
        replace("torch.nn.functional.batch_norm", by_unbiased_variance),
    ],
)
@given(x=batches)
def test_in_training_a_batch_is_normalised_by_its_own_statistics(x):
    assert_close(layer_for(x).train()(x), normalised(x, *statistics(x, correction=0)))


@claim(
    "pytorch-notes/batchnorm-train-updates-running-statistics",
    finding="Each pass replaces the share momentum (0.1) of what is remembered by the mean and the variance of the "
    "batch, this time the unbiased one, divided by n - 1. They start at 0 and 1.",
    controls=[
        replace("torch.nn.functional.batch_norm", by_batch_statistics),
        replace("torch.nn.functional.batch_norm", with_momentum_on_the_past),
        replace("torch.nn.functional.batch_norm", with_biased_memory),
    ],
)
@given(some=several_batches, momentum=st.just(0.1) | st.floats(0.01, 0.4))
def test_each_pass_in_training_moves_the_running_statistics(some, momentum):
    layer = layer_for(some[0], momentum=momentum)
    mean, variance = torch.zeros_like(layer.running_mean), torch.ones_like(layer.running_var)
    for passes, x in enumerate(some, start=1):
        layer(x)
        mean, variance = (
            (1 - momentum) * old + momentum * new
            for old, new in zip((mean, variance), statistics(x, correction=1), strict=True)
        )
        assert layer.num_batches_tracked == passes
        assert_close((layer.running_mean, layer.running_var), (mean, variance))


@claim(
    "pytorch-notes/batchnorm-train-updates-under-no-grad",
    verdict=REFUTED,
    finding="The running statistics are no parameters: no_grad doesn't touch their update, which is the same to "
    "the bit with it and without. What stops it is eval().",
    controls=[
        override("in evaluation", mode=False),
        replace("torch.nn.functional.batch_norm", by_batch_statistics),
    ],
)
@given(x=batches, mode=st.just(True))
def test_no_grad_does_not_keep_the_running_statistics(x, mode):
    tracked, untracked = layer_for(x), layer_for(x).train(mode)
    tracked(x)
    with torch.no_grad():
        untracked(x)
    after = remembered(untracked)
    assert all(map(torch.equal, after, remembered(tracked)))
    assert_close(untracked.running_mean, 0.1 * statistics(x, correction=1)[0])
    untracked.eval()(x)
    assert all(map(torch.equal, remembered(untracked), after))


def after_training(some):
    """A layer in evaluation, after a pass of each batch but the last."""
    layer = layer_for(some[0])
    for x in some[:-1]:
        layer(x)
    return layer.eval()


@claim(
    "pytorch-notes/batchnorm-eval-uses-running-statistics",
    controls=[
        replace("torch.nn.functional.batch_norm", by_batch_statistics),
        replace("torch.nn.Module.train", stay_in_training),
    ],
)
@given(some=several_batches)
def test_in_evaluation_a_batch_is_normalised_by_the_running_statistics(some):
    layer, x = after_training(some), some[-1]
    assert_close(layer(x), normalised(x, layer.running_mean, layer.running_var))


@claim(
    "pytorch-notes/batchnorm-eval-stops-updating",
    finding="Mean, variance and the count of batches keep every bit.",
    controls=[replace("torch.nn.Module.train", stay_in_training)],
)
@given(some=several_batches, passes=st.integers(1, 3))
def test_in_evaluation_the_running_statistics_stay(some, passes):
    layer = after_training(some)
    before = remembered(layer)
    assert all(layer(some[-1]).isfinite().all() for _ in range(passes))
    assert all(map(torch.equal, remembered(layer), before))
    assert len(before) == 3


def shuffled(x):
    return x.gather(0, torch.rand_like(x).argsort(0))


def sorted_by_size(x):
    return x.sort(0).values


def running_statistics(x, epochs, order=shuffled, momentum=0.1):
    """Running mean and variance of each channel of x (n, C) after so many epochs in batches of 100, (C,) both."""
    layer = nn.BatchNorm1d(x.shape[1], momentum=momentum)
    for _ in range(epochs):
        for batch in order(x).split(100):
            layer(batch)
    return layer.running_mean, layer.running_var


@claim(
    "pytorch-notes/batchnorm-running-stats-are-global-training-stats",
    verdict=CONDITIONAL,
    finding="Nearly, after many batches of well mixed data: after 20 epochs the mean is that of all values to "
    "half a per cent, the variance to 3 %. After the ten batches of one epoch 35 % of the start is left, and "
    "they are 6.5 and 2.9 instead of 10 and 4. Of sorted data the last batches count most, and the variance is that "
    "within batches alone. With momentum=None the mean is exactly that of all batches.",
    controls=[
        override("a cumulative average", momentum=None),
        override("never mixed", order=sorted_by_size),
    ],
    trials=40,
)
def test_running_statistics_are_global_ones_after_many_mixed_batches(trials, evidence, momentum=0.1, order=shuffled):
    with seeded(int(trials.seeds[0])):
        x = 10 + 2 * torch.randn(1000, trials.count)
        mean, variance = statistics(x, correction=1)
        early_mean, early_variance = running_statistics(x, 1, momentum=momentum)
        late_mean, late_variance = running_statistics(x, 20, order)
        sorted_mean, sorted_variance = running_statistics(x, 20, sorted_by_size)
        cumulative_mean, _ = running_statistics(x, 1, momentum=None)
    means = {"all values": mean, "1 epoch": early_mean, "20 epochs": late_mean, "20 epochs, sorted": sorted_mean}
    variances = [variance, early_variance, late_variance, sorted_variance]
    evidence.compare("running mean", means)
    evidence.compare("running variance", dict(zip(means, variances, strict=True)))
    trials.always((early_mean < 0.8 * mean).numpy(), name="1 epoch: mean too low")
    trials.always((early_variance < 0.9 * variance).numpy(), name="1 epoch: variance too low")
    trials.always((abs(late_mean - mean) < 0.02 * mean).numpy(), name="20 epochs: the mean, within 2 %")
    trials.always((abs(late_variance - variance) < 0.1 * variance).numpy(), name="20 epochs: the variance, within 10 %")
    trials.always((sorted_variance < 0.5 * variance).numpy(), name="sorted: less than half of the variance")
    trials.always((abs(cumulative_mean - mean) < 1e-4).numpy(), name="momentum=None: the mean")


@claim(
    "pytorch-notes/batchnorm-eval-sample-independent-of-batch",
    finding="In evaluation the first row of a batch of 64 comes out as it does with seven companions or alone; in "
    "training its output moves by 0.5 to 0.6 (median) if 56 of the companions leave, and alone it is refused.",
    controls=[
        replace("torch.nn.functional.batch_norm", by_batch_statistics),
        replace("torch.nn.functional.batch_norm", by_running_statistics),
    ],
    trials=40,
)
def test_companions_matter_in_training_alone(trials, evidence):
    def differences(seed):
        layer, x = nn.BatchNorm1d(4), 3 * torch.randn(64, 4) + 5
        in_training = layer(x)[0] - layer(x[:8])[0]
        layer.eval()
        in_evaluation = [layer(x)[0] - layer(x[:size])[0] for size in (1, 8)]
        return torch.stack([in_training, *in_evaluation]).abs().max(1).values

    in_training, alone, among_eight = trials.map(differences).T
    evidence.compare("change of the first output by companions", {"train()": in_training, "eval()": among_eight})
    trials.always(in_training > 1e-3, name="in training it depends on them")
    trials.always((alone < 1e-5) & (among_eight < 1e-5), name="in evaluation it doesn't")
    with pytest.raises(ValueError, match="more than 1 value per channel"):
        nn.BatchNorm1d(4)(torch.ones(1, 4))
