"""Sections 14.2 and 14.4: the chain rule by hand, from the error at the output back, for networks of any shape."""

from functools import partial

import hypothesis.strategies as st
import torch
from hypothesis import example, given, settings
from torch import nn
from torch.nn.functional import cross_entropy
from torch.testing import assert_close

from fitcore.evaluation.memory import allocated_bytes
from fitcore.gradients.pullbacks import backpropagation, layers_of
from fitcore.models import CNN, MLP
from fitcore.seeding import seeded
from fitcore.testing import CONDITIONAL, claim, override, replace

CLASSES = 3


def mlp(fan_in, hidden, activation):
    return MLP([fan_in, *hidden, CLASSES], activation), (fan_in,)


def cnn(side, channels, widths, padding):
    return CNN(side, channels, CLASSES, widths, padding=padding, hidden=None), (channels, side, side)


def problem(make, n, seed):
    """A network in float64, inputs and labels."""
    with seeded(seed):
        network, shape = make()
        return network.double(), torch.randn(n, *shape, dtype=torch.float64), torch.randint(CLASSES, (n,))


few = st.integers(1, 4)
activations = st.sampled_from([nn.ReLU, nn.Tanh, nn.Sigmoid])
mlps = st.builds(partial, st.just(mlp), few, st.lists(st.integers(1, 6), min_size=1, max_size=3), activations)
cnns = st.builds(
    partial, st.just(cnn), st.integers(10, 12), few, st.lists(few, min_size=1, max_size=2), st.integers(0, 1)
)
problems = st.builds(problem, mlps | cnns, st.integers(1, 6), st.integers(0, 2**32 - 1))


def relu_letting_all_back(x):
    return x.clamp(min=0), lambda g: (g,)


@claim(
    "pytorch-notes/chain-rule-matches-autograd",
    finding="Written out for affine layers, convolutions, pooling, ReLU, tanh, sigmoid and softmax with cross-entropy, "
    "it gives loss and gradient of every parameter of MLPs and CNNs of any shape as autograd does, to rounding.",
    controls=[replace("fitcore.gradients.pullbacks.relu", relu_letting_all_back)],
)
@example(case=problem(partial(mlp, 4, [5], nn.ReLU), 6, seed=0))
@given(case=problems)
def test_the_chain_rule_by_hand_gives_the_gradient_of_every_layer(case):
    network, inputs, labels = case
    loss, gradients = backpropagation(layers_of(network), inputs, labels)
    expected = cross_entropy(network(inputs), labels)
    assert_close(loss, expected.detach())
    of_autograd = torch.autograd.grad(expected, list(network.parameters()))
    assert_close([gradients[parameter] for parameter in network.parameters()], list(of_autograd))


def whole(layers, x):
    return nn.Sequential(*layers)(x)


def cut_before_the_last(layers, x):
    return layers[-1](whole(layers[:-1], x).detach())


@claim(
    "pytorch-notes/each-layer-gets-its-own-gradient",
    controls=[override("the output detached from the layers below", apply=cut_before_the_last)],
)
@given(case=problems, apply=st.just(whole))
def test_every_parameter_gets_a_gradient_of_its_own_shape_and_memory(case, apply):
    network, inputs, labels = case
    network.zero_grad()
    cross_entropy(apply(layers_of(network), inputs), labels).backward()
    parameters = list(network.parameters())
    assert all(parameter.grad is not None for parameter in parameters)
    assert [parameter.grad.shape for parameter in parameters] == [parameter.shape for parameter in parameters]
    gradients = [parameter.grad for parameter in parameters]
    assert allocated_bytes(*gradients, *parameters) == 2 * sum(parameter.nbytes for parameter in parameters)


def leave_gradients(network):
    """Let them accumulate."""


@claim(
    "pytorch-notes/gradient-accumulates-per-backward",
    finding="In every parameter of every network the second gradient is added to the first, bit for bit.",
    controls=[override("cleared between", clear=nn.Module.zero_grad)],
)
@settings(max_examples=15)
@given(case=problems, clear=st.just(leave_gradients))
def test_a_second_backward_adds_to_the_gradients_of_all_layers(case, clear):
    network, inputs, labels = case
    parameters = list(network.parameters())
    batches = [(inputs, labels), (2 * inputs, (labels + 1) % CLASSES)]
    first, second = (torch.autograd.grad(cross_entropy(network(x), y), parameters) for x, y in batches)
    network.zero_grad()
    for x, y in batches:
        clear(network)
        cross_entropy(network(x), y).backward()
    assert all(torch.equal(parameter.grad, a + b) for parameter, a, b in zip(parameters, first, second, strict=True))


@claim(
    "pytorch-notes/sgd-step-is-lr-times-gradient",
    finding="With the gradients of the chain rule by hand, in all layers at once. So plain SGD: weight decay adds to "
    "the gradient, and momentum adds former steps from the second on.",
    controls=[override("weight decay", options={"weight_decay": 0.1})],
)
@settings(max_examples=15)
@given(case=problems, lr=st.floats(1e-4, 1), options=st.just({}))
def test_a_step_of_sgd_is_minus_the_rate_times_the_gradient_by_hand(case, lr, options):
    network, inputs, labels = case
    before = [parameter.detach().clone() for parameter in network.parameters()]
    _, gradients = backpropagation(layers_of(network), inputs, labels)
    network.zero_grad()
    cross_entropy(network(inputs), labels).backward()
    torch.optim.SGD(network.parameters(), lr=lr, **options).step()
    expected = [old - lr * gradients[parameter] for old, parameter in zip(before, network.parameters(), strict=True)]
    assert_close([parameter.detach() for parameter in network.parameters()], expected, rtol=1e-9, atol=1e-12)


def first_step(optimizer, start, x, y, *, lr, loss_times=1.0):
    """By how much the first update moves the weights of a linear model."""
    weights = start.clone().requires_grad_()
    (loss_times * (x @ weights - y).square().mean()).backward()
    optimizer([weights], lr=lr).step()
    return weights.detach() - start


def normal_regression(seed):
    with seeded(seed):
        return (torch.randn(shape, dtype=torch.float64) for shape in ((4,), (8, 4), (8,)))


@claim(
    "pytorch-notes/learning-rate-alone-sets-step-size",
    verdict=CONDITIONAL,
    finding="It decides in proportion: half the rate, half the step. But an update of SGD is as long as the rate times "
    "the gradient's norm, so that twice the loss moves the parameters twice as far. By the rate alone they move with "
    "Adam at its first step, where each changes by the rate, whatever the loss is multiplied by.",
    controls=[override("Adam in place of SGD", optimizer=torch.optim.Adam)],
)
@given(
    seed=st.integers(0, 2**32 - 1), lr=st.floats(1e-3, 1), times=st.floats(1.5, 4), optimizer=st.just(torch.optim.SGD)
)
def test_a_step_of_sgd_grows_with_the_loss_and_the_first_of_adam_does_not(seed, lr, times, optimizer):
    sgd, adam = (partial(first_step, kind, *normal_regression(seed)) for kind in (optimizer, torch.optim.Adam))
    assert_close(sgd(lr=lr, loss_times=times), times * sgd(lr=lr))
    assert_close(sgd(lr=lr / 2), sgd(lr=lr) / 2)
    assert_close(adam(lr=lr, loss_times=times), adam(lr=lr), rtol=1e-3, atol=0)
    assert_close(adam(lr=lr).abs(), torch.full((4,), lr, dtype=torch.float64), rtol=1e-3, atol=0)
