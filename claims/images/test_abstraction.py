"""Section 13.1: what the maps of conv2 show of a digit and know of its class, beside those of conv1 and the pixels."""

import torch
from torch import nn
from torch.nn import functional

from fitcore.evaluation.feature_maps import feature_maps, tiled
from fitcore.evaluation.linear_probe import probe_accuracy, reconstruction
from fitcore.testing import CONDITIONAL, REFUTED, claim, override

CONV1, POOL1, CONV2, POOL2 = "features.0", "features.2", "features.3", "features.5"


def as_it_is(network):
    return network


def untrained(learned):
    return [learned.fresh.module(copy) for copy in range(len(learned.fresh))]


def average_of_all(network):
    """Make conv2 average all maps of conv1 over nine pixels, whatever the output channel."""
    with torch.no_grad():
        network.features[3].weight.fill_(1 / 144)
        network.features[3].bias.zero_()
    return network


def unresponsive(network):
    """Make conv2 the same everywhere, whatever the image."""
    with torch.no_grad():
        network.features[3].weight.zero_()
    return network


def handed_on(network):
    """Make each map of conv2 one of conv1's, pooled."""
    with torch.no_grad():
        network.features[3].weight.zero_()
        network.features[3].weight[range(32), [channel % 16 for channel in range(32)], 1, 1] = 1
        network.features[3].bias.zero_()
    return network


def of_both_signs_made_positive(network):
    """Make conv1 and conv2 give no negative value for an image."""
    with torch.no_grad():
        for parameter in network.features.parameters():
            parameter.abs_()
    return network


def features_of(network, images, layers):
    """Their maps in batches, which the cache holds."""
    batches = [feature_maps(network, batch, layers) for batch in images.split(100)]
    return [torch.cat(maps) for maps in zip(*batches, strict=True)]


@torch.no_grad()
def without_pooling(network, images):
    """The maps of conv2 if conv1's were not pooled, (n, 32, 28, 28)."""
    return network.features[3](network.features[:2](images))


def sharpness(maps):
    """Mean squared slope in the maps' variance, enlarged to 28x28 as on a screen; of those that show anything."""
    shown = functional.interpolate(maps.clamp(0, 1), size=(28, 28), mode="bilinear").flatten(0, 1)
    slopes = shown.diff(dim=-1).square().mean((1, 2)) + shown.diff(dim=-2).square().mean((1, 2))
    variances = shown.var((1, 2))
    showing = variances > 1e-6
    return (slopes[showing] / variances[showing]).mean()


def sharpness_by_layer(networks, digits, edit=as_it_is):
    """Of what conv1 and conv2 show, and conv2 without the pooling before it, each (copies,)."""

    def of_a_network(network):
        conv1, conv2 = feature_maps(network, digits, [CONV1, CONV2])
        return {"conv1": conv1, "conv2": conv2, "conv2, nothing pooled": without_pooling(network, digits)}

    passes = [of_a_network(edit(network)) for network in networks]
    return {layer: torch.stack([sharpness(maps[layer]) for maps in passes]) for layer in passes[0]}


@claim(
    "pytorch-notes/conv2-maps-are-coarser",
    finding="Enlarged to the same size, smoothly, the maps of conv2 have a third of the sharpness of conv1's (up to "
    "half after longer training, measured once, apart): they have a quarter of the values. Without the pooling before "
    "it they would be as sharp.",
    controls=[override("without the pooling", second="conv2, nothing pooled")],
)
def test_maps_of_conv2_are_smaller_and_look_blurrier(learn, evidence, second="conv2"):
    learned = learn()
    seven = learned.test_x[learned.test_y == 7][:1]
    conv1, conv2 = feature_maps(learned.networks[0], seven, [CONV1, CONV2])
    evidence.image("conv1 of a trained network", tiled(conv1[0], 16, 28))
    evidence.image("conv2 of the same", tiled(conv2[0], 16, 28))
    sharp = sharpness_by_layer(learned.networks, learned.test_x[:20])
    evidence.compare("sharpness of the maps", {"conv1": sharp["conv1"], "conv2": sharp[second]})
    assert (conv1.shape[2:], conv2.shape[2:]) == ((28, 28), (14, 14))
    assert sharp[second].mean() < 0.6 * sharp["conv1"].mean()


def two_blocks(pool=nn.MaxPool2d):
    return nn.Sequential(nn.Conv2d(1, 16, 3, padding=1), nn.ReLU(), pool(2), nn.Conv2d(16, 32, 3, padding=1))


@claim(
    "pytorch-notes/conv2-features-have-more-dimensions",
    verdict=CONDITIONAL,
    finding="At each place, 32 channels instead of 16. But there are a quarter as many places: 32·14·14 = 6,272 "
    "numbers instead of 16·28·28 = 12,544.",
    controls=[override("nothing pooled in between", pool=nn.Identity)],
)
def test_conv2_has_twice_the_channels_of_conv1_and_half_of_the_numbers(pool=nn.MaxPool2d):
    conv1, conv2 = feature_maps(two_blocks(pool), torch.zeros(1, 1, 28, 28), ["0", "3"])
    assert conv2.shape[1] == 2 * conv1.shape[1]
    assert (conv1.numel(), conv2.numel()) == (12_544, 6_272)


@claim(
    "pytorch-notes/conv2-blur-shows-abstraction",
    verdict=REFUTED,
    finding="It shows the pooling. Networks that have learned nothing blur as much, to 0.25 to 0.30 of conv1's "
    "sharpness (trained: to 0.32 to 0.38). Without the pooling before it the trained conv2 is as sharp as conv1. And "
    "the digit itself, merely shrunk to 14x14, looks as blurred as conv2's maps: 0.34 both.",
    controls=[override("kernels that blur", edit=average_of_all)],
)
def test_the_blur_comes_from_pooling_and_is_there_before_training(learn, evidence, edit=as_it_is):
    learned = learn()
    digits = learned.test_x[:20]
    trained = sharpness_by_layer(learned.networks, digits, edit)
    fresh = sharpness_by_layer(untrained(learned), digits, edit)
    shrunk = sharpness(functional.avg_pool2d(digits, 2))
    evidence.compare("sharpness, trained", trained)
    evidence.compare("sharpness, untrained", fresh)
    evidence.observe("sharpness of the digits shrunk to 14x14", shrunk)
    assert fresh["conv2"].mean() < 0.6 * fresh["conv1"].mean()
    assert trained["conv2, nothing pooled"].mean() > 0.6 * trained["conv1"].mean()
    assert 0.6 < trained["conv2"].mean() / shrunk < 1.6


def overlap(maps, ink):
    """Overlap (intersection over union) of the lit part of each map with the ink, (n, maps), and of all together (n,).

    Lit is what is shown brighter than half the brightest; what all show is the sum.
    """
    shown = torch.cat([maps.clamp(0, 1), maps.clamp(0, 1).sum(1, keepdim=True)], dim=1)
    lit = shown > shown.amax((2, 3), keepdim=True).clamp(min=2 / 255) / 2
    common, either = (lit & ink).sum((2, 3)), (lit | ink).sum((2, 3))
    covered = common[:, -1] / ink.sum((1, 2, 3))
    return (common / either)[:, :-1], covered


@claim(
    "pytorch-notes/later-layer-shows-complete-outline",
    verdict=CONDITIONAL,
    finding="The later layer shows the whole 7, but so does the first, and no worse. What is lit in the best map "
    "overlaps with the ink by 0.81 in conv1 and 0.69 to 0.78 in conv2, in an average map by 0.32 to 0.39 and 0.22 to "
    "0.27 (intersection over union); together the maps cover 90 % of the ink and more in either layer. It is not the "
    "later layer that first puts the strokes together.",
    controls=[override("a second layer that answers to nothing", edit=unresponsive)],
)
def test_a_seven_is_whole_in_the_maps_of_conv2_and_no_less_in_those_of_conv1(learn, evidence, edit=as_it_is):
    learned = learn()
    sevens = learned.test_x[learned.test_y == 7][:40]
    overlaps = {"conv1": [], "conv2": []}
    for network in learned.networks:
        for name, maps in zip(overlaps, feature_maps(edit(network), sevens, [CONV1, CONV2]), strict=True):
            ink = functional.adaptive_max_pool2d(sevens, maps.shape[-1]) > 0.5
            single, covered = overlap(maps, ink)
            overlaps[name].append(torch.stack([single.mean(), single.amax(1).mean(), covered.mean()]))
    (mean1, best1, all1), (mean2, best2, all2) = (torch.stack(of_layer).T for of_layer in overlaps.values())
    evidence.compare("overlap of a map with the 7", {"conv1": mean1, "conv2": mean2})
    evidence.compare("overlap of the best map", {"conv1": best1, "conv2": best2})
    evidence.compare("share of the ink that all maps cover together", {"conv1": all1, "conv2": all2})
    assert best1.mean() + 0.15 > best2.mean() > 0.4
    assert min(all1.mean(), all2.mean()) > 0.7


def found_again(maps, digits):
    """Share of what the maps (n, channels, ...) show that is most like the digit it was made of, as 14x14 pixels."""
    pictures = [functional.adaptive_avg_pool2d(x, 14).flatten(2).transpose(0, 1) for x in (maps.clamp(0, 1), digits)]
    shown, own = (functional.normalize(x - x.mean(-1, keepdim=True), dim=-1) for x in pictures)
    return ((shown @ own.mT).abs().argmax(-1) == torch.arange(len(digits))).float().mean()


@claim(
    "pytorch-notes/conv2-loses-human-readable-shape",
    finding="For one map after the other: what a map of conv1 shows is most like the digit that it was made of, among "
    "100, for about two maps of three, and of conv2 for one of five or of four (one of three if trained on 8,000 "
    "digits, measured once, apart). All maps together still hold the picture: a linear regression gets more than four "
    "fifths of the pixels' variance back from conv1's pooled maps, and of conv2's, pooled to 7x7, 67 to 71 %.",
    controls=[override("conv2 hands the maps of conv1 on", edit=handed_on)],
)
def test_shapes_get_lost_from_conv1_to_conv2(learn, evidence, edit=as_it_is):
    learned = learn()
    networks, digits = [edit(network) for network in learned.networks], learned.test_x[:600]
    maps = [feature_maps(network, digits[:100], [CONV1, CONV2]) for network in networks]
    found = torch.tensor([[found_again(of_layer, digits[:100]) for of_layer in of_network] for of_network in maps]).T
    pooled = [features_of(network, digits, [POOL1, POOL2]) for network in networks[:4]]
    r2 = torch.tensor([[reconstruction(of_layer, digits) for of_layer in of_network] for of_network in pooled]).T
    evidence.compare("share of the maps most like their own digit", {"conv1": found[0], "conv2": found[1]})
    evidence.compare("R² of the pixels, from all pooled maps", {"conv1": r2[0], "conv2": r2[1]})
    assert found[1].mean() < 0.6 * found[0].mean()
    assert r2[1].mean() < r2[0].mean() - 0.08
    assert r2[1].mean() > 0.4


def probe(features, labels):
    """Share of half of the digits that a linear classifier, fitted to the others, tells from features."""
    return probe_accuracy(features, labels, classes=10)


def between_classes(features, labels):
    """Share of the features' variance that lies between the means of the classes (Fisher)."""
    features = features.flatten(1)
    means = torch.stack([features[labels == label].mean(0) for label in range(10)])
    return (means[labels] - features.mean(0)).square().sum() / (features - features.mean(0)).square().sum()


def separability(networks, images, labels):
    """Accuracy of a linear probe and share of the variance between classes, each (2, copies) of conv1 and conv2.

    Of what the layers pass on: after ReLU and pooling.
    """
    features = [features_of(network, images, [POOL1, POOL2]) for network in networks]
    measured = [[[probe(x, labels), between_classes(x, labels)] for x in of_network] for of_network in features]
    return torch.tensor(measured).permute(1, 2, 0)


def sample(learned):
    return learned.test_x[:500], learned.test_y[:500]


def largest_of_each_window(maps):
    return functional.max_pool2d(maps, 2)


def first_of_each_window(maps):
    return maps[..., ::2, ::2]


@claim(
    "pytorch-notes/pooling-makes-features-more-abstract",
    finding="The first pooling leaves a quarter of the values, and with them less of the picture and more of the "
    "digit: a linear regression gets 79 % of the pixels' variance back instead of 87 %, while the share of the "
    "variance that lies between classes rises from 0.25 to 0.29.",
    controls=[override("the first value of each window", pool=first_of_each_window)],
)
@torch.no_grad()
def test_pooled_maps_hold_less_of_the_picture_and_more_of_the_class(learn, evidence, pool=largest_of_each_window):
    learned = learn()
    images, labels = learned.test_x[:300], learned.test_y[:300]

    def measured(maps):
        return reconstruction(maps, images), between_classes(maps, labels)

    maps = (network.features[:2](images) for network in learned.networks[:4])
    told, between = torch.tensor([[measured(x), measured(pool(x))] for x in maps]).permute(2, 1, 0)
    for name, (before, after) in (("R² of the pixels", told), ("share of the variance between classes", between)):
        evidence.compare(name, {"after ReLU": before, "after pooling": after})
    assert (told[1] - told[0]).mean() < -0.01
    assert (between[1] - between[0]).mean() > 0.01


@claim(
    "pytorch-notes/deeper-features-are-more-class-separable",
    finding="A linear classifier of 250 digits tells about 74 % of 250 others from the pixels, 81 % from what conv1 "
    "passes on, and 89 or 90 % from what conv2 does. The share of the variance that lies between classes rises alike, "
    "from 0.23 to 0.28 or 0.29 and 0.35.",
    controls=[override("a second layer that averages", edit=average_of_all)],
)
def test_classes_lie_further_apart_from_layer_to_layer(learn, evidence, edit=as_it_is):
    learned = learn()
    images, labels = sample(learned)
    pixels = torch.tensor([probe(images, labels), between_classes(images, labels)])
    conv1, conv2 = separability([edit(network) for network in learned.networks[:4]], images, labels)
    for row, name in enumerate(("accuracy of a linear probe", "share of the variance between classes")):
        evidence.compare(name, {"pixels": pixels[[row]], "conv1": conv1[row], "conv2": conv2[row]})
    assert (conv1.mean(1) > pixels + 0.02).all()
    assert (conv2.mean(1) > conv1.mean(1) + 0.01).all()


@claim(
    "pytorch-notes/separability-needs-training",
    verdict=REFUTED,
    finding="Most of it is there with random kernels, by ReLU and pooling: a linear classifier tells about 87 % of the "
    "digits from what an untrained conv2 passes on, 74 % from the pixels, and 89 or 90 % after training. Training adds "
    "the rest, and pulls the classes together: the share of the variance between them is 0.29 before and 0.35 after.",
    controls=[override("kernels that average", edit=average_of_all)],
)
def test_most_of_the_separability_comes_without_training(learn, evidence, edit=as_it_is):
    learned = learn()
    images, labels = sample(learned)
    pixels = probe(images, labels)
    _, fresh = separability([edit(network) for network in untrained(learned)[:4]], images, labels)
    _, trained = separability(learned.networks[:4], images, labels)
    for row, name in enumerate(("accuracy of a linear probe of conv2", "share of the variance between classes")):
        evidence.compare(name, {"untrained": fresh[row], "trained": trained[row]})
    evidence.observe("accuracy of a linear probe of the pixels", pixels)
    assert fresh[0].mean() - pixels > 0.5 * (trained[0].mean() - pixels)
    assert trained[1].mean() > fresh[1].mean()


@claim(
    "pytorch-notes/relu-suppresses-the-useless",
    verdict=REFUTED,
    finding="It suppresses what is negative, and that tells the digit as well: a linear classifier gets as much from "
    "the negative part that ReLU removes as from the positive one that it keeps, with conv1 (87 % from the negative "
    "part, 84 % from the positive) and with conv2 (91 % from both).",
    controls=[override("kernels without negative values", edit=of_both_signs_made_positive)],
)
def test_what_relu_removes_tells_the_digit_as_well_as_what_it_keeps(learn, evidence, edit=as_it_is):
    learned = learn()
    images, labels = learned.test_x[:600], learned.test_y[:600]

    def accuracies(network):
        maps = features_of(edit(network), images, [CONV1, CONV2])
        return [[probe(functional.max_pool2d(part.relu(), 2), labels) for part in (x, -x)] for x in maps]

    conv1, conv2 = torch.tensor([accuracies(network) for network in learned.networks[:4]]).permute(1, 2, 0)
    for name, (kept, removed) in (("conv1", conv1), ("conv2", conv2)):
        evidence.compare(f"accuracy of a linear probe of {name}", {"kept by ReLU": kept, "removed": removed})
    assert conv1[1].mean() > conv1[0].mean() - 0.05
    assert conv2[1].mean() > conv2[0].mean() - 0.05
