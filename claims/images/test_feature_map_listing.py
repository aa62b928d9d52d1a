"""Section 13.1: the listing that shows feature maps in TensorBoard, and what becomes of their numbers there."""

import hypothesis.strategies as st
import torch
from hypothesis import example, given, settings

from fitcore.data import mnist
from fitcore.evaluation.feature_maps import feature_maps, tiled
from fitcore.testing import claim, error_of, override, replace
from fitcore.testing.strategies import tensors


def tag_of_each_channel(layer, channel):
    return f"{layer}/{channel}"


def tag_of_the_layer(layer, channel):
    return layer


def log_feature_maps(writer, model, digit, tag=tag_of_each_channel):
    """What the listing logs: the digit, its first eight maps of conv1, and at most sixteen of conv2."""
    maps = {}
    for name, layer in (("conv1", model.features[0]), ("conv2", model.features[3])):
        layer.register_forward_hook(lambda _, inputs, output, name=name: maps.__setitem__(name, output.detach()))
    with torch.no_grad():
        model.eval()(digit.unsqueeze(0))
    writer.add_image("input", digit)
    for channel in range(8):
        writer.add_image(tag("conv1", channel), maps["conv1"][0, channel : channel + 1])
    for channel in range(min(16, maps["conv2"].shape[1])):
        writer.add_image(tag("conv2", channel), maps["conv2"][0, channel : channel + 1])


def as_shown(maps):
    """The bytes that ``add_image`` makes of floating-point values."""
    return (255 * maps).clamp(0, 255).to(torch.uint8)


def first_pixels(events, tag):
    ((_, pixels),) = events.images(tag)
    return torch.tensor(pixels)[..., 0]


@claim(
    "pytorch-notes/feature-map-listing-writes-25-images",
    finding="It runs as printed. The maps of conv2 are the first 16 of 32, 14x14 pixels each.",
    controls=[override("no number in the tag", tag=tag_of_the_layer)],
)
def test_the_listing_writes_the_digit_8_maps_of_conv1_and_16_of_conv2(
    recorded, learn, evidence, data_root, tag=tag_of_each_channel
):
    model, digit = learn().networks[0], mnist(data_root, train=False)[:1].scaled[0]
    conv1, conv2 = feature_maps(model, digit[None], ["features.0", "features.3"])
    errors = []
    events = recorded(lambda writer: errors.append(error_of(log_feature_maps, writer, model, digit, tag)))
    numbered = {"conv1": range(8), "conv2": range(16)}
    assert errors == [None]
    assert set(events.tags["images"]) == {"input", *(f"{name}/{i}" for name in numbered for i in numbered[name])}
    shown = {name: torch.stack([first_pixels(events, f"{name}/{i}") for i in numbered[name]]) for name in numbered}
    evidence.image("conv1, as read back from TensorBoard's file", tiled(shown["conv1"] / 255, 8, 56))
    evidence.image("conv2, as read back from TensorBoard's file", tiled(shown["conv2"] / 255, 8, 56))
    assert torch.equal(first_pixels(events, "input"), as_shown(digit[0]))
    assert torch.equal(shown["conv1"], as_shown(conv1[0, :8]))
    assert torch.equal(shown["conv2"], as_shown(conv2[0, :16]))


def stretched(values):
    """From the smallest value, black, to the largest, white."""
    return (values - values.min()) / (values.max() - values.min() + 1e-6)


def as_they_are(values):
    return values


@claim(
    "pytorch-notes/tensorboard-hides-the-negative-part",
    finding="No wrapping round, and no stretching: -3 and 0 look alike, as do 1 and 3, and the fraction of a grey is "
    "cut off. To see all of a map, stretch it from its smallest to its largest value before.",
    controls=[
        replace("torch.utils.tensorboard.summary._calc_scale_factor", lambda _: 1, "written without the 255"),
        override("stretched before", prepare=stretched),
    ],
)
@settings(max_examples=10)
@example(values=torch.tensor([[[-3.0, -0.5, 0.0], [0.5, 1.0, 3.0]]]), prepare=as_they_are)
@given(
    values=tensors(st.tuples(st.just(1), *[st.integers(1, 8)] * 2), elements=st.floats(-3, 3, width=32)),
    prepare=st.just(as_they_are),
)
def test_add_image_clips_a_map_to_black_and_white(recorded, values, prepare):
    events = recorded(lambda writer: writer.add_image("map", prepare(values)))
    pixels = first_pixels(events, "map")
    assert torch.equal(pixels, (255 * values[0]).clamp(0, 255).floor().to(torch.uint8))
    assert (pixels[values[0] <= 0] == 0).all()
    assert (pixels[values[0] >= 1] == 255).all()
