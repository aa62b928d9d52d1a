"""Sections 14.2 to 14.4: in which order gradients and updates come, and what the way of the error explains."""

from copy import deepcopy

import hypothesis.strategies as st
import pytest
import torch
from hypothesis import given, settings
from torch import nn
from torch.nn.functional import cross_entropy, one_hot
from torch.overrides import TorchFunctionMode

from fitcore.gradients.pullbacks import layers_of
from fitcore.models import MLP
from fitcore.seeding import seeded
from fitcore.testing import REFUTED, claim, override


def chain(layers, x):
    return nn.Sequential(*layers)(x)


def side_by_side(layers, x):
    return torch.stack([layer(x) for layer in reversed(layers)]).sum(0)


@claim(
    "pytorch-notes/gradients-computed-from-output-to-input",
    finding="Layer by layer, the last one first, at any depth; within a layer weight and bias come in either order.",
    controls=[override("layers side by side", connect=side_by_side)],
)
@settings(max_examples=15)
@given(depth=st.integers(2, 8), seed=st.integers(0, 2**32 - 1), connect=st.just(chain))
def test_gradients_arrive_from_the_last_layer_to_the_first(depth, seed, connect):
    with seeded(seed):
        layers, x = [nn.Linear(3, 3) for _ in range(depth)], torch.randn(4, 3)
    arrived = []
    for position, layer in enumerate(layers):
        for parameter in layer.parameters():
            parameter.register_post_accumulate_grad_hook(lambda _, position=position: arrived.append(position))
    connect(layers, x).square().sum().backward()
    assert arrived == [position for position in reversed(range(depth)) for _ in ("weight", "bias")]


@claim(
    "pytorch-notes/gradients-computed-from-output-to-input",
    controls=[override("hooks of the forward pass", watch=nn.Module.register_forward_hook)],
    trials=4,
)
def test_in_the_documents_network_the_linear_layer_comes_before_conv2_and_conv1(
    document_cnn, trials, watch=nn.Module.register_full_backward_hook
):
    def order(seed):
        network, images, labels = document_cnn(4)
        seen = []
        for place, layer in enumerate([network.features[0], network.features[3], network.classifier[0]]):
            watch(layer, lambda *_, place=place: seen.append(place))
        # Images that want a gradient too: else conv1 has no input gradient for its hook to show.
        cross_entropy(network(images.requires_grad_()), labels).backward()
        return seen

    trials.always((trials.map(order) == [2, 1, 0]).all(1), name="linear, conv2, conv1")


class Written(TorchFunctionMode):
    """The tensors that ``add_`` writes to, in order."""

    def __init__(self):
        super().__init__()
        self.tensors = []

    def __torch_function__(self, function, types, args=(), kwargs=None):
        if function.__name__ == "add_":
            self.tensors.append(args[0])
        return function(*args, **(kwargs or {}))


def all_gradients_first(loss, parameters):
    loss().backward()
    torch.optim.SGD(parameters, lr=0.1).step()


def one_after_the_other(loss, parameters):
    """Each update sees those before it (Gauss-Seidel): the gradient is computed anew for every parameter."""
    for parameter in parameters:
        parameter.grad = torch.autograd.grad(loss(), parameter)[0]
        torch.optim.SGD([parameter], lr=0.1).step()


@claim(
    "pytorch-notes/parameters-updated-from-output-to-input",
    verdict=REFUTED,
    finding="Only the gradients come in that order. The optimizer takes the parameters as they are listed, from the "
    "input to the output, after all gradients are there; so the order makes no difference: from the output to the "
    "input every parameter becomes the same, bit for bit.",
    controls=[override("the gradient computed anew for each", update=one_after_the_other)],
)
@settings(max_examples=15)
@given(
    hidden=st.lists(st.integers(1, 5), min_size=1, max_size=3),
    seed=st.integers(0, 2**32 - 1),
    update=st.just(all_gradients_first),
)
def test_parameters_are_updated_as_listed_and_the_order_does_not_matter(hidden, seed, update):
    with seeded(seed):
        network, x, y = MLP([2, *hidden, 2]), torch.randn(6, 2), torch.randn(6, 2)
    other = deepcopy(network)
    listed, from_the_output = list(network.parameters()), list(other.parameters())[::-1]
    with Written() as written:
        update(lambda: (network(x) - y).square().mean(), listed)
    update(lambda: (other(x) - y).square().mean(), from_the_output)
    assert [id(tensor) for tensor in written.tensors] == [id(parameter) for parameter in listed]
    assert all(map(torch.equal, listed, from_the_output[::-1]))


def at_the_output(network, images, labels):
    return cross_entropy(network(images), labels)


def also_at_the_first_layer(network, images, labels):
    return at_the_output(network, images, labels) + network.features[0](images).square().mean()


@claim(
    "pytorch-notes/low-layers-feel-error-only-via-upper-layers",
    finding="With the weights of any layer set to 0 the layers below it get gradients of exactly 0, and the biases of "
    "the linear layer the same as ever. A loss of its own, or a shortcut past the upper layer, would reach the "
    "lower one nevertheless.",
    controls=[override("a loss at the first layer too", loss=also_at_the_first_layer)],
    trials=6,
)
@pytest.mark.parametrize("cut", ["conv2", "linear"])
def test_no_error_passes_a_layer_of_zero_weights(document_cnn, trials, cut, loss=at_the_output):
    def slopes(seed):
        network, images, labels = document_cnn(4)
        layers = [layer for layer in layers_of(network) if list(layer.parameters())]
        above = {"conv2": 1, "linear": 2}[cut]
        seen = []
        for factor in (1, 0):
            layers[above].weight.data.mul_(factor)
            network.zero_grad()
            loss(network, images, labels).backward()
            below = [parameter.grad.norm() for layer in layers[:above] for parameter in layer.parameters()]
            seen += [torch.stack(below).min(), torch.stack(below).max(), layers[-1].bias.grad.norm()]
        return torch.stack(seen)

    least, _, _, _, largest_cut, at_the_top = trials.map(slopes).T
    trials.always(least > 0, name="each layer below has a gradient")
    trials.always(largest_cut == 0, name="none of them has with the weights at 0")
    trials.always(at_the_top > 0, name="but the biases of the linear layer have")


def share_between_classes(maps, labels):
    """What share of the variance of features (n, ...) lies between the means of the classes, η²."""
    members = one_hot(labels).float()
    features = maps.flatten(1) - maps.flatten(1).mean(0)
    return ((members.T @ features).square().sum(1) / members.sum(0)).sum() / features.square().sum()


def share_of_pixels(maps, images):
    """What share of the pixels' variance ridge regression on the maps explains, in the second half of the images."""
    features, pixels = (values.flatten(1) - values.flatten(1).mean(0) for values in (maps, images))
    half = len(images) // 2
    products = features @ features[:half].T
    penalty = 1e-3 * products[:half].diag().mean() * torch.eye(half)
    predicted = products[half:] @ torch.linalg.solve(products[:half] + penalty, pixels[:half])
    return 1 - (pixels[half:] - predicted).square().sum() / pixels[half:].square().sum()


@claim(
    "pytorch-notes/abstraction-is-caused-by-error-path",
    verdict=REFUTED,
    finding="It comes from what is computed, layer on layer. Before any error was ever sent back, the maps of conv2 "
    "tell less of the pixels than those of conv1: ridge regression explains about 60 % of their variance against 74 %. "
    "Trained with an error of its own for either convolution, equally direct, conv2 is ahead all the same: it tells "
    "less of the pixels, and more of the digit (34 to 37 % of the maps' variance lies between the classes, against 28 "
    "to 30 %; medians).",
    controls=[override("no second convolution", second_block=False)],
    trials=6,
)
def test_deeper_maps_are_more_abstract_however_direct_the_error(document_cnn, trials, evidence, second_block=True):
    def abstraction(seed):
        network, images, labels = document_cnn(264)
        first, second = network.features[:3], network.features[3:] if second_block else nn.Sequential()
        heads = [nn.LazyLinear(10), nn.LazyLinear(10)]

        def maps(images):
            shallow = first(images)
            return shallow, second(shallow.detach())

        def measured():
            with torch.no_grad():
                levels = [level[64:] for level in maps(images)]
            return [share(level, of[64:]) for share, of in measures for level in levels]

        measures = [(share_between_classes, labels), (share_of_pixels, images)]
        untrained = measured()
        [head(level.flatten(1)) for head, level in zip(heads, maps(images[:1]), strict=True)]
        parameters = [parameter for part in (first, second, *heads) for parameter in part.parameters()]
        adam = torch.optim.Adam(parameters, lr=0.01)
        for _ in range(8):
            adam.zero_grad()
            levels = zip(heads, maps(images[:64]), strict=True)
            sum(cross_entropy(head(level.flatten(1)), labels[:64]) for head, level in levels).backward()
            adam.step()
        return torch.stack([*untrained, *measured()])

    measured = trials.map(abstraction)
    names = ["untrained: digit", "untrained: pixels", "trained: digit", "trained: pixels"]
    for index, name in enumerate(names):
        shallow, deep = measured[:, 2 * index], measured[:, 2 * index + 1]
        evidence.compare(f"share of variance, {name}", {"conv1": shallow, "conv2": deep})
    gains = measured[:, 1::2] - measured[:, ::2]
    trials.always(gains[:, 1] < 0, name="untrained: less of the pixels")
    trials.always(gains[:, 3] < 0, name="with an error of its own for each: less of the pixels")
    assert gains[:, 2].mean() > 0  # and more of the digit
