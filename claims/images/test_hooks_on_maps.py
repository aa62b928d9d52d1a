"""Section 13.1: what the hook on a convolution stores, for how long it is right, and what ReLU makes of it."""

import hypothesis.strategies as st
import torch
from hypothesis import example, given, settings
from torch import nn
from torch.nn import functional
from torch.testing import assert_close

from fitcore.data import mnist
from fitcore.gradients.graph import graph_leaves
from fitcore.models import CNN
from fitcore.seeding import seeded
from fitcore.testing import REFUTED, claim, error_of, override, replace
from fitcore.testing.strategies import dtypes, shapes, strided, tensors

CONV1, RELU1, CONV2 = "features.0", "features.1", "features.3"
SEEDS = st.integers(0, 2**32 - 1)

relu = torch.relu


def network():
    return CNN(widths=(16, 32), hidden=None)


def detached(output):
    return output.detach()


def as_it_is(output):
    return output


def cloned(output):
    return output.detach().clone()


def register(maps, module, name, keep=detached, forward=nn.Module.register_forward_hook):
    """Store under ``name`` what ``keep`` makes of each output of the module."""
    forward(module, lambda _, inputs, output: maps.__setitem__(name, keep(output)))


def seen_before_the_layer(module, hook):
    return module.register_forward_pre_hook(lambda module, inputs: hook(module, inputs, inputs[0]))


@claim(
    "pytorch-notes/forward-hook-captures-layer-output",
    finding="To the bit, for any number of images.",
    controls=[override("a hook before the layer", forward=seen_before_the_layer)],
)
@settings(max_examples=10)
@example(n=1, seed=0, forward=nn.Module.register_forward_hook)
@given(n=st.integers(1, 4), seed=SEEDS, forward=st.just(nn.Module.register_forward_hook))
def test_the_hooks_store_what_the_convolutions_return(n, seed, forward):
    with seeded(seed):
        model, maps = network().eval(), {}
    register(maps, model.get_submodule(CONV1), "conv1", forward=forward)
    register(maps, model.get_submodule(CONV2), "conv2", forward=forward)
    with torch.no_grad():
        images = mnist(train=False)[:n].scaled
        model(images)
        assert maps["conv1"].shape == (n, 16, 28, 28)
        assert maps["conv2"].shape == (n, 32, 14, 14)
        assert torch.equal(maps["conv1"], model.features[:1](images))
        assert torch.equal(maps["conv2"], model.features[:4](images))


@claim(
    "pytorch-notes/captured-maps-are-post-relu",
    verdict=REFUTED,
    finding="The hook sits on the convolution, before ReLU: in the trained networks about half of the stored values of "
    "conv1 are negative (0.41 to 0.58), and two thirds to three quarters of those of conv2. A hook on a module nn.ReLU "
    "stores what ReLU activated.",
    controls=[override("hooks on the ReLU", conv1=RELU1, conv2="features.4")],
)
def test_the_stored_maps_are_those_before_relu(learn, evidence, conv1=CONV1, conv2=CONV2):
    digits = mnist(train=False)[:100].scaled

    def stored(model):
        maps = {}
        for name, layer in (("conv1", conv1), ("relu1", RELU1), ("conv2", conv2)):
            register(maps, model.get_submodule(layer), name)
        with torch.no_grad():
            model(digits)
        return maps

    passes = [stored(model) for model in learn().networks]
    shares = {name: torch.stack([(maps[name] < 0).float().mean() for maps in passes]) for name in ("conv1", "conv2")}
    evidence.compare("share of negative values in the stored maps of trained networks", shares)
    assert all(torch.equal(maps["conv1"].relu(), maps["relu1"]) for maps in passes)
    assert shares["conv1"].mean() > 0.15
    assert shares["conv2"].mean() > 0.5


def leaky(x):
    return functional.leaky_relu(x)


def halved(x):
    return relu(x) / 2


@claim(
    "pytorch-notes/relu-suppresses-negatives-only",
    finding="To the bit, in every floating dtype and memory layout.",
    controls=[replace("torch.relu", leaky), replace("torch.relu", halved)],
)
@example(x=torch.tensor([-1.0, 0.0, 2.0]))
@given(x=strided(tensors(shapes(), dtypes(integer=False))))
def test_relu_keeps_the_positive_and_makes_zero_of_the_rest(x):
    y = torch.relu(x)
    assert y.dtype == x.dtype
    assert torch.equal(y[x > 0], x[x > 0])
    assert (y[x <= 0] == 0).all()


class EveryPass(dict):
    """Keeps what comes first under a name."""

    def __setitem__(self, name, maps):
        self.setdefault(name, maps)


@claim(
    "pytorch-notes/hook-dict-keeps-only-latest-forward",
    finding="One entry a layer, whatever the number of passes and of images in each.",
    controls=[override("the first is kept", dictionary=EveryPass)],
)
@settings(max_examples=10)
@given(batches=st.lists(st.integers(1, 3), min_size=2, max_size=4), seed=SEEDS, dictionary=st.just(dict))
def test_each_pass_overwrites_the_maps_of_the_one_before(batches, seed, dictionary):
    with seeded(seed):
        layer, maps = nn.Conv2d(1, 4, 3, padding=1), dictionary()
        images = [torch.rand(n, 1, 9, 9) for n in batches]
    register(maps, layer, "conv1")
    outputs = [layer(x) for x in images]
    assert list(maps) == ["conv1"]
    assert torch.equal(maps["conv1"], outputs[-1])
    assert not any(torch.equal(maps["conv1"], earlier) for earlier in outputs[:-1])


def replacing_what_was_there(module, hook):
    module._forward_hooks.clear()
    return module.register_forward_hook(hook)


@claim(
    "pytorch-notes/registering-hooks-twice-fires-twice",
    finding="A hook is never replaced: run n times, the code makes n calls of each forward pass. The dictionary looks "
    "the same, and so nobody notices. What register_forward_hook returns has remove().",
    controls=[override("the last one replaces the others", forward=replacing_what_was_there)],
)
@example(times=2, passes=1, forward=nn.Module.register_forward_hook)
@given(times=st.integers(2, 5), passes=st.integers(1, 3), forward=st.just(nn.Module.register_forward_hook))
def test_every_registration_adds_a_call_to_each_pass(times, passes, forward):
    layer, calls = nn.Conv2d(1, 2, 3), []
    handles = [forward(layer, lambda *_: calls.append("called")) for _ in range(times)]
    for _ in range(passes):
        layer(torch.ones(1, 1, 5, 5))
    assert len(calls) == times * passes
    handles[0].remove()
    layer(torch.ones(1, 1, 5, 5))
    assert len(calls) == times * passes + times - 1


@claim(
    "pytorch-notes/detach-protects-the-stored-map",
    verdict=REFUTED,
    finding="The detached tensor has the same memory: an in-place ReLU after the layer removes the negative values "
    "from the stored map too. Out of place, as the document has it, nothing changes; detach().clone() is always safe.",
    controls=[override("a clone is kept", keep=cloned), override("ReLU out of place", inplace=False)],
)
@settings(max_examples=10)
@given(seed=SEEDS, keep=st.just(detached), inplace=st.just(True))
def test_an_in_place_operation_changes_the_detached_map(seed, keep, inplace):
    with seeded(seed):
        layer, images = nn.Conv2d(1, 4, 3), torch.randn(2, 1, 9, 9)
    maps = {}
    register(maps, layer, "detached", keep)
    register(maps, layer, "cloned", cloned)
    output = layer(images)
    assert maps["detached"].min() < 0
    functional.relu(output, inplace=inplace)
    assert maps["cloned"].min() < 0
    assert torch.equal(maps["detached"], maps["cloned"].relu())


@claim(
    "pytorch-notes/detach-needed-only-outside-no-grad",
    finding="Under no_grad the output hangs on no graph, and detached or not the stored map is the same. With "
    "gradients on the undetached one keeps the graph of the pass alive, back to the weights.",
    controls=[
        override("gradients stay on", guard=torch.enable_grad),
        override("detached all the same", undetached=detached),
    ],
)
@settings(max_examples=10)
@given(seed=SEEDS, guard=st.just(torch.no_grad), undetached=st.just(as_it_is))
def test_detaching_changes_the_stored_map_only_where_gradients_are_on(seed, guard, undetached):
    with seeded(seed):
        layer, images = nn.Conv2d(1, 4, 3), torch.randn(2, 1, 9, 9)
    maps = {}
    register(maps, layer, "detached", detached)
    register(maps, layer, "as it is", undetached)

    def stored():
        layer(images)
        assert torch.equal(maps["detached"], maps["as it is"])
        return [(kept.requires_grad, kept.grad_fn is None) for kept in maps.values()]

    with guard():
        assert stored() == [(False, True)] * 2
    assert stored() == [(False, True), (True, False)]
    assert {id(leaf) for leaf in graph_leaves(maps["as it is"])} == {id(layer.weight), id(layer.bias)}


def with_a_batch_dimension(image):
    return image.unsqueeze(0)


@claim(
    "pytorch-notes/unsqueeze-needed-for-single-image",
    finding="The convolutions take (1, 28, 28), and the hooks store (16, 28, 28) and (32, 14, 14). But view(x.size(0), "
    "-1) then makes 32 rows of 49, which the linear layer refuses.",
    controls=[override("unsqueezed", single=with_a_batch_dimension)],
)
@settings(max_examples=5)
@given(index=st.integers(0, 1999), single=st.just(as_it_is))
def test_the_linear_layer_refuses_an_image_without_a_batch_dimension(index, single):
    model, maps, image = network(), {}, mnist(train=False)[index : index + 1].scaled[0]
    layers = nn.Sequential(*model.features, nn.Flatten(), *model.classifier)
    register(maps, model.get_submodule(CONV2), "conv2")
    error = error_of(layers, single(image))
    assert isinstance(error, RuntimeError)
    assert "32x49 and 1568x10" in str(error)
    assert maps["conv2"].shape == (32, 14, 14)
    assert layers(image.unsqueeze(0)).shape == (1, 10)
    assert_close(maps["conv2"], model.features[:4](image[None]))
