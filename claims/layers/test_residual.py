"""Section 5.3.3: the residual block, and the network built of it."""

from itertools import accumulate, pairwise

import hypothesis.strategies as st
import torch
from hypothesis import example, given, settings
from torch import nn
from torch.nn.functional import cross_entropy, relu
from torch.testing import assert_close

from fitcore.data import cifar10
from fitcore.evaluation.memory import allocated_bytes
from fitcore.models import ResidualBlock, ResidualNetwork, number_of_parameters
from fitcore.seeding import seeded
from fitcore.testing import CONDITIONAL, claim, error_of, override
from fitcore.testing.strategies import shapes, tensors

channels, seeds = st.integers(1, 4), st.integers(0, 2**32 - 1)


@claim(
    "pytorch-notes/empty-sequential-is-the-identity",
    finding="It returns the very object that it was given, so that the gradient passes untouched too.",
    controls=[override("not quite empty", shortcut=nn.Sequential(nn.ReLU()))],
)
@example(x=torch.tensor([-1.0], requires_grad=True), shortcut=nn.Sequential())
@given(x=tensors(shapes(min_side=0), requires_grad=True), shortcut=st.just(nn.Sequential()))
def test_an_empty_sequential_returns_its_input_itself(x, shortcut):
    assert shortcut(x) is x
    assert not list(shortcut.parameters())
    (gradient,) = torch.autograd.grad(shortcut(x).sum(), x)
    assert torch.equal(gradient, torch.ones_like(x))


def branch(block, x):
    return block.bn2(block.conv2(relu(block.bn1(block.conv1(x)))))


def added_in_place(block, x):
    residual = block.shortcut(x)
    x = branch(block, x)
    x += residual
    return relu(x)


def always_projected(in_channels, out_channels, stride):
    block = ResidualBlock(in_channels, out_channels, stride)
    block.shortcut = nn.Sequential(nn.Conv2d(in_channels, out_channels, 1, stride), nn.BatchNorm2d(out_channels))
    return block


def never_projected(in_channels, out_channels, stride):
    block = ResidualBlock(in_channels, out_channels, stride)
    block.shortcut = nn.Sequential()
    return block


@claim(
    "pytorch-notes/shortcut-conv-only-if-stride-or-channels-change",
    finding="Those are the blocks that need layers there: an identity could not be added to a branch of another shape. "
    "A single input channel could, silently, for it broadcasts.",
    controls=[
        override("a projection everywhere", make=always_projected),
        override("a projection nowhere", make=never_projected),
    ],
)
@example(in_channels=2, out_channels=2, stride=1, make=ResidualBlock)
@example(in_channels=2, out_channels=3, stride=1, make=ResidualBlock)
@given(in_channels=channels, out_channels=channels, stride=st.integers(1, 3), make=st.just(ResidualBlock))
def test_the_shortcut_has_layers_where_the_block_changes_the_shape(in_channels, out_channels, stride, make):
    changes = stride != 1 or in_channels != out_channels
    assert [type(layer) for layer in make(in_channels, out_channels, stride).shortcut] == (
        [nn.Conv2d, nn.BatchNorm2d] if changes else []
    )
    identity = never_projected(in_channels, out_channels, stride)
    added = error_of(added_in_place, identity, torch.zeros(2, in_channels, 9, 9))
    assert (added is None) == (stride == 1 and in_channels in (1, out_channels))


def never_strided(in_channels, out_channels, stride):
    return ResidualBlock(in_channels, out_channels)


@claim(
    "pytorch-notes/residual-block-output-shape",
    finding="So it is for any channels; sides that are odd are rounded up.",
    controls=[override("a stride of 1 in its place", make=never_strided)],
)
@example(in_channels=2, out_channels=4, stride=2, sides=(16, 16), make=ResidualBlock)
@given(
    in_channels=channels,
    out_channels=channels,
    stride=st.integers(1, 2),
    sides=st.tuples(st.integers(1, 20), st.integers(1, 20)),
    make=st.just(ResidualBlock),
)
def test_a_block_keeps_the_size_at_stride_1_and_halves_it_at_stride_2(in_channels, out_channels, stride, sides, make):
    output = make(in_channels, out_channels, stride)(torch.zeros(2, in_channels, *sides))
    assert output.shape == (2, out_channels, *(-(-side // stride) for side in sides))


def added_to_the_shortcut(block, x):
    residual = block.shortcut(x)
    residual += branch(block, x)
    return relu(residual)


@claim(
    "pytorch-notes/in-place-residual-addition-is-safe",
    finding="x is by then the output of the batch normalisation, which keeps its input for backward, not its output. "
    "Were the last layer a ReLU, backward would refuse the same addition; onto the shortcut it would change the input.",
    controls=[override("added to the shortcut", forward=added_to_the_shortcut)],
)
@settings(max_examples=12)
@example(in_channels=2, out_channels=2, stride=1, training=True, seed=0, forward=added_in_place)
@given(
    in_channels=channels,
    out_channels=channels,
    stride=st.integers(1, 2),
    training=st.booleans(),
    seed=seeds,
    forward=st.just(added_in_place),
)
def test_the_addition_in_place_leaves_input_and_gradients_alone(
    *, in_channels, out_channels, stride, training, seed, forward
):
    with seeded(seed):
        block, values = ResidualBlock(in_channels, out_channels, stride), torch.randn(2, in_channels, 5, 5)
    block.train(training)
    x = values.clone().requires_grad_()
    wanted = (x, *block.parameters())
    expected = torch.autograd.grad(block(x).square().sum(), wanted)
    fed = x.clone()
    loss = forward(block, fed).square().sum()
    assert torch.equal(fed, values)
    assert_close(torch.autograd.grad(loss, wanted), expected, rtol=0, atol=0)
    block.bn2 = nn.ReLU()
    refused = error_of(added_in_place(block, x).sum().backward)
    assert "modified by an inplace operation" in str(refused)


def with_a_zero_branch(block):
    nn.init.zeros_(block.bn2.weight)
    nn.init.zeros_(block.bn2.bias)
    return block


def as_it_is(block):
    return block


@claim(
    "pytorch-notes/residual-block-with-zero-branch-is-relu",
    finding="To the bit, in training as in evaluation; a block with a projection has to learn even that.",
    controls=[override("a branch that isn't zero", silenced=as_it_is)],
)
@given(width=channels, training=st.booleans(), seed=seeds, silenced=st.just(with_a_zero_branch))
def test_a_block_with_a_zero_branch_computes_relu(width, training, seed, silenced):
    with seeded(seed):
        x, block, projected = (
            torch.randn(2, width, 5, 5),
            ResidualBlock(width, width),
            always_projected(width, width, 1),
        )
    assert torch.equal(silenced(block).train(training)(x), relu(x))
    assert not torch.equal(with_a_zero_branch(projected).train(training)(x), relu(x))


NARROW = (2, 3, 4)


def not_pooled(**settings):
    network = ResidualNetwork(**settings)
    network.maxpool = nn.Identity()
    return network


@claim(
    "pytorch-notes/resnet-runs-on-imagenet-size",
    controls=[override("no pooling after the first convolution", make=not_pooled)],
)
def test_feature_maps_of_an_imagenet_picture(evidence, make=ResidualNetwork):
    with torch.inference_mode():
        names, layers = zip(*make().eval().named_children(), strict=True)
        maps = list(accumulate(layers, lambda x, layer: layer(x), initial=torch.empty(1, 3, 224, 224)))[1:]
    sides = {name: tuple(x.shape) for name, x in zip(names, maps, strict=True)}
    evidence.table("outputs", [{"layer": name, "shape": " × ".join(map(str, sides[name]))} for name in names])
    assert sides["conv"] == (1, 64, 112, 112)
    assert sides["maxpool"] == sides["stage1"] == (1, 64, 56, 56)
    assert (sides["stage2"], sides["stage3"]) == ((1, 128, 28, 28), (1, 256, 14, 14))
    assert (sides["avgpool"], sides["fc"]) == ((1, 256, 1, 1), (1, 10))


def averaged_over_2x2():
    network = ResidualNetwork(widths=NARROW)
    network.avgpool = nn.AvgPool2d(2)
    return network


@claim(
    "pytorch-notes/resnet-accepts-any-image-size",
    verdict=CONDITIONAL,
    finding="In evaluation any size will do, from a single pixel on. In training a batch of one image of at most 16x16 "
    "fails: its last maps are one pixel, of which BatchNorm can take no variance.",
    controls=[override("the average over a fixed window", make=averaged_over_2x2)],
)
@settings(max_examples=15)
@example(n=1, sides=(1, 1), make=lambda: ResidualNetwork(widths=NARROW))
@example(n=1, sides=(16, 17), make=lambda: ResidualNetwork(widths=NARROW))
@example(n=2, sides=(16, 16), make=lambda: ResidualNetwork(widths=NARROW))
@given(
    n=st.integers(1, 2),
    sides=st.tuples(st.integers(1, 40), st.integers(1, 40)),
    make=st.just(lambda: ResidualNetwork(widths=NARROW)),
)
def test_images_of_any_size_are_accepted_but_not_one_alone_of_16_pixels_in_training(n, sides, make):
    network, images = make(), torch.zeros(n, 3, *sides)
    assert error_of(network.eval(), images) is None
    assert network(images).shape == (n, 10)
    refused = error_of(network.train(), images)
    assert (refused is not None) == (n == 1 and max(sides) <= 16)
    assert refused is None or "more than 1 value per channel when training" in str(refused)


def of_identity_shortcuts():
    network = ResidualNetwork()
    for block in (*network.stage1, *network.stage2, *network.stage3):
        block.shortcut = nn.Sequential()
    return network


@claim(
    "pytorch-notes/resnet-listing-runs",
    finding="As printed, on four photographs of 32x32 pixels; the gradient reaches every parameter.",
    controls=[override("identity shortcuts everywhere", make=of_identity_shortcuts)],
    trials=1,
)
def test_the_network_maps_photographs_to_ten_values_and_learns_in_all_its_parameters(
    trials, data_root, make=ResidualNetwork
):
    photographs = cifar10(data_root)[:4]

    def reached(seed):
        network = make()
        assert error_of(network, photographs.scaled) is None
        outputs = network(photographs.scaled)
        assert outputs.shape == (4, 10)
        cross_entropy(outputs, photographs.labels).backward()
        return torch.stack([parameter.grad.abs().sum() > 0 for parameter in network.parameters()])

    trials.always(trials.map(reached).all(1), name="every parameter has a gradient")


def of_one_block():
    network = ResidualNetwork()
    network.stage1 = nn.Sequential(network.stage1[0], network.stage1[0])
    return network


@claim(
    "pytorch-notes/resnet-reuses-the-block-class-not-its-weights",
    finding="Six blocks in memory of their own; no two layers start from equal weights.",
    controls=[override("one block twice", make=of_one_block)],
    trials=3,
)
def test_six_blocks_have_weights_of_their_own(trials, make=ResidualNetwork):
    def shares_nothing(seed):
        network = make()
        blocks = [block for stage in (network.stage1, network.stage2, network.stage3) for block in stage]
        weights = [parameter for block in blocks for parameter in block.parameters()]
        first, second = (block.conv2.weight for block in network.stage1)
        return len(blocks), allocated_bytes(*weights) == sum(w.nbytes for w in weights), not torch.equal(first, second)

    count, apart, distinct = trials.map(shares_nothing).T
    trials.always(count == 6, name="six blocks")
    trials.always(apart == 1, name="no memory in common")
    trials.always(distinct == 1, name="weights that differ")


def of_convolution(fan_in, fan_out, kernel):
    return fan_in * fan_out * kernel**2 + fan_out


def of_block(before, width, projected):
    projection = of_convolution(before, width, 1) + 2 * width
    return of_convolution(before, width, 3) + of_convolution(width, width, 3) + 4 * width + projected * projection


def of_network(widths, blocks, classes):
    first = [of_block(widths[0], widths[0], False), *(of_block(*pair, True) for pair in pairwise(widths))]
    further = [(blocks - 1) * of_block(width, width, False) for width in widths]
    ends = of_convolution(3, widths[0], 7) + 2 * widths[0] + (widths[-1] + 1) * classes
    return ends + sum(first) + sum(further)


@claim(
    "pytorch-notes/resnet-has-2787594-parameters",
    finding="Counted, and as the sum of i·o·k² + o of each convolution, 2o of each normalisation and 257 · 10 in the "
    "end. The formula holds for other widths, blocks and classes too.",
    controls=[override("convolutions without biases", bias=False)],
)
@settings(max_examples=8)
@example(widths=[64, 128, 256], blocks=2, classes=10, bias=True)
@given(
    widths=st.lists(channels, min_size=1, max_size=3),
    blocks=st.integers(1, 3),
    classes=st.integers(1, 10),
    bias=st.just(True),
)
def test_the_number_of_parameters_follows_from_the_widths(evidence, widths, blocks, classes, bias):
    network = ResidualNetwork(3, classes, widths, blocks, bias=bias)
    assert number_of_parameters(network) == of_network(widths, blocks, classes)
    expected = of_network([64, 128, 256], blocks=2, classes=10)
    assert evidence.figure("parameters", reported=2_787_594, measured=expected, tolerance=0)
