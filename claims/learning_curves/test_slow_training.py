"""Section 8.5.5: what makes training slow."""

from time import process_time

import numpy as np
import torch
from torch import nn

from fitcore.evaluation.throughput import time_ratio
from fitcore.models import MLP
from fitcore.testing import claim, override

TRIALS = 60
CHANCE = float(np.log(10))  # the loss of a model that knows nothing of ten classes


def epochs_to(loss, target):
    """The first epoch, from 1, after which a curve (epochs, trials) is below ``target``; its length + 1 if never."""
    below = loss < target
    return torch.where(below.any(0), below.int().argmax(0), len(loss)) + 1


def step_of(*widths, lr=0.01):
    """A training step of an MLP on a batch of 64 random images."""
    model = MLP(widths, nn.ReLU)
    optimizer = torch.optim.SGD(model.parameters(), lr=lr)
    images, labels = torch.rand(64, widths[0]), torch.arange(64) % 10

    def step():
        optimizer.zero_grad()
        nn.functional.cross_entropy(model(images), labels).backward()
        optimizer.step()

    return step


@claim(
    "pytorch-notes/slow-training-lr-too-small",
    finding="A step takes as long at any rate; it is the number of steps that grows. To a loss of 2 it takes 4 epochs "
    "at 0.1 (median), and at 0.001 20 are not enough.",
    controls=[override("the larger rate", small=0.1)],
    trials=TRIALS,
)
def test_a_small_rate_needs_more_steps_of_the_same_duration(learned, trials, evidence, small=0.001):
    needed = {lr: epochs_to(learned("healthy", lr=lr).training, 2.0) for lr in (small, 0.1)}
    duration = time_ratio(step_of(64, 32, 10, lr=small), step_of(64, 32, 10, lr=0.1), rounds=15)
    evidence.observe("time of a step at the small rate over that at the large one", duration)
    evidence.compare("epochs to a loss of 2 (21: not within 20)", {f"lr {lr}": count for lr, count in needed.items()})
    trials.less(needed[0.1] + 5, needed[small], name="more epochs at the small rate")
    assert duration < 2


@claim(
    "pytorch-notes/slow-training-model-too-large",
    finding="784-2048-2048-10 has 450 times the weights of 784-16-16-10, and a step takes dozens of times as long.",
    controls=[override("the small model", width=16)],
)
def test_a_step_of_a_larger_model_takes_longer(evidence, width=2048):
    large, small = step_of(784, width, width, 10), step_of(784, 16, 16, 10)
    times_as_long = time_ratio(large, small, rounds=5, clock=process_time)  # which no other process lengthens
    evidence.observe("time of a step, large over small", times_as_long)
    assert times_as_long > 5
