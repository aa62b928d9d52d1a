"""Section 8.5.2: how weights, gradients and activations are distributed.

The networks are 49-64-32-10, trained on 600 MNIST digits of a quarter of the size for 6 epochs (Adam, rate 0.002).
"""

from dataclasses import dataclass
from functools import partial
from itertools import pairwise

import hypothesis.strategies as st
import numpy as np
import pytest
import torch
from hypothesis import given, settings
from scipy.stats import kstest, kurtosis, skew
from torch import Tensor, nn

from fitcore.data import mnist
from fitcore.ensembles import Ensemble, cross_entropies, fit
from fitcore.testing import CONDITIONAL, claim, override, replace

TRIALS = 60
LAYERS = "first", "second", "last"


@dataclass(frozen=True)
class Training:
    """How a network starts and is trained: ``normal`` is Kaiming's normal initialisation, else torch's uniform one."""

    normal: bool = False
    scale: float = 1.0
    decay: float = 0.0
    activation: type[nn.Module] = nn.ReLU
    epochs: int = 6

    def layer(self, inputs, outputs):
        layer = nn.Linear(inputs, outputs)
        if self.normal:
            nn.init.kaiming_normal_(layer.weight, nonlinearity="relu")
        with torch.no_grad():
            layer.weight.mul_(self.scale)
        return layer

    def build(self):
        layers = [module for sides in pairwise((49, 64, 32, 10)) for module in (self.layer(*sides), self.activation())]
        return nn.Sequential(*layers[:-1])


@dataclass(frozen=True)
class Distributions:
    """Weights and their gradients on 64 new digits by layer, each (trials, size); hidden values' share of zeros."""

    accuracy: Tensor
    weights: list[Tensor]
    gradients: list[Tensor]
    zeros: Tensor


def trained(seeds, training):
    digits = mnist()[:1000]
    images = nn.functional.avg_pool2d(digits.scaled, 4).flatten(1)
    ensemble = Ensemble(training.build, seeds)
    sets = [tuple(map(ensemble.share, (images[part], digits.labels[part]))) for part in (slice(600), slice(600, None))]
    adam = partial(torch.optim.Adam, lr=2e-3, weight_decay=training.decay, fused=True)
    if training.epochs:
        fit(ensemble, sets[0], epochs=training.epochs, batch_size=50, loss=cross_entropies, optimizer=adam)
    stacks = ensemble.stacks()
    weights = [stack.detach().flatten(1) for name, stack in stacks.items() if "weight" in name]
    logits = ensemble.eval()(sets[1][0])
    accuracy = (logits.argmax(-1) == sets[1][1]).float().mean(1)
    ensemble.flat.grad = None
    cross_entropies(logits[:, :64], sets[1][1][:, :64]).sum().backward()
    gradients = [g.flatten(1) for name, g in ensemble.stacks(ensemble.flat.grad).items() if "weight" in name]
    return Distributions(accuracy, weights, gradients, shares_of_zeros(ensemble, images[600:700]))


@torch.no_grad()
def shares_of_zeros(ensemble, images):
    """Share of exact zeros behind the first and the second activation, (2, trials)."""
    shares = []
    for model in map(ensemble.module, range(len(ensemble))):
        hidden = model[:2](images)
        shares.append([(values == 0).float().mean() for values in (hidden, model[2:4](hidden))])
    return torch.tensor(shares).T


@pytest.fixture
def nets(shared):
    """``nets(training)``, trained once a session."""
    seeds = tuple(shared.seeds(TRIALS).tolist())
    return lambda training: shared(trained, seeds, training)


UNIFORM, NORMAL = Training(), Training(normal=True)


@claim(
    "pytorch-notes/healthy-weights-bell-shaped",
    verdict=CONDITIONAL,
    finding="If they start normally distributed, the hidden layers stay so: an excess kurtosis of 0.0, with 73 % of "
    "digits recognised. If they start uniformly, as nn.Linear's do, training rounds them off only in part, to -0.6, "
    "and to -0.9 in the last layer, where a uniform distribution has -1.2; 62 % are recognised. (784-256-128-10 on "
    "2,000 digits, 90 % right: 0.2, -0.2 and -1.0 from first to last, measured once.) Their mean is near 0, within 0.3 "
    "standard deviations, in both.",
    controls=[override("a uniform start", bell=UNIFORM), override("a normal start", flat=NORMAL)],
    trials=TRIALS,
)
def test_weights_of_a_good_network_are_bell_shaped_only_if_they_start_so(
    nets, trials, evidence, bell=NORMAL, flat=UNIFORM
):
    starts = {"normal": nets(bell), "uniform": nets(flat)}
    evidence.compare("accuracy on new digits", {f"{name} start": net.accuracy for name, net in starts.items()})
    for name, net in starts.items():
        shapes = {layer: kurtosis(weights, axis=1) for layer, weights in zip(LAYERS, net.weights, strict=True)}
        evidence.compare(f"excess kurtosis, {name} start", shapes, limit=-1.2)
        trials.less(np.full(TRIALS, 0.4), net.accuracy, name=f"{name}: accuracy above 0.4")
        for layer, weights in zip(LAYERS, net.weights, strict=True):
            centre = (weights.mean(1) / weights.std(1)).abs()
            trials.less(centre, np.full(TRIALS, 0.3), name=f"{name}, {layer}: mean near 0")
    for first_or_second in (0, 1):
        shape = kurtosis(starts["normal"].weights[first_or_second], axis=1)
        trials.equivalent(shape, np.zeros(TRIALS), within=0.3, name=f"normal, {LAYERS[first_or_second]}: bell-shaped")
    for layer, below in zip(LAYERS, (-0.3, -0.2, -0.5), strict=True):
        shape = kurtosis(starts["uniform"].weights[LAYERS.index(layer)], axis=1)
        trials.less(shape, np.full(TRIALS, below), name=f"uniform, {layer}: flat")


@claim(
    "pytorch-notes/default-linear-init-is-uniform",
    finding="The biases too. So a bell shape comes from training or from another initialisation.",
    controls=[replace("torch.nn.init.kaiming_uniform_", nn.init.kaiming_normal_)],
)
@settings(max_examples=4)
@given(inputs=st.just(784) | st.integers(50, 400), outputs=st.integers(60, 256), seed=st.integers(0, 2**32 - 1))
def test_the_default_weights_of_a_layer_are_uniform(inputs, outputs, seed):
    torch.manual_seed(seed)
    weights = nn.Linear(inputs, outputs).weight.detach().flatten().double() * inputs**0.5
    assert weights.abs().max() <= 1 + 1e-6
    assert kstest(weights, "uniform", args=(-1, 2)).pvalue > 1e-9
    assert kstest(weights / weights.std(), "norm").pvalue < 1e-9


WIDE = Training(scale=3.0)


@claim(
    "pytorch-notes/wide-weights-need-weight-decay",
    finding="From weights three times as wide as usual, a decay of 0.01 leaves 72 % of the width of the first layer "
    "that training without it does.",
    controls=[override("no decay", decay=0.0)],
    trials=TRIALS,
)
def test_weight_decay_narrows_weights_that_are_too_wide(nets, trials, evidence, decay=0.01):
    without, with_decay = nets(WIDE), nets(Training(scale=3.0, decay=decay))
    for layer, *weights in zip(LAYERS, without.weights, with_decay.weights, strict=True):
        widths = [weight.std(1) for weight in weights]
        evidence.compare(f"standard deviation, {layer} layer", dict(zip(("no decay", "decay"), widths, strict=True)))
        trials.less(widths[1], 0.95 * widths[0], name=f"{layer}: narrower")


@claim(
    "pytorch-notes/gradients-symmetric-around-zero",
    verdict=CONDITIONAL,
    finding="In the hidden layers roughly: about 45 % of the gradients that are not zero are positive, with a skewness "
    "of -0.9 to -1.0 and -0.3 to -0.4. In the last layer the mean is 0, for the ten classes' add up to it, and yet it "
    "is less symmetric still: 62 % are positive, small ones, against fewer large ones of the right class, with a "
    "skewness of -1.5 (medians).",
    controls=[override("the first layer for the last", last=0)],
    trials=TRIALS,
)
def test_gradients_are_symmetric_in_hidden_layers_but_not_in_the_last(nets, trials, evidence, hidden=(0, 1), last=2):
    gradients = nets(UNIFORM).gradients
    positive = [(gradient > 0).sum(1) / (gradient != 0).sum(1) for gradient in gradients]
    evidence.compare("share of positive gradients", dict(zip(LAYERS, positive, strict=True)), limit=0.5)
    evidence.compare("skewness", {name: skew(g, axis=1) for name, g in zip(LAYERS, gradients, strict=True)})
    for layer in hidden:
        assert abs(positive[layer].mean() - 0.5) < 0.1
        trials.less(positive[layer], positive[last], by=0.02, name=f"{LAYERS[layer]}: fewer than in the last")
    trials.less(np.full(TRIALS, 0.54), positive[last], name="last: more than 54 %")
    trials.less(gradients[last].mean(1).abs(), 1e-5 * gradients[last].std(1), name="last: mean 0")


@claim(
    "pytorch-notes/relu-activations-have-many-zeros",
    finding="Half of them at the start. Training makes it fewer: a sixth of the first layer's, and 30 % of the "
    "second's (784-256-128-10 on 2,000 digits: a quarter of both, measured once, apart). With tanh there are none.",
    controls=[override("tanh", activation=nn.Tanh)],
    trials=TRIALS,
)
def test_many_hidden_values_of_a_relu_network_are_exactly_zero(nets, trials, evidence, activation=nn.ReLU):
    start, end = (nets(Training(activation=activation, epochs=epochs)).zeros for epochs in (0, 6))
    for layer, before, after in zip(LAYERS, start, end, strict=False):
        evidence.compare(f"share of zeros, {layer} layer", {"at the start": before, "trained": after})
        trials.less(np.full(TRIALS, 0.2), before, name=f"{layer}: above 20 % at the start")
        trials.less(np.full(TRIALS, 0.05), after, name=f"{layer}: above 5 % when trained")
    trials.less(end[0], start[0], name="first: fewer than at the start")


def zeros_in_the_cnn(activation):
    """Share of zeros behind both activations of the document's CNN, at the start and after 6 steps of Adam, (2, 2)."""
    digits = mnist()[:192]
    first, second = nn.Conv2d(1, 16, 3, padding=1), nn.Conv2d(16, 32, 3, padding=1)
    pool, act = nn.MaxPool2d(2, 2), activation()
    model = nn.Sequential(first, act, pool, second, act, pool, nn.Flatten(), nn.Linear(32 * 7 * 7, 10))
    optimizer = torch.optim.Adam(model.parameters(), lr=0.001)

    @torch.no_grad()
    def zeros():
        return [(model[:depth](digits.scaled[:16]) == 0).float().mean() for depth in (2, 5)]

    shares = [zeros()]
    for images, labels in zip(digits.scaled.split(32), digits.labels.split(32), strict=True):
        optimizer.zero_grad()
        nn.functional.cross_entropy(model(images), labels).backward()
        optimizer.step()
    return torch.tensor([*shares, zeros()])


@claim(
    "pytorch-notes/relu-activations-have-many-zeros",
    finding="The document's CNN: 30 to 70 % behind either activation.",
    controls=[override("tanh", activation=nn.Tanh)],
    trials=2,
)
def test_many_values_of_the_cnn_are_exactly_zero(trials, evidence, activation=nn.ReLU):
    shares = trials.map(lambda seed: zeros_in_the_cnn(activation))
    evidence.observe("share of zeros", shares)
    trials.always((shares > 0.03).all((1, 2)), name="above 3 % behind each")
