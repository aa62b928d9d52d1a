"""Section 5.7: the exercise, a convolutional network for CIFAR-10, and its solution."""

from functools import partial
from itertools import accumulate, groupby

import hypothesis.strategies as st
import pytest
import torch
from hypothesis import example, given
from torch import nn
from torch.nn import functional

from fitcore.data import cifar10, mnist
from fitcore.models import MLP, CifarCNN, number_of_parameters
from fitcore.seeding import seeded
from fitcore.testing import REFUTED, claim, error_of, override
from fitcore.training import fit


class Skeleton(nn.Module):
    """A network whose forward is still to be written."""

    def forward(self, x):
        pass


@claim(
    "pytorch-notes/exercise-skeleton-prints-shape",
    verdict=REFUTED,
    finding="Its forward returns None, which has no shape: an AttributeError until there is something to return.",
    controls=[override("forward returns its input", network=nn.Identity)],
)
def test_the_skeleton_returns_nothing_that_has_a_shape(network=Skeleton):
    model, x = network(), torch.ones(4, 3, 32, 32)
    error = error_of(lambda: model(x).shape)
    assert isinstance(error, AttributeError)
    assert "'NoneType' object has no attribute 'shape'" in str(error)


def as_printed(**settings):
    """The solution, without our check of the size of the images."""
    model = CifarCNN(**settings)
    return nn.Sequential(model.features, nn.Flatten(), model.classifier)


def padded(**settings):
    """The solution if the last argument of its convolutions were padding."""
    model = as_printed(**settings)
    for layer in model[0]:
        if isinstance(layer, nn.Conv2d):
            layer.padding = (1, 1)
    return model


def without_batch_norm(**settings):
    return as_printed(batch_norm=False, **settings)


def with_adaptive_pooling(**settings):
    features, *rest = as_printed(**settings)
    return nn.Sequential(features, nn.AdaptiveAvgPool2d(2), *rest)


with_padding = override("with padding", network=padded)


@claim("pytorch-notes/exercise-solution-outputs-4-by-10", controls=[with_padding])
@example(batch=4, network=as_printed)
@given(batch=st.integers(2, 6), network=st.just(as_printed))
def test_the_solution_makes_ten_outputs_of_each_image(batch, network):
    model, x = network(), torch.ones(batch, 3, 32, 32)
    assert error_of(model, x) is None
    assert model(x).shape == (batch, 10)


def by_position(value):
    return nn.Conv2d(3, 2, 3, value)


def by_name(value):
    return nn.Conv2d(3, 2, 3, padding=value)


@claim(
    "pytorch-notes/exercise-conv-fourth-argument-is-padding",
    verdict=REFUTED,
    finding="It is the stride, as the comment of 5.2.2 says, and padding, there passed by name, the fifth. Nothing is "
    "padded here, and each convolution takes two pixels off the sides of the maps.",
    controls=[override("passed as padding", convolution=by_name)],
)
@example(value=1, side=32, convolution=by_position)
@given(value=st.integers(1, 4), side=st.integers(3, 34), convolution=st.just(by_position))
def test_the_fourth_argument_of_a_convolution_is_its_stride(value, side, convolution):
    layer, x = convolution(value), torch.ones(1, 3, side, side)
    assert (layer.stride, layer.padding) == ((value, value), (0, 0))
    assert layer(x).shape[2:] == ((side - 3) // value + 1,) * 2
    assert by_name(value)(x).shape[2:] == (side + 2 * value - 2,) * 2


@claim("pytorch-notes/exercise-feature-maps", controls=[with_padding])
def test_the_maps_shrink_to_2x2_and_512_values_reach_the_classifier(evidence, network=as_printed):
    features, flatten, classifier = network()
    maps = list(accumulate(features, lambda x, layer: layer(x), initial=torch.ones(2, 3, 32, 32)))
    names = ["image", *(type(layer).__name__ for layer in features)]
    rows = [{"after": name, "maps": str(tuple(x.shape[1:]))} for name, x in zip(names, maps, strict=True)]
    evidence.table("maps of one image", rows)
    assert [side for side, _ in groupby(x.shape[-1] for x in maps)] == [32, 30, 15, 13, 6, 4, 2]
    assert all(x.shape[2] == x.shape[3] for x in maps)
    assert flatten(maps[-1]).shape == (2, 512)
    assert classifier[0].in_features == 512


@claim(
    "pytorch-notes/exercise-solution-has-227594-parameters",
    finding="93,248 in the convolutions, 448 in batch normalisation and 133,898 in the linear layers.",
    controls=[override("without batch normalisation", network=without_batch_norm)],
)
@example(widths=(32, 64, 128), network=as_printed)
@given(widths=st.tuples(*[st.integers(1, 8)] * 3), network=st.just(as_printed))
def test_parameters_are_those_of_convolutions_normalisations_and_linear_layers(widths, network, torchinfo):
    a, b, c = widths
    convolutions, norms, linear = (27 + 1) * a + (9 * a + 1) * b + (9 * b + 1) * c, 2 * (a + b + c), 2570
    model = network(widths=widths)
    total = number_of_parameters(model)
    assert total == convolutions + norms + (4 * c + 1) * 256 + linear
    assert torchinfo.summary(model, verbose=0).total_params == total
    assert number_of_parameters(network()) == 227_594


def side_of_last_map(side):
    for _ in range(3):
        side = (side - 2) // 2
    return side


@claim(
    "pytorch-notes/exercise-solution-fits-only-32x32",
    verdict=REFUTED,
    finding="It takes whatever leaves four values a map: squares from 30x30 to 37x37, since pooling rounds down, and "
    "even 22x46. Others are refused by the first linear layer, with the sizes of two matrices. AdaptiveAvgPool2d(2) "
    "before it would take any image from 22x22 on.",
    controls=[with_padding, override("adaptive pooling from the start", network=with_adaptive_pooling)],
)
@example(height=30, width=37, network=as_printed)
@example(height=22, width=46, network=as_printed)
@example(height=38, width=32, network=as_printed)
@given(height=st.integers(22, 48), width=st.integers(22, 48), network=st.just(as_printed))
def test_the_solution_takes_images_whose_last_maps_have_four_values(height, width, network):
    images, narrow = torch.ones(2, 3, height, width), {"widths": (2, 2, 2), "hidden": 4}
    values = side_of_last_map(height) * side_of_last_map(width)
    error = error_of(network(**narrow), images)
    assert (error is None) == (values == 4)
    assert (f"shapes cannot be multiplied (2x{2 * values} and 8x4)" in str(error)) == (values != 4)
    assert with_adaptive_pooling(**narrow)(images).shape == (2, 10)


def digits(root, train):
    return mnist(train=train)


def mosaic(images):
    """The images side by side, (height, n width, channels)."""
    return torch.cat(list(images.permute(0, 2, 3, 1)), dim=1)


@claim(
    "pytorch-notes/cifar10-images-3x32x32-ten-classes",
    controls=[override("digits for photographs", load=digits)],
)
@pytest.mark.parametrize("train", [True, False], ids=["training", "test"])
def test_images_are_32x32_in_three_colours_and_of_ten_classes(evidence, data_root, train, load=cifar10):
    data = load(data_root, train=train)
    first = [data.labels.tolist().index(label) for label in range(10)]
    evidence.image(
        f"one of each class: {', '.join(data.classes)}; {data.source}", mosaic(data.images[torch.tensor(first)])
    )
    assert data.images.shape == (len(data), 3, 32, 32)
    assert data.labels.unique().tolist() == list(range(10))
    assert len(set(data.classes)) == 10
    assert (data.images[:, 0] != data.images[:, 1]).any()


DESIGNS = {
    "the solution": CifarCNN,
    "no batch normalisation": partial(CifarCNN, batch_norm=False),
    "fully connected": partial(CifarCNN, widths=(), hidden=73),
    "fully connected, normalised": lambda: nn.Sequential(
        nn.Flatten(), MLP([3 * 32 * 32, 73, 10], nn.ReLU, batch_norm=True, dropout=0.5)
    ),
}


def logits_of(design, seeds, root):
    """Logits of 600 test images, (600, 10); every network, one a seed, is asked about its share of them."""
    training, images = cifar10(root), cifar10(root, train=False)[:600].scaled
    logits = torch.empty(len(images), 10)
    for number, seed in enumerate(seeds):
        with seeded(seed):
            model = DESIGNS[design]().to(memory_format=torch.channels_last)  # a third faster on a CPU
            chosen = training[torch.randperm(len(training))[:1024]]
            adam, loss = torch.optim.Adam(model.parameters(), lr=5e-4), functional.cross_entropy
            fit(model, (chosen.scaled, chosen.labels), epochs=1, batch_size=16, optimizer=adam, loss=loss)
        share = slice(number, None, len(seeds))
        with torch.no_grad():
            logits[share] = model.eval()(images[share])
    return logits


def those_of_other_images(labels):
    return labels.roll(1)


@claim(
    "pytorch-notes/exercise-hint-layers-are-a-good-design",
    finding="After 64 updates of Adam on 16 images each the solution hits about 30 % of 600 test images, with a loss "
    "of 1.9; without batch normalisation about 15 %, with 2.28; with as many parameters in linear layers alone about "
    "14 %, with 2.28; with those and batch normalisation about 25 %, with 2.07. So early in the training "
    "normalisation does most, and convolution adds to it. Pooling was not left out by itself, and where a longer "
    "training would end is not tested.",
    controls=[
        override("labels of other images", labels_from=those_of_other_images),
        override("the solution without batch normalisation", design="no batch normalisation"),
    ],
)
def test_the_design_of_the_solution_learns_fastest(
    *, shared, trials, evidence, data_root, labels_from=torch.clone, design="the solution"
):
    test, seeds = cifar10(data_root, train=False)[:600], tuple(shared.seeds(2).tolist())
    labels = labels_from(test.labels)
    logits = {name: shared(logits_of, name, seeds, data_root) for name in DESIGNS}
    losses = {name: functional.cross_entropy(logits[name], labels, reduction="none") for name in DESIGNS}
    hits = {name: logits[name].argmax(1) == labels for name in DESIGNS}
    rows = [{"design": name, "loss": losses[name].mean(), "hits, %": 100 * hits[name].float().mean()} for name in hits]
    evidence.table(f"600 test images, {test.source}", rows)
    trials.mostly(hits[design], at_least=0.1, name="hits more often than chance")
    # Images for trials, of two networks: over fresh seeds the losses of the designs differ by five deviations and more.
    for other in ("no batch normalisation", "fully connected"):
        trials.less(losses[design], losses[other], name=f"a lower loss on most images than {other}")
    assert losses[design].mean() < losses["fully connected, normalised"].mean()
