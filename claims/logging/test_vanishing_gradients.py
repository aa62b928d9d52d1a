"""Sections 8.3.2, 8.5.1 and 8.5.2: gradients and weights that are zero, and what is advised against it.

Gradients are those of the squared error at the start, of ten hidden layers of 64 on 32 standard-normal inputs, unless
said otherwise.
"""

from dataclasses import dataclass
from functools import partial
from itertools import pairwise

import hypothesis.strategies as st
import numpy as np
import pytest
import torch
from hypothesis import given, settings
from torch import nn

from fitcore.ensembles import Ensemble, fit, mean_squared_errors
from fitcore.seeding import seeded
from fitcore.testing import CONDITIONAL, claim, override
from fitcore.testing.strategies import tensors

TRIALS = 60


@dataclass(frozen=True)
class Net:
    """A deep network and how it starts.

    ``init`` is torch's default, "kaiming" (normal), "xavier" (uniform) or "centred": Xavier's weights, with biases for
    which inputs of a half, as a sigmoid has them on average, add up to zero. ``scale`` multiplies the weights.
    """

    activation: type[nn.Module]
    depth: int = 10
    init: str = "default"
    scale: float = 1.0
    batch_norm: bool = False

    def build(self):
        layers = []
        for inputs, outputs in pairwise([20, *[64] * self.depth]):
            norm = [nn.BatchNorm1d(outputs)] if self.batch_norm else []
            layers += [self.started(nn.Linear(inputs, outputs)), *norm, self.activation()]
        return nn.Sequential(*layers, self.started(nn.Linear(64, 1)))

    @torch.no_grad()
    def started(self, layer):
        if self.init == "kaiming":
            nn.init.kaiming_normal_(layer.weight, nonlinearity="relu")
        if self.init in ("xavier", "centred"):
            nn.init.xavier_uniform_(layer.weight)
        layer.weight.mul_(self.scale)
        if self.init == "centred":
            layer.bias.copy_(-layer.weight.sum(1) / 2)
        return layer


def losses_and_norms(seeds, net, samples=32, steps=0, lr=0.0):
    """Losses (trials,) and norms of the gradients of the weights, first layer first, (trials, layers).

    They are those after so many steps of SGD on all samples.
    """
    ensemble = Ensemble(net.build, seeds)
    with seeded(seeds[0]):
        inputs, targets = torch.randn(len(seeds), samples, 20), torch.randn(len(seeds), samples, 1)
    if steps:
        fit(ensemble, (inputs, targets), epochs=steps, optimizer=partial(torch.optim.SGD, lr=lr))
        ensemble.flat.grad = None
    losses = mean_squared_errors(ensemble(inputs), targets)
    losses.backward(torch.ones_like(losses))
    stacks = ensemble.stacks(ensemble.flat.grad).items()
    norms = [gradient.flatten(1).norm(dim=1) for name, gradient in stacks if gradient.ndim == 3 and "weight" in name]
    return losses.detach(), torch.stack(norms, 1)


@pytest.fixture
def trained(shared):
    """``trained(net, samples, steps, lr)``: losses and gradient norms, computed once a session."""
    seeds = tuple(shared.seeds(TRIALS).tolist())
    return lambda net, *how: shared(losses_and_norms, seeds, net, *how)


@pytest.fixture
def norms(trained):
    """``norms(net)``: those at the start."""
    return lambda net: trained(net)[1]


def vanished(norms):
    """Gradient of the first layer over that of the last hidden one, (trials,)."""
    return norms[:, 0] / norms[:, -2]


SIGMOID, TANH, RELU = Net(nn.Sigmoid), Net(nn.Tanh), Net(nn.ReLU)


@claim(
    "pytorch-notes/zero-gradient-from-sigmoid-depth",
    finding="By nearly eight orders of magnitude with ten hidden layers (median).",
    controls=[override("a single hidden layer", net=Net(nn.Sigmoid, depth=1)), override("tanh", net=TANH)],
    trials=TRIALS,
)
def test_the_gradient_vanishes_in_a_deep_sigmoid_network(norms, trials, evidence, net=SIGMOID):
    of_layers = norms(net)
    evidence.curve("median gradient norm", range(of_layers.shape[1]), {"sigmoid": of_layers.median(0).values}, "layer")
    trials.less(vanished(of_layers), np.full(TRIALS, 1e-4), name="first below 1e-4 of the last")


@claim(
    "pytorch-notes/batchnorm-fixes-vanishing-gradient",
    finding="The first layer's gradient is 0.8 of the last hidden one's instead of 2e-8 (medians).",
    controls=[override("no batch normalisation", cured=SIGMOID)],
    trials=TRIALS,
)
def test_batch_normalisation_restores_the_gradient_of_a_deep_sigmoid_network(
    norms, trials, evidence, cured=Net(nn.Sigmoid, batch_norm=True)
):
    ratios = {"with": vanished(norms(cured)), "without": vanished(norms(SIGMOID))}
    evidence.compare("gradient, first over last hidden layer", ratios)
    trials.less(ratios["without"], np.full(TRIALS, 1e-4), name="vanished without")
    trials.less(np.full(TRIALS, 0.1), ratios["with"], name="above a tenth with it")


INITS = {"tanh": (TANH, Net(nn.Tanh, init="xavier")), "relu": (RELU, Net(nn.ReLU, init="kaiming"))}
SIGMOID_XAVIER, SIGMOID_CENTRED = Net(nn.Sigmoid, init="xavier"), Net(nn.Sigmoid, init="centred", scale=6.0)
INITS["sigmoid"] = SIGMOID, SIGMOID_CENTRED


@claim(
    "pytorch-notes/better-init-restores-vanished-gradient",
    finding="If it suits the activation. Xavier's initialisation raises the ratio of the first to the last hidden "
    "gradient from 0.03 or 0.04 to 0.5 or 0.6 with tanh, Kaiming's from 0.003 or 0.004 to 0.2 or 0.3 with ReLU. With "
    "sigmoid, whose slope is 1/4 at most and whose values are about a half, Xavier's only gets from 2e-8 to 1e-6; six "
    "times its weights, with biases that bring each sum to zero for values of a half, get to 0.6 or 0.7 (medians).",
    controls=[
        override("the default", inits={"tanh": (TANH, TANH)}),
        override("Xavier's for sigmoid", inits={"sigmoid": (SIGMOID, SIGMOID_XAVIER)}),
        override("tanh", sigmoid=INITS["tanh"][1]),
    ],
    trials=TRIALS,
)
def test_an_initialisation_that_suits_the_activation_restores_the_gradient(
    norms, trials, evidence, inits=INITS, sigmoid=SIGMOID_XAVIER
):
    for name, (default, better) in inits.items():
        ratios = {"default": vanished(norms(default)), "better": vanished(norms(better))}
        evidence.compare(f"{name}: gradient, first over last hidden layer", ratios)
        trials.less(ratios["default"], ratios["better"], name=f"{name}: more than by default")
        trials.less(np.full(TRIALS, 0.05), ratios["better"], name=f"{name}: above 0.05")
    left = vanished(norms(sigmoid))
    evidence.observe("sigmoid, Xavier: first over last", left)
    trials.less(left, np.full(TRIALS, 1e-3), name="sigmoid: still below 1e-3")


@claim(
    "pytorch-notes/relu-mitigates-vanishing-default-init",
    verdict=CONDITIONAL,
    finding="Against sigmoid, by five orders of magnitude. Against tanh it does not, with ten layers at the start: by "
    "default the ratio of the first to the last hidden gradient is 0.003 or 0.004, with tanh 0.04; with Kaiming's "
    "weights for ReLU and Xavier's for tanh it is 0.2 and 0.6 (medians).",
    controls=[
        override("sigmoid for ReLU", relu=SIGMOID),
        override("tanh for ReLU", relu=TANH),
        override("Xavier's tanh for Kaiming's ReLU", relu_of_kaiming=INITS["tanh"][1]),
    ],
    trials=TRIALS,
)
def test_relu_keeps_more_gradient_than_sigmoid_but_less_than_tanh(
    norms, trials, evidence, relu=RELU, relu_of_kaiming=INITS["relu"][1]
):
    ratios = {net.activation.__name__: vanished(norms(net)) for net in (SIGMOID, TANH)}
    evidence.compare("gradient, first over last hidden layer", {**ratios, "ReLU": vanished(norms(relu))})
    proper = {"tanh, Xavier": vanished(norms(INITS["tanh"][1])), "ReLU, Kaiming": vanished(norms(relu_of_kaiming))}
    evidence.compare("gradient, first over last hidden layer, weights to suit", proper)
    trials.less(100 * ratios["Sigmoid"], vanished(norms(relu)), name="100 times that of sigmoid")
    trials.less(vanished(norms(relu)), ratios["Tanh"], name="less than that of tanh")
    assert proper["ReLU, Kaiming"].log().mean() < proper["tanh, Xavier"].log().mean()


EXPLODING, SHALLOW, TWO_OF_TANH = Net(nn.ReLU, scale=5.0), Net(nn.Sigmoid, depth=1), Net(nn.Tanh, depth=2)


@claim(
    "pytorch-notes/gradient-norm-extremes",
    finding="They may. With weights five times as large the norm of the whole gradient is nearly 1e8; and a sigmoid "
    "network of ten layers is left with less than 1e-6 once it has learned the mean of its targets, and nothing else. "
    "But a tiny norm may be a minimum too: a shallow network of tanh that has learned all its targets has 1e-6; the "
    "loss tells the two apart. Nor need vanishing make it tiny: at the start the deep network, whose first layer gets "
    "4e-9, has a norm of 1.5 to 2.1 from its last layers, about that of one with a single layer. That takes the norm "
    "of each layer (medians).",
    controls=[
        override("weights as they are", exploding=RELU),
        override("a shallow network", vanishing=SHALLOW),
        override("one layer of sigmoid, which learns more slowly", minimum=SHALLOW),
    ],
    trials=TRIALS,
)
def test_an_extreme_norm_may_mean_exploding_or_vanishing_but_a_minimum_too(
    *, norms, trained, trials, evidence, exploding=EXPLODING, vanishing=SIGMOID, minimum=TWO_OF_TANH
):
    nets = {"large weights": exploding, "10 layers of sigmoid": vanishing, "1 layer of sigmoid": SHALLOW}
    totals = {name: norms(net).norm(dim=1) for name, net in nets.items()}
    (stuck_loss, stuck), (learned_loss, learned) = trained(vanishing, 8, 20, 0.03), trained(minimum, 8, 200, 0.05)
    ends = {"10 layers of sigmoid, stuck": stuck.norm(dim=1), "2 layers of tanh, learned": learned.norm(dim=1)}
    evidence.compare("log10 of the norm of the gradient", {name: total.log10() for name, total in totals.items()})
    evidence.compare("after training on 8 samples", {name: total.log10() for name, total in ends.items()})
    evidence.compare("log10 of the loss", dict(zip(ends, (stuck_loss.log10(), learned_loss.log10()), strict=True)))
    trials.less(1e4 * totals["1 layer of sigmoid"], totals["large weights"], name="exploding: 10,000 times as large")
    for name, total in ends.items():
        trials.less(total, np.full(TRIALS, 1e-3), name=f"{name}: a norm below 1e-3")
    trials.less(np.full(TRIALS, 0.1), stuck_loss, name="stuck: though the loss is above 0.1")
    trials.less(learned_loss, np.full(TRIALS, 1e-4), name="learned: a loss below 1e-4")
    trials.less(
        0.01 * totals["1 layer of sigmoid"], totals["10 layers of sigmoid"], name="at the start: no 100 times less"
    )
    trials.less(norms(vanishing)[:, 0], np.full(TRIALS, 1e-6), name="though the first layer's is below 1e-6")


def trained_from(start, activation, x, y):
    """Linear(4, 8)-activation-Linear(8, 1) after 50 steps of SGD, all parameters starting at ``start``."""
    model = nn.Sequential(nn.Linear(4, 8), activation(), nn.Linear(8, 1))
    for parameter in model.parameters():
        nn.init.constant_(parameter, start)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    for _ in range(50):
        optimizer.zero_grad()
        nn.functional.mse_loss(model(x), y).backward()
        optimizer.step()
    return model


elements = st.floats(-1, 1, width=32)
data = {"x": tensors((16, 4), elements=elements), "y": tensors((16, 1), elements=st.floats(0.5, 1, width=32))}


@claim(
    "pytorch-notes/zero-weights-stay-zero-relu-tanh",
    finding="Each gradient has a factor that is zero: the next layer's weights, or the hidden values. Only the last "
    "bias learns, the mean of the targets.",
    controls=[override("a start at 0.1", start=0.1)],
)
@pytest.mark.parametrize("activation", [nn.ReLU, nn.Tanh])
@settings(max_examples=4)
@given(**data, start=st.just(0.0))
def test_weights_that_start_at_zero_stay_there_with_relu_and_tanh(activation, x, y, start):
    first, _, last = trained_from(start, activation, x, y)
    assert not first.weight.any()
    assert not last.weight.any()
    assert not first.bias.any()
    torch.testing.assert_close(last.bias[0], y.mean(), rtol=1e-3, atol=1e-3)


@claim(
    "pytorch-notes/all-zero-weights-depend-on-activation",
    finding="σ(0) is a half, so that the last weights, and then the first, do get a gradient. But all eight neurons "
    "get the same, and stay copies of one: the initialisation is to blame all the same.",
    controls=[override("tanh", activation=nn.Tanh)],
)
@settings(max_examples=4)
@given(**data, activation=st.just(nn.Sigmoid))
def test_with_sigmoid_weights_leave_zero_but_all_neurons_stay_equal(x, y, activation):
    first, _, last = trained_from(0.0, activation, x, y)
    assert last.weight.all()
    torch.testing.assert_close(first.weight, first.weight[:1].expand_as(first.weight))
    torch.testing.assert_close(last.weight, last.weight[:, :1].expand_as(last.weight))


@claim(
    "pytorch-notes/all-zero-activation-means-dead-relu",
    finding="With momentum or Adam alike; weight decay would move the weights, by no gradient.",
    controls=[override("a bias of 0", bias=0.0)],
)
@pytest.mark.parametrize("optimizer", [torch.optim.Adam, partial(torch.optim.SGD, momentum=0.9)], ids=["Adam", "SGD"])
@settings(max_examples=5)
@given(x=tensors((256, 3), elements=st.floats(-8, 8, width=32)), bias=st.just(-100.0))
def test_a_relu_unit_that_is_negative_for_every_input_stays_dead(optimizer, x, bias):
    x = torch.cat([x, torch.eye(3), -torch.eye(3)])  # so that a living unit shows on some input
    unit = nn.Linear(3, 1)
    nn.init.constant_(unit.bias, bias)
    before = [parameter.clone() for parameter in unit.parameters()]
    stepping = optimizer(unit.parameters(), lr=0.1)
    for _ in range(5):
        stepping.zero_grad()
        output = torch.relu(unit(x))
        (output - 1).square().sum().backward()
        assert not output.any()
        assert not any(parameter.grad.any() for parameter in unit.parameters())
        stepping.step()
    torch.testing.assert_close(list(unit.parameters()), before, rtol=0, atol=0)
