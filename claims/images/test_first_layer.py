"""Section 13.1: what the kernels of conv1 respond to, before and after training, and why some maps are black."""

import math

import hypothesis.strategies as st
import torch
from hypothesis import given
from torch import nn
from torch.nn import functional

from fitcore.evaluation.feature_maps import feature_maps, tiled
from fitcore.testing import CONDITIONAL, REFUTED, claim, override
from fitcore.testing.strategies import tensors


def conv1_of(networks):
    """Kernels (copies, 16, 9) and biases (copies, 16) of the first layer."""
    layers = [network.features[0] for network in networks]
    return torch.stack([layer.weight.detach().flatten(1) for layer in layers]), torch.stack(
        [layer.bias.detach() for layer in layers]
    )


def before_training(learned):
    return [learned.fresh.module(copy) for copy in range(len(learned.fresh))]


def windows(images):
    """The 3x3 pixels round each pixel of images (n, 1, height, width): (n · height · width, 9)."""
    return functional.unfold(images, 3, padding=1).transpose(1, 2).flatten(0, 1)


def places(images):
    """Where images are blank, filled (with ink all round), on a straight edge or stroke, or on a corner or end.

    By the eigenvalues λ1 >= λ2 of the structure tensor (Harris and Stephens 1988): one is large on an edge, two on a
    corner.
    """
    sobel = torch.tensor([[-1.0, 0.0, 1.0], [-2.0, 0.0, 2.0], [-1.0, 0.0, 1.0]]) / 8
    dx, dy = functional.conv2d(images, torch.stack([sobel, sobel.T])[:, None], padding=1).unbind(1)
    xx, xy, yy = (functional.avg_pool2d(product, 3, 1, 1).flatten() for product in (dx * dx, dx * dy, dy * dy))
    half, root = (xx + yy) / 2, (((xx - yy) / 2) ** 2 + xy**2).sqrt()
    strong, ratio = half + root > 0.02, (half - root) / (half + root).clamp(min=1e-6)
    pixels = windows(images)
    filled = pixels.amin(1) > 0.9
    return {
        "blank": pixels.amax(1) == 0,
        "straight": strong & (ratio < 0.2) & ~filled,
        "corner": strong & (ratio > 0.4) & ~filled,
        "filled": filled,
    }


def as_it_is(kernels):
    return kernels


def without_mean(kernels):
    return kernels - kernels.mean(-1, keepdim=True)


@claim(
    "pytorch-notes/conv1-maps-show-edges-lines-corners",
    verdict=CONDITIONAL,
    finding="Against the blank ground they do: there a map is even, and edges, strokes and corners stand out. "
    "Against the ink they don't: where all nine pixels are filled, without any edge, the answer of the trained kernels "
    "is about twice that at edges, larger in some 84 % of the channels. What a map shows is the ink, more than its "
    "outline. So do untrained networks; kernels that sum to zero would show edges alone.",
    controls=[override("kernels that sum to zero", kernels_of=without_mean)],
)
def test_conv1_tells_strokes_from_the_ground_but_answers_most_to_solid_ink(learn, evidence, kernels_of=as_it_is):
    learned = learn()
    networks, digits = learned.networks, learned.test_x[:100]
    pixels, where = windows(digits), places(digits)

    def answers(kernels):
        """Mean distance of a map from its value on blank ground, (copies, 16), by place."""
        return {name: (pixels[mask] @ kernels.mT).abs().mean(1) for name, mask in where.items()}

    trained = answers(kernels_of(conv1_of(networks)[0]))
    untrained = answers(kernels_of(conv1_of(before_training(learned))[0]))
    evidence.compare("mean answer of a channel, trained", trained)
    evidence.compare("mean answer of a channel, untrained", untrained)
    (maps,) = feature_maps(networks[0], digits[:1], ["features.0"])
    shown = tiled(torch.cat([digits[0], maps[0]]), 17, 28)
    evidence.image("a digit, and what conv1 of a trained network makes of it", shown)
    assert not trained["blank"].any()
    assert min(trained["straight"].mean(), trained["corner"].mean()) > 0.2
    for of_kernels in (trained, untrained):
        assert of_kernels["filled"].mean() > 1.2 * of_kernels["straight"].mean()
        assert (of_kernels["filled"] > of_kernels["straight"]).float().mean() > 0.5
    zero_sum = answers(without_mean(conv1_of(networks)[0]))
    assert (zero_sum["straight"] > 3 * zero_sum["filled"]).float().mean() > 0.8


def edges_and_lines():
    """Kernels of unit length for gradients in eight directions and for lines in four, (12, 9)."""
    y, x = torch.meshgrid(*[torch.arange(-1.0, 2.0)] * 2, indexing="ij")
    gradients = [x * math.cos(angle) + y * math.sin(angle) for angle in torch.arange(8) * math.pi / 8]
    upright, slanting = torch.tensor([[-1.0, 2.0, -1.0]] * 3), 3 * torch.eye(3) - 1
    lines = [upright, upright.T, slanting, slanting.flip(0)]
    return functional.normalize(torch.stack(gradients + lines).flatten(1), dim=1)


def handmade(kernels):
    """Sixteen of the edge and line kernels in place of the learned ones."""
    return edges_and_lines().repeat(2, 1)[: kernels.shape[1]].expand_as(kernels)


@claim(
    "pytorch-notes/training-makes-conv1-edge-detectors",
    verdict=REFUTED,
    finding="Training turns them only a little way: after three epochs on 1,000 digits the mean cosine of a kernel "
    "before and after is 0.94, after five on 8,000 it was 0.89 (measured once, apart). The best |cosine| with a "
    "gradient or a line, 0.57 to 0.62 for random kernels, becomes 0.58 to 0.63; an edge detector would have close to "
    "1. What grows more is the share of the plain sum, which an edge detector does not have: 0.10 to 0.12 of a "
    "kernel's square before, and 0.16 to 0.22 after.",
    controls=[override("handmade edge and line kernels", kernels_of=handmade)],
)
def test_trained_kernels_resemble_edges_and_lines_hardly_more_than_random_ones(learn, evidence, kernels_of=as_it_is):
    learned = learn()
    kernels = {
        "before": conv1_of(before_training(learned))[0],
        "after": kernels_of(conv1_of(learned.networks)[0]),
    }
    unit = {when: functional.normalize(w, dim=-1) for when, w in kernels.items()}
    likeness = {when: (w @ edges_and_lines().T).abs().amax(-1) for when, w in unit.items()}
    plain = {when: 9 * w.mean(-1) ** 2 for when, w in unit.items()}
    evidence.compare("best |cosine| of a kernel with an edge or a line", likeness)
    evidence.compare("share of a kernel's square in its mean", plain)
    evidence.image("the kernels after training: a network a row", tiled(0.5 + unit["after"].view(-1, 3, 3), 16, 24))
    assert (unit["before"] * unit["after"]).sum(-1).mean() > 0.85
    assert likeness["after"].mean() < 0.7
    assert likeness["after"].mean() - likeness["before"].mean() < 0.08
    assert plain["after"].mean() > plain["before"].mean() + 0.02


def threshold_of_nothing(answers, biases):
    return answers + biases


def threshold_of_the_favourites(answers, biases):
    """Only the strongest hundredth stays above zero."""
    return answers - answers.quantile(0.99, dim=0)


@claim(
    "pytorch-notes/each-channel-attends-to-one-shape",
    verdict=CONDITIONAL,
    finding="Each has a favourite: the hundredth of fifty digits' patches to which a trained channel answers strongest "
    "are alike, with a mean cosine of 0.93 (all patches: 0.52). But not only that: its map is above zero at 59 to 67 % "
    "of the patches, and at 27 to 39 % of those unlike its favourite (cosine below 0.5).",
    controls=[override("a threshold that only favourites pass", shown=threshold_of_the_favourites)],
)
def test_a_channel_has_a_favourite_patch_and_answers_to_others_as_well(learn, evidence, shown=threshold_of_nothing):
    learned = learn()
    pixels = windows(learned.test_x[:50])
    patches = pixels[pixels.std(1) > 0.2]
    kernels, biases = (parameter.flatten(0, 1) for parameter in conv1_of(learned.networks))
    answers, directions = patches @ kernels.T, functional.normalize(patches, dim=1)
    favourites = directions[answers.topk(len(patches) // 100, dim=0).indices].mean(0)
    alike = favourites.square().sum(1)  # the mean cosine of all pairs
    unlike = directions @ functional.normalize(favourites, dim=1).T < 0.5
    lit = shown(answers, biases) > 0
    of_unlike = (lit & unlike).sum(0) / unlike.sum(0)
    evidence.observe("mean cosine among the patches that a channel answers to strongest", alike)
    evidence.compare(
        "share of patches at which a map is above zero",
        {"all": lit.float().mean(0), "unlike the favourite": of_unlike},
    )
    assert alike.mean() > directions.mean(0).square().sum() + 0.3
    assert lit.float().mean() > 0.4
    assert of_unlike.mean() > 0.1


def unresponsive(kernels):
    """A filter whose map would be black stops answering: what is black then is insensitive."""
    return kernels * 0


def dark_and_answer(layer, digit, black_ones=as_it_is):
    """Whether each map of a digit is shown black, and its mean distance from its value on blank ground, (2, 16)."""
    with torch.no_grad():
        black = (255 * layer(digit)).amax((0, 2, 3)) < 1
        kernels = layer.weight.flatten(1)
        kernels = torch.where(black[:, None], black_ones(kernels), kernels)
        return torch.stack([black.float(), (windows(digit) @ kernels.T).abs().mean(0)])


@claim(
    "pytorch-notes/insensitive-filters-give-all-black-maps",
    verdict=CONDITIONAL,
    finding="Black maps there are: of a 7 in 70 to 76 % of the networks before training, one map in thirteen, and "
    "training, which turns the kernels little, makes no more of them. But black does not mean insensitive: these "
    "filters answer no less strongly than the others, but downwards, which the display cuts off. The one that answers "
    "least is another in nine networks of ten.",
    controls=[override("black ones that don't answer", black_ones=unresponsive)],
    trials=400,
)
def test_black_maps_are_those_of_filters_that_answer_downwards(trials, learn, evidence, black_ones=as_it_is):
    learned = learn()
    digit = learned.test_x[learned.test_y == 7][:1]
    drawn = trials.map(lambda _: dark_and_answer(nn.Conv2d(1, 16, 3, padding=1), digit, black_ones))
    black, strength = drawn[:, 0] == 1, drawn[:, 1] / drawn[:, 1].mean(1, keepdims=True)
    untrained = [learned.fresh.module(copy) for copy in range(len(learned.fresh))]
    before, after = (
        torch.stack([dark_and_answer(network.features[0], digit)[0] for network in networks])
        for networks in (untrained, learned.networks)
    )
    evidence.compare(
        "answer of a filter before training, in that of an average one",
        {"map black": strength[black], "map not black": strength[~black]},
    )
    counts = {"before training": before.sum(1), "after": after.sum(1)}
    evidence.compare("black maps among the sixteen of a network", counts)
    trials.mostly(black.any(1), at_least=0.4, name="a black map in most networks")
    trials.mostly(~black.any(1), at_least=0.05, name="and none in some")
    assert black.mean() < 0.12
    assert after.mean() < before.mean() + 0.1
    assert strength[black].mean() > 0.8
    trials.mostly(~black[range(len(black)), strength.argmin(1)], at_least=0.6, name="the weakest is not black")


@claim(
    "pytorch-notes/insensitive-filters-give-all-black-maps",
    verdict=CONDITIONAL,
    finding="A filter that answers to nothing shows an even grey, its bias, and black only if that is below 1/255.",
    controls=[override("one that answers", kernel=1.0)],
)
@given(
    digit=tensors((1, 1, 8, 8), elements=st.floats(0.5, 1, width=32)),
    bias=st.floats(-0.5, 0.5, width=32),
    kernel=st.just(0.0),
)
def test_a_filter_that_answers_to_nothing_is_as_bright_as_its_bias(digit, bias, kernel):
    weight = torch.full((1, 1, 3, 3), kernel)
    shown = (255 * functional.conv2d(digit, weight, torch.tensor([bias]), padding=1)).clamp(0, 255).to(torch.uint8)
    assert shown.unique().numel() == 1
    assert (shown.max() == 0) == (255 * torch.tensor(bias) < 1)
