"""Section 9.2.1: what the activations do to networks: gradients through depth, dead units, and outputs."""

import math
from functools import partial

import hypothesis.strategies as st
import numpy as np
import pytest
import torch
from hypothesis import example, given
from torch import nn
from torch.nn import functional
from torch.testing import assert_close

from fitcore.data import mnist
from fitcore.data.moons import noisy_moons
from fitcore.ensembles import Ensemble, cross_entropies, fit, mean_squared_errors
from fitcore.models import MLP
from fitcore.testing import CONDITIONAL, claim, error_of, override
from fitcore.testing.strategies import tensors

TRIALS = 60


def adam(lr):
    return partial(torch.optim.Adam, lr=lr, fused=True)


def default(layer):
    """Leave what nn.Linear draws."""


def xavier(layer):
    nn.init.xavier_uniform_(layer.weight)
    nn.init.zeros_(layer.bias)


def deep_network(activation, depth, init):
    network = MLP([64] * (depth + 1) + [1], activation)
    for layer in network:
        if isinstance(layer, nn.Linear):
            init(layer)
    return network


def gradient_kept(seeds, activation, depth, init):
    """Gradient norm, for one sample, of the first weights over that of the last hidden ones at the start, (trials,)."""
    ensemble = Ensemble(partial(deep_network, activation, depth, init), seeds)
    losses = mean_squared_errors(ensemble(torch.randn(len(seeds), 1, 64)), torch.randn(len(seeds), 1, 1))
    losses.backward(torch.ones_like(losses))
    norms = [g.flatten(1).norm(dim=1) for g in ensemble.stacks(ensemble.flat.grad).values() if g.ndim == 3]
    return norms[0] / norms[-2]


@pytest.fixture
def kept(shared, trials):
    """``kept(activation, depth, init)``, computed once a session."""
    return lambda *setting: shared(gradient_kept, tuple(shared.seeds(trials.count).tolist()), *setting)


@claim(
    "pytorch-notes/tanh-vanishing-in-deep-nets",
    verdict=CONDITIONAL,
    finding="With the weights that torch draws by default: of ten hidden layers the first gets 1/19 of the last one's "
    "gradient (median). Most of that is the weights', which are too small: without any activation it is 1/14. With "
    "Xavier's weights nothing vanishes in ten layers of tanh, while sigmoid leaves a few millionths.",
    controls=[override("Xavier's weights", init=xavier), override("2 layers", depth=2)],
    trials=TRIALS,
)
def test_the_gradient_vanishes_through_tanh_layers_whose_weights_are_too_small(
    kept, trials, evidence, init=default, depth=10
):
    tanh, linear = kept(nn.Tanh, depth, init), kept(nn.Identity, depth, init)
    tanh_of_xavier, sigmoid_of_xavier = kept(nn.Tanh, depth, xavier), kept(nn.Sigmoid, depth, xavier)
    ratios = {"tanh": tanh, "no activation": linear, "tanh, Xavier": tanh_of_xavier}
    ratios |= {"sigmoid, Xavier": sigmoid_of_xavier}
    evidence.compare("log10 of first over last hidden gradient", {name: r.log10() for name, r in ratios.items()})
    few = np.full(trials.count, 0.25)
    trials.less(tanh, few, name="less than a quarter is left")
    trials.less(linear, few, name="so it is without an activation")
    trials.equivalent(0, tanh_of_xavier.log(), math.log(4), name="Xavier: the same within 4")
    trials.less(sigmoid_of_xavier, few / 1000, name="Xavier with sigmoid: less than a thousandth of that")


@torch.no_grad()
def dead(network, inputs, activation):
    """Share of the units of each hidden layer that are zero for all inputs."""
    outputs = []
    hooks = [m.register_forward_hook(lambda *call: outputs.append(call[2])) for m in network if type(m) is activation]
    network(inputs)
    for hook in hooks:
        hook.remove()
    return torch.stack([(output == 0).all(0).float().mean() for output in outputs])


def dead_units(seeds, root, lr, activation):
    """Share of dead units in the first and second hidden layer after training on digits, (copies, 2)."""
    digits, test = mnist(root), mnist(root, train=False)[:1000]
    rows = torch.stack([torch.randperm(len(digits))[:300] for _ in seeds])
    x = digits[rows.flatten()].scaled.flatten(1).unflatten(0, rows.shape)
    ensemble = Ensemble(lambda: MLP([784, 256, 128, 10], activation), seeds)
    fit(ensemble, (x, digits.labels[rows]), epochs=20, optimizer=adam(lr), loss=cross_entropies)
    networks = [ensemble.module(copy) for copy in range(len(seeds))]
    return torch.stack([dead(network, test.scaled.flatten(1), activation) for network in networks])


@claim(
    "pytorch-notes/relu-units-die-in-training",
    verdict=CONDITIONAL,
    finding="Where the learning rate is large. At Adam's usual 0.001 hardly a unit of the first layer dies in 20 "
    "steps; at 0.03 about three quarters are zero for every digit.",
    controls=[override("leaky", activation=nn.LeakyReLU), override("a rate of 0.001", large=0.001)],
)
def test_most_relu_units_die_at_a_large_rate_and_hardly_any_at_the_usual_one(
    shared, data_root, evidence, activation=nn.ReLU, large=0.03
):
    seeds = tuple(shared.seeds(3).tolist())
    usual, fast = (shared(dead_units, seeds, data_root, rate, activation)[:, 0] for rate in (0.001, large))
    evidence.compare("dead units of the first layer", {"0.001": usual, str(large): fast})
    assert usual.mean() < 0.15
    assert fast.mean() > 0.4


class Selector(nn.Module):
    """Σ_t w_t value_t over the positions of a sequence, with weights w made of each position's key."""

    def __init__(self, softmax):
        super().__init__()
        self.score, self.softmax = nn.Linear(1, 1), softmax

    def forward(self, x):
        keys, values = x.unbind(-1)
        scores = self.score(keys[..., None])[..., 0]
        return ((scores.softmax(-1) if self.softmax else scores) * values).sum(-1)


def sequences(copies):
    """Eight positions of a key and a value, and the value where the key is largest."""
    x = torch.randn(copies, 100, 8, 2)
    keys, values = x.unbind(-1)
    return x, values.gather(-1, keys.argmax(-1, keepdim=True))[..., 0]


def selection_errors(seeds, softmax):
    """Mean squared errors of selectors on new sequences, (trials,)."""
    ensemble, training, new = Ensemble(lambda: Selector(softmax), seeds), sequences(len(seeds)), sequences(len(seeds))
    fit(ensemble, training, epochs=100, optimizer=adam(0.1))
    with torch.no_grad():
        return mean_squared_errors(ensemble(new[0]), new[1])


def accuracies(seeds, root, activation):
    """Share of a thousand digits that networks with a hidden layer of 64 recognise, (copies,)."""
    digits, test = mnist(root), mnist(root, train=False)[:1000]
    rows = torch.stack([torch.randperm(len(digits))[:300] for _ in seeds])
    x = digits[rows.flatten()].scaled.flatten(1).unflatten(0, rows.shape)
    ensemble = Ensemble(lambda: MLP([784, 64, 10], activation), seeds)
    fit(ensemble, (x, digits.labels[rows]), epochs=10, optimizer=adam(0.001), loss=cross_entropies, batch_size=64)
    with torch.no_grad():
        guesses = ensemble(ensemble.share(test.scaled.flatten(1))).argmax(-1)
    return (guesses == test.labels).float().mean(1)


over_units = partial(nn.Softmax, dim=-1)


@claim(
    "pytorch-notes/softmax-only-output-layer",
    verdict=CONDITIONAL,
    finding="As the activation of a hidden layer it does badly: after ten epochs 30 to 40 % of digits against ReLU's "
    "78 %. But it belongs inside a network wherever one is to choose among positions, as in attention: there it brings "
    "the squared error from 0.6 down to 0.1 (medians).",
    controls=[
        override("no softmax in the selector", choose=False),
        override("ReLU in the hidden layer", hidden=nn.ReLU),
    ],
    trials=TRIALS,
)
def test_softmax_hampers_hidden_units_and_serves_to_choose_among_positions(
    shared, trials, data_root, evidence, *, choose=True, hidden=over_units
):
    seeds = tuple(shared.seeds(trials.count).tolist())
    chosen, summed = (shared(selection_errors, seeds, softmax) for softmax in (choose, False))
    bent, squashed = (shared(accuracies, seeds[:4], data_root, activation) for activation in (nn.ReLU, hidden))
    evidence.compare("squared error of choosing a position", {"softmax": chosen, "no softmax": summed})
    evidence.compare("test accuracy of a hidden layer of 64", {"ReLU": bent, "softmax": squashed})
    trials.less(chosen, 0.5 * summed, name="less than half the error with softmax inside")
    assert squashed.mean() < bent.mean() - 0.15


def output_errors(seeds, output, amplitude=1.0):
    """Root mean square errors of small networks with this activation behind the last layer, on a sine, (trials,)."""
    x = torch.linspace(-math.pi, math.pi, 20)[:, None]
    ensemble = Ensemble(lambda: nn.Sequential(*MLP([1, 16, 16, 1]), output()), seeds)
    data = ensemble.share(x), ensemble.share(amplitude * x.sin())
    fit(ensemble, data, epochs=150, optimizer=adam(0.02))
    with torch.no_grad():
        return mean_squared_errors(ensemble(data[0]), data[1]).sqrt()


@claim(
    "pytorch-notes/tanh-suits-negative-outputs",
    verdict=CONDITIONAL,
    finding="Of outputs between -1 and 1: it learns the sine to 0.03, where sigmoid and ReLU, which are never "
    "negative, miss it by 0.5. Of 2·sin(x) it cannot give what lies beyond 1, and misses 0.7; an output "
    "layer without activation has no such bounds, and misses 0.02 (medians).",
    controls=[override("sigmoid", output=nn.Sigmoid), override("a linear output bounded", unbounded=nn.Tanh)],
    trials=TRIALS,
)
def test_an_output_of_tanh_may_be_negative_but_not_beyond_minus_one(
    shared, trials, evidence, output=nn.Tanh, unbounded=nn.Identity
):
    seeds = tuple(shared.seeds(trials.count).tolist())
    of_sine = {name.__name__: shared(output_errors, seeds, name) for name in (nn.Sigmoid, nn.ReLU)}
    of_tanh, beyond, linear = (
        shared(output_errors, seeds, *how) for how in ((output,), (nn.Tanh, 2.0), (unbounded, 2.0))
    )
    evidence.compare("error on sin(x)", {"Tanh": of_tanh, **of_sine})
    evidence.compare("error on 2 sin(x)", {"Tanh": beyond, "no activation": linear})
    trials.less(of_tanh, 0.2, name="tanh: an error below 0.2")
    for name, error in of_sine.items():
        trials.less(0.4, error, name=f"{name}: above 0.4")
    trials.less(0.5, beyond, name="2 sin(x): tanh above 0.5")
    trials.less(linear, 0.2, name="2 sin(x): a linear output below 0.2")


def binary_cross_entropies(outputs, targets):
    losses = functional.binary_cross_entropy(outputs[..., 0], targets.float(), reduction="none")
    return losses.mean(1)


def of_sigmoid(network):
    return nn.Sequential(*network, nn.Sigmoid())


def of_softmax(network):
    return nn.Sequential(*network, nn.Softmax(dim=-1))


def moon_accuracies(seeds, output):
    """Accuracies on new points of noisy moons: of one probability and BCE, and of two scores and cross-entropy."""
    (x, y), (new_x, new_y) = (noisy_moons(200, noise=0.2, flipped=0.0, sets=len(seeds)) for _ in range(2))
    one = Ensemble(lambda: output(MLP([2, 16, 1])), seeds)
    two = Ensemble(lambda: MLP([2, 16, 2]), seeds)
    fit(one, (x, y), epochs=100, optimizer=adam(0.05), loss=binary_cross_entropies)
    fit(two, (x, y), epochs=100, optimizer=adam(0.05), loss=cross_entropies)
    with torch.no_grad():
        guesses = (one(new_x)[..., 0] > 0.5).long(), two(new_x).argmax(-1)
    return torch.stack([(guess == new_y).float().mean(1) for guess in guesses])


@claim(
    "pytorch-notes/sigmoid-plus-bce-binary-output",
    finding="On noisy moons it classifies as many new points rightly as two outputs with cross-entropy, 96 % (median). "
    "Bare scores, or those of tanh, BCELoss refuses: they are no probabilities.",
    controls=[override("a softmax over the one output", output=of_softmax)],
    trials=80,
)
def test_a_sigmoid_with_bce_classifies_as_well_as_two_outputs_with_cross_entropy(
    shared, trials, evidence, output=of_sigmoid
):
    of_one, of_two = shared(moon_accuracies, tuple(shared.seeds(trials.count).tolist()), output)
    evidence.compare("test accuracy", {"sigmoid and BCE": of_one, "two scores and cross-entropy": of_two})
    trials.equivalent(of_two, of_one, within=0.05, name="the same accuracy within 5 points")
    trials.less(0.85, of_one, name="above 85 %")
    scores = torch.tensor([-0.5, 0.5])
    assert "between 0 and 1" in str(error_of(nn.BCELoss(), scores, torch.ones(2)))
    assert "between 0 and 1" in str(error_of(nn.BCELoss(), torch.tanh(scores), torch.ones(2)))
    assert error_of(nn.BCELoss(), torch.sigmoid(scores), torch.ones(2)) is None


def in_two_steps(z, y):
    return functional.binary_cross_entropy(torch.sigmoid(z), y, reduction="none")


def at_once(z, y):
    return functional.binary_cross_entropy_with_logits(z, y, reduction="none")


def loss_and_gradient(loss, z, y):
    z = z.detach().requires_grad_()
    losses = loss(z, y)
    return losses.detach(), torch.autograd.grad(losses.sum(), z)[0]


@claim(
    "pytorch-notes/sigmoid-then-bce-equals-bce-with-logits",
    verdict=CONDITIONAL,
    finding="While σ(z) isn't rounded, in float64 to nine digits for |z| < 15. In float32 from z = 18 on σ(z) is 1: "
    "if the label is 0, BCELoss says 100 whatever z is, with no gradient to mend it, where BCEWithLogitsLoss says z, "
    "with gradient 1.",
    controls=[override("at once both times", apart=at_once)],
)
@example(z=torch.tensor([-15.0, 0, 15]).double(), far=torch.tensor([18.0, 90]), apart=in_two_steps)
@given(
    z=tensors(dtype=torch.float64, elements=st.floats(-15, 15)),
    far=tensors(elements=st.floats(18, 90, width=32)),
    apart=st.just(in_two_steps),
)
def test_a_sigmoid_before_bce_loses_the_gradient_of_confident_mistakes(z, far, apart):
    for_zero, for_one = torch.zeros_like(z), torch.ones_like(z)
    assert_close(loss_and_gradient(apart, z, for_zero), loss_and_gradient(at_once, z, for_zero), rtol=1e-9, atol=1e-9)
    assert_close(loss_and_gradient(apart, z, for_one), loss_and_gradient(at_once, z, for_one), rtol=1e-9, atol=1e-9)
    mistaken = torch.zeros_like(far)
    assert_close(loss_and_gradient(apart, far, mistaken), (torch.full_like(far, 100), torch.zeros_like(far)))
    assert_close(loss_and_gradient(at_once, far, mistaken), (far, torch.ones_like(far)))
