"""Section 5, "other layers": which of instance, layer and group normalisation and stochastic depth heed the mode."""

import hypothesis.strategies as st
import pytest
import torch
from hypothesis import given
from torch import nn
from torch.testing import assert_close
from torchvision.ops import StochasticDepth

from fitcore.testing import claim, override, replace
from fitcore.testing.strategies import shapes, tensors

ROWS = 1000

instance_norm, forward = nn.functional.instance_norm, StochasticDepth.forward


def in_both_modes(layer, x):
    """Output in training, and then in evaluation."""
    return layer.train()(x), layer.eval()(x)


def instance_norm_2d():
    return nn.InstanceNorm2d(3)


def tracking_instance_norm_2d():
    return nn.InstanceNorm2d(3, track_running_stats=True)


def by_own_statistics(x, *_):
    return instance_norm(x)


@claim(
    "pytorch-notes/instancenorm-depends-on-mode",
    finding="With track_running_stats=True evaluation uses the running statistics, and differs. By default it does "
    "not: the layer keeps none, and normalises each image by its own in either mode, to the same bits.",
    controls=[
        override("running statistics by default", default=tracking_instance_norm_2d),
        replace("torch.nn.functional.instance_norm", by_own_statistics),
    ],
    trials=20,
)
def test_instance_norm_heeds_the_mode_only_with_running_statistics(trials, evidence, default=instance_norm_2d):
    def differences(seed):
        x = torch.randn(4, 3, 8, 8)
        layers = default(), tracking_instance_norm_2d()
        pairs = [in_both_modes(layer, x) for layer in layers]
        return torch.stack([(in_training - in_evaluation).abs().max() for in_training, in_evaluation in pairs])

    by_default, with_tracking = trials.map(differences).T
    samples = {"default": by_default, "track_running_stats=True": with_tracking}
    evidence.compare("largest difference between the modes", samples)
    trials.always(by_default == 0, name="by default the mode has no effect")
    trials.always(with_tracking > 0.01, name="with running statistics it has")


@claim(
    "pytorch-notes/instancenorm-depends-on-mode",
    finding="In any dimensions: (x - mean) / √(variance + ε) over each channel of each sample, in either mode by "
    "default and in training with running statistics; evaluation then takes these.",
    controls=[
        override("running statistics by default", tracks=True),
        replace("torch.nn.functional.instance_norm", by_own_statistics),
    ],
)
@given(x=tensors(shapes(min_dims=3, max_dims=5, min_side=2, max_side=4), torch.float64), tracks=st.just(False))
def test_instance_norm_normalises_each_channel_of_each_sample_and_may_track_them_for_evaluation(x, tracks):
    make = {3: nn.InstanceNorm1d, 4: nn.InstanceNorm2d, 5: nn.InstanceNorm3d}[x.ndim]
    layer, tracking = (make(x.shape[1], track_running_stats=running).double() for running in (tracks, True))
    over = tuple(range(2, x.ndim))

    def normalised(mean, variance):
        return (x - mean) / (variance + layer.eps).sqrt()

    mean = x.mean(over, keepdim=True)
    by_its_own = normalised(mean, x.var(over, correction=0, keepdim=True))
    running = 0.1 * mean.mean(0), 0.9 + 0.1 * x.var(over, keepdim=True).mean(0)
    assert_close(in_both_modes(layer, x), (by_its_own, by_its_own))
    assert_close(in_both_modes(tracking, x), (by_its_own, normalised(*running)))


def drop_elements(layer, x):
    return nn.functional.dropout(x, layer.p, layer.training)


def drop_nothing(layer, x):
    return x


def drop_in_evaluation_too(layer, x):
    return forward(layer.train(), x)


def keep_the_scale(layer, x):
    return forward(layer, x) * (1 - layer.p if layer.training else 1)


@claim(
    "pytorch-notes/droppath-depends-on-mode",
    finding="In training the share p of the rows is zeroed, each as a whole, and the others are divided by 1 - p; in "
    "evaluation the tensor itself comes back. torch has no such layer: this is torchvision's.",
    controls=[
        replace("torchvision.ops.StochasticDepth.forward", drop_elements),
        replace("torchvision.ops.StochasticDepth.forward", drop_nothing),
        replace("torchvision.ops.StochasticDepth.forward", drop_in_evaluation_too),
        replace("torchvision.ops.StochasticDepth.forward", keep_the_scale),
    ],
    trials=20,
)
@pytest.mark.parametrize("p", [0.5, 0.2])
def test_stochastic_depth_drops_whole_samples_in_training_alone(p, trials, evidence):
    def rows(seed):
        x = torch.ones(ROWS, 2)
        layer = StochasticDepth(p, "row")
        assert layer.eval()(x) is x
        return layer.train()(x)

    outputs = trials.map(rows)
    dropped = (outputs == 0).all(2)
    share = dropped.mean(1)
    kept = abs(outputs - 1 / (1 - p)) < 1e-6
    evidence.observe("share of dropped samples", share, limit=p)
    trials.always((dropped | kept.all(2)).all(1), name="a sample is dropped or scaled as a whole")
    trials.always(abs(share - p) < 7 * (p * (1 - p) / ROWS) ** 0.5, name="with probability p")


def layer_norm(x):
    return nn.LayerNorm(x.shape[-1])


def group_norm(x):
    return nn.GroupNorm(x.shape[1], x.shape[1])


def batch_norm(x):
    return nn.BatchNorm2d(x.shape[1])


@claim(
    "pytorch-notes/layernorm-independent-of-mode",
    finding="The same bits in both modes: they normalise each sample by itself, and remember nothing.",
    controls=[override("batch normalisation", make=batch_norm)],
)
@pytest.mark.parametrize("make", [layer_norm, group_norm])
@given(x=tensors(shapes(min_dims=4, max_dims=4, min_side=2, max_side=4)))
def test_layer_and_group_normalisation_do_not_heed_the_mode(make, x):
    layer = make(x)
    in_training, in_evaluation = in_both_modes(layer, x)
    assert torch.equal(in_training, in_evaluation)
    assert list(layer.buffers()) == []
    assert_close(layer(x[:1]), in_training[:1])
