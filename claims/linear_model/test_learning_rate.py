"""Section 1.1.4, and block 1 of 1.3: what the learning rate is, too large and too small."""

from functools import partial

import hypothesis.strategies as st
import pytest
import torch
from hypothesis import assume, given, settings
from torch.testing import assert_close

from fitcore.data import thermometer_readings
from fitcore.ensembles import QuadraticDynamics
from fitcore.gradients import averaged_chain_rule, central_difference, chain_rule
from fitcore.models import design_matrix
from fitcore.testing import REFUTED, claim, override
from fitcore.training import manual_step, optimizer_step, train
from fitcore.training.thermometer import fit_with_sgd, thermometer_loss

T_U, T_C = thermometer_readings(torch.float64)
LOSS = thermometer_loss(dtype=torch.float64)
START = torch.tensor([1.0, 0.0], dtype=torch.float64)

points = st.just(START) | st.tuples(st.floats(-5, 5), st.floats(-50, 50)).map(
    lambda point: torch.tensor(point, dtype=torch.float64)
)


def dynamics(scale=1.0):
    return QuadraticDynamics.from_regression(design_matrix(scale * T_U), T_C)


def descend(params, lr, epochs, scale=1.0, rule=chain_rule):
    return train(manual_step(partial(rule, x=scale * T_U, y=T_C), params, lr), epochs)


@claim(
    "linear-model/learning-rate-measures-loss-change",
    verdict=REFUTED,
    finding="That is what the gradient expresses. The loss falls by the gradient's norm for each unit moved whatever "
    "the rate, and mirrored in the minimum it answers with the opposite sign at the same rate.",
    controls=[override("the averaged gradient", rule=averaged_chain_rule)],
)
@settings(max_examples=40)
@given(params=points, lr=st.floats(1e-9, 1e-7), rule=st.just(chain_rule))
def test_the_gradient_says_how_the_loss_answers_and_the_rate_does_not(params, lr, rule):
    _, slope = rule(params, T_U, T_C)
    assume(slope.norm() > 1)
    moved = descend(params, lr, epochs=1).params
    assert_close((LOSS(params) - LOSS(moved)) / (moved - params).norm(), slope.norm(), rtol=1e-3, atol=0)
    mirrored = 2 * dynamics().minimiser - params
    assert_close(central_difference(LOSS, mirrored, delta=0.1), -slope, rtol=1e-6, atol=1e-6)


@claim(
    "linear-model/too-large-lr-oscillates-and-diverges",
    finding="At lr = 1e-2 on raw t_u w and b turn back at every update and each swing is 58 times as wide as the last "
    "(4.3 times with grad_fn's mean).",
    controls=[override("a small enough rate", lr=1e-4)],
)
@pytest.mark.parametrize("rule", [chain_rule, averaged_chain_rule])
def test_too_large_a_rate_swings_ever_wider(rule, evidence, lr=1e-2):
    history = descend(START, lr, epochs=12, rule=rule)
    evidence.curve("loss", range(1, 13), {f"lr = {lr:g}": history.losses}, x_label="epoch")
    moves = history.trajectory.diff(dim=0)
    assert (moves[1:] * moves[:-1] < 0).all()
    assert (moves[1:].abs() > 3 * moves[:-1].abs()).all()
    assert history.losses[-1] > 1e6 * history.losses[0]


@claim(
    "linear-model/too-large-lr-oscillates-and-diverges",
    finding="Too large means above 2/λ, λ the largest curvature of the loss: there every start swings ever wider "
    "along that direction.",
    controls=[override("just below the limit", excess=-0.05)],
)
@settings(max_examples=40)
@given(params=points, scale=st.floats(0.01, 10), excess=st.floats(0.01, 10))
def test_too_large_is_more_than_twice_the_inverse_curvature(params, scale, excess):
    exact = dynamics(scale)
    lr = (1 + excess) * exact.largest_stable_lr
    history = descend(params, lr, epochs=5, scale=scale)
    along_stiffest = (history.trajectory - exact.minimiser) @ exact.eigenvectors[:, 0]
    assume(along_stiffest[0].abs() > 1e-3)
    assert (along_stiffest[1:] * along_stiffest[:-1] < 0).all()
    assert (along_stiffest.abs().diff() > 0).all()


@claim(
    "linear-model/too-small-lr-is-slow",
    finding="With a tenth of the rate SGD needs ten times the epochs: 1,000 at 1e-3 reach the loss of 100 at 1e-2.",
    controls=[override("the same rate", slowdown=1)],
)
def test_a_tenth_of_the_rate_takes_ten_times_the_epochs(evidence, slowdown=10):
    usual, slow = fit_with_sgd(epochs=100), fit_with_sgd(lr=1e-2 / slowdown, epochs=100 * 10)
    losses = {"lr = 1e-2": usual.losses, f"lr = {1e-2 / slowdown:g}": slow.losses[:100]}
    evidence.curve("loss", range(1, 101), losses, x_label="epoch")
    minimum = dynamics(scale=0.1).minimum
    assert slow.losses[99] - minimum > 1.1 * (usual.losses[99] - minimum)
    assert_close(slow.losses[-1] - minimum, usual.losses[-1] - minimum, rtol=0.01, atol=0, check_dtype=False)


@claim(
    "linear-model/too-small-lr-is-slow",
    finding="The epochs needed are inversely proportional to the rate, from any start, wherever the rate is well "
    "below 1/λ.",
    controls=[override("the same rate", slowdown=1.0)],
)
@settings(max_examples=40)
@given(params=points, lr=st.floats(1e-3, 1e-2), slowdown=st.floats(2, 100))
def test_epochs_needed_are_inversely_proportional_to_the_rate(params, lr, slowdown):
    exact, epochs = dynamics(scale=0.1), 4 / lr
    usual = exact.losses(params, lr, [epochs]) - exact.minimum
    assume(usual > 1e-2)
    slow = exact.losses(params, lr / slowdown, [epochs, epochs * slowdown]) - exact.minimum
    assert slow[0] > usual * 1.1
    assert_close(slow[1:], usual, rtol=0.01, atol=0)


def by_hand(loss, params, lr):
    return manual_step(partial(chain_rule, x=T_U, y=T_C), params, lr)


def by_sgd(loss, params, lr):
    leaf = params.clone().requires_grad_()
    return optimizer_step(loss, leaf, torch.optim.SGD([leaf], lr=lr))


def by_line_search(loss, params, lr):
    exact = dynamics()

    def to_the_lowest_point(params):
        value, slope = chain_rule(params, T_U, T_C)
        return value, slope * slope.dot(slope) / slope.dot(exact.hessian @ slope) / lr

    return manual_step(to_the_lowest_point, params, lr)


@claim(
    "linear-model/learning-rate-sets-step-size",
    controls=[override("a line search chooses the size", step=by_line_search)],
)
@pytest.mark.parametrize("step", [by_hand, by_sgd])
@settings(max_examples=40)
@given(params=points, lr=st.floats(1e-6, 1.0), factor=st.floats(2, 100))
def test_a_step_is_as_long_as_the_rate_says(step, params, lr, factor):
    _, slope = chain_rule(params, T_U, T_C)
    assume(slope.norm() > 1)
    short, long = (train(step(LOSS, params, rate), 1).params - params for rate in (lr, factor * lr))
    assert_close(short, -lr * slope, rtol=1e-9, atol=1e-9)
    assert_close(long, factor * short, rtol=1e-9, atol=1e-8)


@claim(
    "linear-model/one-fd-step-lowers-loss",
    verdict=REFUTED,
    finding="It overshoots: the loss rises from 1,764 to 5.8 million, and the distance to the solution from 17 to 48. "
    "A rate below 2/λ = 3.4e-4, such as 1e-4, brings both down.",
    controls=[override("a small enough rate", lr=1e-4)],
)
def test_the_finite_difference_step_leads_away_from_the_solution(evidence, lr=1e-2):
    def step(lr):
        return START - lr * central_difference(LOSS, START, delta=0.1)

    def distance(params):
        return (params - dynamics().minimiser).norm()

    evidence.table(
        "one step from w = 1, b = 0",
        [{"rate": rate, "loss": LOSS(step(rate)), "distance": distance(step(rate))} for rate in (0.0, 1e-4, 1e-2)],
    )
    assert LOSS(step(lr)) > 1000 * LOSS(START)
    assert distance(step(lr)) > 2 * distance(START)
    assert LOSS(step(1e-4)) < LOSS(START)
    assert distance(step(1e-4)) < distance(START)
