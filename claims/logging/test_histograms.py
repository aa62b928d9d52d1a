"""Sections 8.3.1 and 8.4: what add_histogram records, what it costs, and so how often each thing is worth recording."""

import time

import hypothesis.strategies as st
import numpy as np
import torch
from hypothesis import given, settings
from torch import nn
from torch.utils.tensorboard.summary import histogram as make_histogram

from fitcore.evaluation.event_files import event_paths
from fitcore.models import MLP
from fitcore.testing import claim, override, replace
from fitcore.testing.strategies import dtypes, shapes, tensors


def of_the_first_element(name, values, *arguments, **options):
    """Record one element instead of all."""
    return make_histogram(name, values.reshape(-1)[:1], *arguments, **options)


@claim(
    "pytorch-notes/add-histogram-of-params-and-grads",
    finding="Of any real dtype and shape but the empty one, also while it requires a gradient. Kept exactly are "
    "number, extremes and sum; the rest is counts between edges a tenth apart.",
    controls=[replace("torch.utils.tensorboard.writer.histogram", of_the_first_element)],
)
@settings(max_examples=10)
@given(values=tensors(shapes(min_dims=1, min_side=2), dtypes(integer=False)), calls=st.integers(1, 3))
def test_each_call_records_a_histogram_of_the_whole_tensor(recorded, values, calls):
    parameter = nn.Parameter(values)
    parameter.grad = values.clone()

    def write(writer):
        for step in range(calls):
            writer.add_histogram("Parameters/weight", parameter, step)
            writer.add_histogram("Gradients/weight", parameter.grad, step)

    events = recorded(write)
    assert events.tags["histograms"] == ["Parameters/weight", "Gradients/weight"]
    for tag in events.tags["histograms"]:
        found = events.histograms(tag)
        assert [histogram.step for histogram in found] == list(range(calls))
        assert found[0].size == found[0].counts.sum() == values.numel()
        assert (found[0].minimum, found[0].maximum) == (values.min(), values.max())
        np.testing.assert_allclose(found[0].sum, values.double().sum())


class Costs:
    """Seconds (least of several) and bytes in the event file of calls that record something."""

    def __init__(self, writer):
        self.writer = writer

    def size(self):
        self.writer.flush()
        return event_paths(self.writer.log_dir)[0].stat().st_size

    def __call__(self, call, repeats=4):
        before, seconds = self.size(), []
        for step in range(repeats):
            start = time.perf_counter()
            call(step)
            seconds.append(time.perf_counter() - start)
        return min(seconds), (self.size() - before) / repeats


@claim(
    "pytorch-notes/histogram-costs-more-than-scalar",
    finding="200,000 weights: hundreds of times the time of a scalar, and 10 kB instead of 42 bytes.",
    controls=[override("a scalar on both sides", add="add_scalar", shape=())],
)
def test_a_histogram_costs_far_more_time_and_space_than_a_scalar(
    recorded, evidence, add="add_histogram", shape=(256, 784)
):
    costs = {}

    def write(writer):
        cost = Costs(writer)
        values = torch.randn(shape)
        costs["scalar"] = cost(lambda step: writer.add_scalar("loss", 1.0, step))
        costs["histogram"] = cost(lambda step: getattr(writer, add)("weight", values, step))

    recorded(write)
    rows = [{"what": what, "microseconds": 1e6 * s, "bytes": size} for what, (s, size) in costs.items()]
    evidence.table("cost of a call", rows)
    assert costs["histogram"][0] > 50 * costs["scalar"][0]
    assert costs["histogram"][1] > 50 * costs["scalar"][1]


def training_step(model):
    optimizer = torch.optim.Adam(model.parameters())
    images, labels = torch.rand(64, 784), torch.arange(64) % 10

    def step(_):
        optimizer.zero_grad()
        nn.functional.cross_entropy(model(images), labels).backward()
        optimizer.step()

    return step


@claim(
    "pytorch-notes/logging-frequency-table",
    finding="For 784-256-128-10 and batches of 64, what the table asks for (the loss at every step, histograms of "
    "gradients every 50, of weights every 10 epochs of 100) adds 6 to 24 % to the training time; all of it at every "
    "step makes it six times as long or more.",
    controls=[override("histograms at every step", gradients_every=1)],
)
def test_the_table_of_frequencies_keeps_logging_cheaper_than_training(
    recorded, evidence, gradients_every=50, weights_every=1000
):
    model, seconds = MLP([784, 256, 128, 10], nn.ReLU), {}

    def histograms(writer, step):
        for name, parameter in model.named_parameters():
            writer.add_histogram(name, parameter, step)

    def write(writer):
        cost = Costs(writer)
        seconds["step"] = cost(training_step(model), repeats=12)[0]
        seconds["scalar"] = cost(lambda step: writer.add_scalar("loss", 1.0, step))[0]
        seconds["histograms"] = cost(lambda step: histograms(writer, step))[0]

    recorded(write)
    table = seconds["scalar"] + seconds["histograms"] * (1 / gradients_every + 1 / weights_every)
    always = seconds["scalar"] + 2 * seconds["histograms"]
    shares = {"as the table has it": table / seconds["step"], "at every step": always / seconds["step"]}
    evidence.table("time of logging over that of training", [{"when": when, "ratio": r} for when, r in shares.items()])
    assert table < seconds["step"]
    assert always > 3 * seconds["step"]
