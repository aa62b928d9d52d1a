"""Section 5.4.1: what clipping the gradient's norm does, when it acts, and what it is good for.

R. Pascanu, T. Mikolov, Y. Bengio, "On the difficulty of training recurrent neural networks", ICML 2013.
"""

import math

import hypothesis.strategies as st
import numpy as np
import pytest
import torch
from hypothesis import given
from torch import nn
from torch.optim import SGD, Adam
from torch.testing import assert_close

from fitcore.testing import CONDITIONAL, REFUTED, claim, override, replace
from fitcore.testing.strategies import shapes, tensors

SEEDS = 2
UNCLIPPED = math.inf


def total_norm(parameters):
    return nn.utils.get_total_norm([parameter.grad for parameter in parameters])


def clip_nothing(parameters, max_norm):
    return total_norm(parameters)


def clip_each_alone(parameters, max_norm):
    """Clip every gradient by its own norm, which turns the whole."""
    norm = total_norm(parameters)
    for parameter in parameters:
        parameter.grad *= (max_norm / (parameter.grad.norm() + 1e-6)).clamp(max=1)
    return norm


def with_gradients(gradients):
    parameters = [torch.zeros_like(gradient, requires_grad=True) for gradient in gradients]
    for parameter, gradient in zip(parameters, gradients, strict=True):
        parameter.grad = gradient.clone()
    return parameters


def joined(gradients):
    return torch.cat([gradient.flatten() for gradient in gradients])


@claim(
    "pytorch-notes/clip-bounds-the-gradient-norm",
    finding="All gradients together are divided by norm + 1e-6 where that exceeds 1; below, every bit stays. (float32 "
    "has a limit: a norm above 1.8e19 overflows, and all gradients become zero.)",
    controls=[
        replace("torch.nn.utils.clip_grad_norm_", clip_nothing),
        replace("torch.nn.utils.clip_grad_norm_", clip_each_alone),
    ],
)
@given(
    data=st.data(), dtype=st.sampled_from([torch.float32, torch.float64]), size=st.sampled_from([1, 1_000, 1_000_000])
)
def test_clipping_bounds_the_total_norm_and_keeps_the_direction(data, dtype, size):
    drawn = data.draw(st.lists(tensors(shapes(max_dims=2), dtype, st.floats(-size, size, width=32)), max_size=3))
    gradients = [*drawn, torch.tensor([30.0, 40.0], dtype=dtype), torch.tensor(0.5, dtype=dtype)]
    parameters = with_gradients(gradients)
    norm = nn.utils.clip_grad_norm_(parameters, max_norm=1.0)
    before, after = joined(gradients), joined(parameter.grad for parameter in parameters)
    assert_close(norm, before.norm())
    assert after.norm() <= 1 + 1e-6
    assert_close(after, before / (norm + 1e-6))
    small = with_gradients([gradient / (2 * norm) for gradient in gradients])
    before = [parameter.grad.clone() for parameter in small]
    nn.utils.clip_grad_norm_(small, max_norm=1.0)
    assert all(torch.equal(parameter.grad, gradient) for parameter, gradient in zip(small, before, strict=True))


BETWEEN = "between backward and step"
ELSEWHERE = ["before the forward pass", "before backward", "after step"]


def clear(optimizer):
    optimizer.zero_grad()


def keep(optimizer):
    """Let gradients add up."""


def weights_after(made, clipping, clear):
    """The weights after one epoch, with the gradient clipped to 1 at some place of each step."""

    def at(place):
        if place == clipping:
            nn.utils.clip_grad_norm_(made.model.parameters(), max_norm=1.0)

    for inputs, labels in made.loader:
        clear(made.optimizer)
        at("before the forward pass")
        loss = made.loss(made.model(inputs), labels)
        at("before backward")
        loss.backward()
        at(BETWEEN)
        made.optimizer.step()
        at("after step")
    return joined(made.model.parameters()).detach()


@claim(
    "pytorch-notes/clip-acts-only-between-backward-and-step",
    finding="Clipped at any other place of the step, the weights come out the same to the bit as without: zero_grad "
    "leaves nothing to clip before backward, and throws away what is clipped after the step.",
    controls=[override("gradients that are not cleared", clear=keep)],
    trials=3,
)
@pytest.mark.parametrize("place", ELSEWHERE)
def test_clipping_acts_only_between_backward_and_step(prepared, trials, place, clear=clear):
    def changes(seed):
        nowhere, elsewhere, between = (
            weights_after(prepared(seed=seed, samples=96), where, clear) for where in ("nowhere", place, BETWEEN)
        )
        return [not torch.equal(elsewhere, nowhere), not torch.equal(between, nowhere)]

    by_elsewhere, by_between = trials.map(changes).T
    trials.always(~by_elsewhere, name=f"{place}: no effect")
    trials.always(by_between, name="between backward and step: an effect")


@claim(
    "pytorch-notes/clip-is-a-rare-safeguard-here",
    verdict=REFUTED,
    finding="It acts in every update of every run: the gradient's norm is never below 1, but 1.2 to 8. So it is no "
    "safeguard here but sets the length of every gradient to 1; a limit of 10 would be one.",
    controls=[override("inputs a tenth as large", scale=0.1, epochs=1, seeds=1)],
)
def test_clipping_acts_in_every_update_of_the_listing(
    listing, listings, trials, evidence, *, scale=1.0, epochs=5, seeds=SEEDS
):
    runs = [listing(scale=scale, epochs=epochs), *listings(seeds, scale=scale, epochs=epochs)]
    norms = np.stack([run.history.gradient_norms for run in runs])
    first = {"the document's seed": norms[0]}
    evidence.curve("norm of the gradient before clipping", range(norms.shape[1]), first, x_label="update")
    evidence.observe("least norm in a run", norms.min(1), limit=1.0)
    trials.always((norms > 1).all(1), name="above 1 in every update")
    trials.always((norms > 10).mean(1) < 0.05, name="above 10 in less than 5 %")


@claim(
    "pytorch-notes/clip-improves-the-listing",
    verdict=REFUTED,
    finding="It makes it higher: 0.4 after five epochs where the same runs without clipping reach 0.27.",
    controls=[override("clipped in neither", max_norm=UNCLIPPED)],
)
def test_clipping_raises_the_training_loss_of_the_listing(listings, trials, evidence, max_norm=1.0):
    clipped, unclipped = (
        np.stack([run.printed_losses for run in listings(SEEDS, max_norm=limit)]) for limit in (max_norm, UNCLIPPED)
    )
    means = {"clipped": clipped.mean(0), "not clipped": unclipped.mean(0)}
    evidence.curve("printed loss, mean of the runs", range(1, 6), means, x_label="epoch")
    trials.always(clipped[:, -1] > 1.15 * unclipped[:, -1], name="higher by 15 % and more in the end")


def growth(run):
    """The largest norm of a gradient before clipping, in units of the first; infinite where one is infinite or NaN."""
    norms = run.history.gradient_norms.nan_to_num(nan=torch.inf)
    return float(norms.max() / norms[0])


@pytest.fixture(scope="session")
def growths(listings):
    """Of runs of ten updates, (SEEDS,): what explodes does so within them."""
    return lambda **setting: np.array([growth(run) for run in listings(SEEDS, samples=320, epochs=1, **setting)])


def cell(setting):
    return f"{setting['optimizer'].__name__} {setting['lr']:g}, inputs x {setting['scale']:g}"


EXPLODING = [
    {"optimizer": SGD, "lr": 0.1, "scale": 100.0},
    {"optimizer": SGD, "lr": 1.0, "scale": 30.0},
]
CALM = [
    {"optimizer": SGD, "lr": 0.1, "scale": 1.0},
    {"optimizer": SGD, "lr": 1.0, "scale": 1.0},
    {"optimizer": SGD, "lr": 0.1, "scale": 10.0},
    {"optimizer": SGD, "lr": 0.01, "scale": 30.0},
    {"optimizer": Adam, "lr": 0.001, "scale": 100.0},
    {"optimizer": Adam, "lr": 0.001, "scale": 1.0},
]


@claim(
    "pytorch-notes/clip-prevents-gradient-explosion",
    verdict=CONDITIONAL,
    finding="It does where SGD's rate is too large for the inputs (0.1 for inputs a hundred times as large, 1 for "
    "thirty times): within ten updates the gradient grows more than a hundredfold and on to "
    "infinity or NaN, and clipped at most by half.",
    controls=[override("clipped in neither", max_norm=UNCLIPPED)],
)
@pytest.mark.parametrize("setting", EXPLODING, ids=cell)
def test_clipping_stops_an_explosion(growths, trials, evidence, setting, max_norm=1.0):
    clipped, unclipped = growths(max_norm=max_norm, **setting), growths(max_norm=UNCLIPPED, **setting)
    rows = zip(clipped, unclipped, strict=True)
    evidence.table(
        "growth of the gradient's norm", [{"clipped": f"{a:.3g}", "not clipped": f"{b:.3g}"} for a, b in rows]
    )
    trials.always(unclipped > 100, name="not clipped: more than a hundred times as large")
    trials.always(clipped < 3, name="clipped: less than three times")


@claim(
    "pytorch-notes/clip-prevents-gradient-explosion",
    verdict=CONDITIONAL,
    finding="With Adam, as in the listing, and with SGD at smaller rates or inputs nothing explodes without it either.",
    controls=[override("SGD 0.1, inputs x 100", setting=EXPLODING[0])],
)
@pytest.mark.parametrize("setting", CALM, ids=cell)
def test_there_is_mostly_no_explosion_to_stop(growths, trials, evidence, setting):
    unclipped = growths(max_norm=UNCLIPPED, **setting)
    evidence.observe("growth of the gradient's norm, not clipped", unclipped, limit=10.0)
    trials.always(unclipped < 10, name="less than ten times as large")


@claim(
    "pytorch-notes/clip-prevents-gradient-explosion",
    verdict=CONDITIONAL,
    finding="It bounds the length of a step by lr · max_norm, and prevents nothing where that is long beside the "
    "weights (whose norm is 11): with SGD at 100, clipped wherever they exceed 1, gradients grow hundreds to "
    "thousands of times.",
    controls=[override("a step of 0.1", lr=0.1)],
)
def test_clipped_gradients_explode_where_the_steps_are_long(growths, trials, evidence, lr=100.0):
    clipped = growths(max_norm=1.0, optimizer=SGD, lr=lr)
    evidence.observe("growth of the norm before clipping", clipped)
    trials.always(clipped > 20, name="more than twenty times as large")


@claim(
    "pytorch-notes/clip-prevents-gradient-explosion",
    verdict=CONDITIONAL,
    finding="And it can't undo one that has happened: a single NaN makes every gradient NaN. Only "
    "error_if_nonfinite=True notices.",
    controls=[
        replace(
            "torch.nn.utils.clip_grad_norm_",
            lambda parameters, max_norm, **_: clip_nothing(parameters, 1),
            "no clipping",
        )
    ],
)
@given(others=tensors((3,), elements=st.floats(-10, 10, width=32)))
def test_clipping_spreads_a_nan_to_all_gradients(others):
    parameters = with_gradients([torch.tensor([1.0, math.nan]), others])
    nn.utils.clip_grad_norm_(parameters, max_norm=1.0)
    assert all(parameter.grad.isnan().all() for parameter in parameters)
    parameters = with_gradients([torch.tensor([1.0, math.nan]), others])
    with pytest.raises(RuntimeError, match="non-finite"):
        nn.utils.clip_grad_norm_(parameters, max_norm=1.0, error_if_nonfinite=True)
