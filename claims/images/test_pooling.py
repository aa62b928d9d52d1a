"""Sections 10.2, 10.6, 10.6.2 and 12: what max pooling saves, keeps, and keeps from overfitting."""

import hypothesis.strategies as st
import torch
from hypothesis import example, given
from torch import nn

from fitcore.data import mnist
from fitcore.evaluation.throughput import training_flops
from fitcore.testing import CONDITIONAL, claim, override, replace
from fitcore.testing.strategies import tensors


def seen_by_the_middle(kernel, blocks, pool):
    """Side of the square of pixels that move an output in the middle, after so many convolutions with pooling after."""
    layers = nn.Sequential()
    for _ in range(blocks):
        layers.extend([nn.Conv2d(1, 1, kernel, padding=kernel // 2), pool(2)])
    for parameter in layers.parameters():
        nn.init.ones_(parameter)
    image = torch.ones(1, 1, 96, 96, requires_grad=True)
    outputs = layers(image)[0, 0]
    outputs[len(outputs) // 2, len(outputs) // 2].backward()
    return int((image.grad != 0).any(2).sum())


def no_pooling(size):
    return nn.Identity()


@claim(
    "pytorch-notes/pooling-increases-receptive-field",
    finding="After the two blocks of the network an output sees 10x10 pixels, and without pooling 5x5: after "
    "each pooling a step in the map is twice as many pixels of the image.",
    controls=[override("no pooling", pool=no_pooling)],
)
@example(kernel=3, blocks=2, pool=nn.AvgPool2d)
@given(kernel=st.sampled_from([1, 3, 5]), blocks=st.integers(1, 3), pool=st.just(nn.AvgPool2d))
def test_pooling_doubles_what_each_later_step_adds_to_the_receptive_field(kernel, blocks, pool):
    alone = seen_by_the_middle(kernel, blocks, no_pooling)
    pooled = seen_by_the_middle(kernel, blocks, pool)
    assert alone == 1 + blocks * (kernel - 1)
    assert pooled == 1 + kernel * (2**blocks - 1) > alone


def features(pool, side):
    """The two convolutions of the network, and its linear layer on what is left of an image of this side."""
    maps = nn.Sequential(
        nn.Conv2d(1, 16, 3, padding=1), nn.ReLU(), pool(2), nn.Conv2d(16, 32, 3, padding=1), nn.ReLU(), pool(2)
    )
    size = maps(torch.zeros(1, 1, side, side)).numel()
    return nn.Sequential(maps, nn.Flatten(), nn.Linear(size, 10))


@claim(
    "pytorch-notes/maxpool-shrinks-and-saves-compute",
    finding="28 becomes 14 and then 7, and of the operations, forward and backward, 25 % remain: a quarter in "
    "the second convolution and a sixteenth in the linear layer. The first stands before any pooling and costs the "
    "same.",
    controls=[override("no pooling", pool=no_pooling)],
)
@example(quarter=7, pool=nn.MaxPool2d)
@given(quarter=st.integers(1, 9), pool=st.just(nn.MaxPool2d))
def test_pooling_leaves_a_quarter_of_the_second_convolution_and_a_sixteenth_of_the_last(quarter, pool, evidence):
    side = 4 * quarter
    pooled, unpooled = features(pool, side), features(no_pooling, side)
    image = torch.zeros(1, 1, side, side)
    assert pooled[0][:3](image).shape[2:] == (side // 2, side // 2)
    assert pooled[0](image).shape[2:] == (quarter, quarter)
    with torch.no_grad():
        maps = torch.zeros(1, 16, side, side)
    second = training_flops(unpooled[0][3], maps) / training_flops(pooled[0][3], maps[..., ::2, ::2])
    assert second == 4
    assert unpooled[2].in_features == 16 * pooled[2].in_features
    ratio = training_flops(pooled, image) / training_flops(unpooled, image)
    evidence.observe("operations with pooling, as a share of those without", ratio)
    assert ratio < 0.35


def mean_of_each_window(x, kernel_size, *_, **__):
    return nn.functional.avg_pool2d(x, kernel_size)


@claim(
    "pytorch-notes/maxpool-keeps-the-important-features",
    verdict=CONDITIONAL,
    finding="Kept is the largest value of each window, and nothing else: the other three may be anything below it.",
    controls=[replace("torch.nn.functional.max_pool2d", mean_of_each_window, "the mean of each window")],
)
@given(maps=tensors((1, 2, 6, 6)), darker=tensors((1, 2, 6, 6), elements=st.integers(0, 9)))
def test_max_pooling_keeps_the_largest_value_of_each_window_alone(maps, darker):
    pooled = nn.MaxPool2d(2)(maps)
    assert torch.equal(pooled, maps.unfold(2, 2, 2).unfold(3, 2, 2).amax((-1, -2)))
    largest = pooled.repeat_interleave(2, 2).repeat_interleave(2, 3) == maps
    assert torch.equal(nn.MaxPool2d(2)(torch.where(largest, maps, maps - darker)), pooled)


def recognised(digits, others, prepare):
    """Share of the digits ``others`` whose nearest neighbour among ``digits`` is of the same class."""
    known, asked = (prepare(images.scaled).flatten(1) for images in (digits, others))
    return (digits.labels[torch.cdist(asked, known).argmin(1)] == others.labels).float().mean().item()


@claim(
    "pytorch-notes/maxpool-keeps-the-important-features",
    verdict=CONDITIONAL,
    finding="The largest value is the important one where features are bright on dark, as after ReLU: of digits pooled "
    "2x2 a nearest neighbour recognises 89 %, as at full size (88 %), but 72 % if the strokes are dark on bright. The "
    "mean of each window keeps 88 % both times.",
    controls=[replace("torch.nn.functional.max_pool2d", mean_of_each_window, "the mean of each window")],
)
def test_max_pooling_keeps_bright_strokes_and_loses_dark_ones(data_root, evidence):
    digits, others = mnist(data_root)[:1000], mnist(data_root, train=False)[:500]
    pool = nn.MaxPool2d(2)
    shares = {
        "all pixels": recognised(digits, others, nn.Identity()),
        "bright strokes, pooled": recognised(digits, others, pool),
        "dark strokes, pooled": recognised(digits, others, lambda images: pool(1 - images)),
        "mean of each window": recognised(digits, others, nn.AvgPool2d(2)),
    }
    evidence.table("share of 500 digits recognised", [{"what is kept": k, "share": v} for k, v in shares.items()])
    full, bright, dark, mean = shares.values()
    assert bright > full - 0.03
    assert dark < full - 0.08
    assert mean > dark + 0.08


def without_pooling():
    return features(no_pooling, 12)


POOLED = {"copies": 5, "digits": 150}
UNPOOLED = POOLED | {"network": without_pooling}


@torch.no_grad()
def gaps(learned):
    """By how much the cross-entropy of each copy is larger on digits that none has seen than on its own, (copies,)."""
    loss = nn.functional.cross_entropy
    of_own = [loss(net(x), y) for net, x, y in zip(learned.networks, learned.x, learned.y, strict=True)]
    of_others = [loss(net(learned.test_x), learned.test_y) for net in learned.networks]
    return torch.stack(of_others) - torch.stack(of_own)


@claim(
    "pytorch-notes/pooling-prevents-overfitting",
    finding="From 150 digits of 12x12 pixels, all of them learned without pooling and 98 or 99 % with it, the network "
    "recognises 82 % of others with it and 81 % without, and the gap between the losses is half as wide, 0.5 instead "
    "of 1.1. (At full size, 28x28 and 40 epochs at 0.001, it was 86 and 84 %, measured once, apart.)",
    controls=[override("no pooling in either", pooled=UNPOOLED)],
)
def test_pooling_narrows_the_gap_of_networks_that_know_their_digits_by_heart(learn_by_heart, evidence, pooled=POOLED):
    arms = {"with pooling": learn_by_heart(**pooled), "without": learn_by_heart(**UNPOOLED)}
    training = {name: of.training_accuracies for name, of in arms.items()}
    test = {name: of.accuracies() for name, of in arms.items()}
    of_losses = {name: gaps(of) for name, of in arms.items()}
    evidence.compare("share of test digits recognised", test)
    evidence.compare("share of training digits", training)
    evidence.compare("loss on test digits - loss on training digits", of_losses)
    assert min(shares.mean() for shares in training.values()) > 0.95
    assert of_losses["with pooling"].mean() < of_losses["without"].mean()
