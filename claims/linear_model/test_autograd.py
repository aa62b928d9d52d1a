"""Section 2: gradients from autograd, and the idioms round them."""

from contextlib import nullcontext
from functools import partial

import hypothesis.strategies as st
import pytest
import torch
from hypothesis import assume, given, settings
from torch.testing import assert_close

from fitcore.data import normalise, thermometer_readings
from fitcore.ensembles import QuadraticDynamics
from fitcore.gradients import averaged_chain_rule, chain_rule, gradient, manual
from fitcore.models import design_matrix
from fitcore.testing import REFUTED, claim, override, replace
from fitcore.training import autograd_step, descend_in_place, manual_step, optimizer_step, train, zero_gradient
from fitcore.training.thermometer import fit_by_hand, fit_with_autograd, thermometer_loss

T_U, T_C = thermometer_readings(torch.float64)
T_UN = normalise(T_U)
LOSS = thermometer_loss(scale=0.1, dtype=torch.float64)

starts = st.tuples(st.floats(-10, 10), st.floats(-50, 50))
rates = st.floats(1e-4, 0.03)


def start(values=(1.0, 0.0)):
    return torch.tensor(values, dtype=torch.float64, requires_grad=True)


def start_with_gradient():
    params = start()
    LOSS(params).backward()
    return params


def leave_gradient(params):
    """Let it accumulate."""


@claim(
    "linear-model/params-grad-none-before-backward", controls=[override("after a backward", make=start_with_gradient)]
)
def test_there_is_no_gradient_to_zero_before_the_first_backward(make=start):
    params = make()
    assert params.grad is None
    with pytest.raises(AttributeError, match="NoneType"):
        params.grad.zero_()
    zero_gradient(params)


@claim(
    "linear-model/backward-fills-params-grad",
    controls=[replace("torch.Tensor.backward", lambda loss: None, name="no backward")],
)
@settings(max_examples=40)
@given(values=starts)
def test_backward_fills_the_gradient_of_what_requires_it(values):
    params, constant = start(values), start(values).detach()
    LOSS(params).backward()
    assert params.grad is not None
    assert_close(params.grad, gradient(LOSS, params))
    LOSS(params + constant).backward()
    assert constant.grad is None


@claim("linear-model/grad-accumulates-without-zeroing", controls=[override("cleared before each", clear=zero_gradient)])
@settings(max_examples=40)
@given(first=starts, second=starts, clear=st.just(leave_gradient))
def test_a_second_backward_adds_to_the_gradient(first, second, clear):
    params, moved = start(first), torch.tensor(second, dtype=torch.float64)
    LOSS(params).backward()
    clear(params)
    LOSS(params + moved).backward()
    assert_close(params.grad, gradient(LOSS, params) + gradient(LOSS, params + moved))


@claim(
    "linear-model/not-zeroing-grad-harms-training",
    finding="The sum of all gradients so far is momentum with factor 1: nothing damps it. The loss swings for ever "
    "between about 3 and 89 at the listing's rate, and no other rate converges either.",
    controls=[override("cleared each epoch", clear=zero_gradient)],
)
def test_without_clearing_the_loss_never_settles(evidence, clear=leave_gradient):
    params, twin = start(), start()
    losses = train(autograd_step(LOSS, params, 1e-2, clear), 1_000).losses
    evidence.curve("loss", range(1, 1_001), {"never cleared": losses}, x_label="epoch")
    assert losses[-100:].max() > 0.9 * losses[:100].max()
    undamped = torch.optim.SGD([twin], lr=1e-2, momentum=1.0)
    assert_close(train(optimizer_step(LOSS, twin, undamped), 100).losses, losses[:100])


@claim(
    "linear-model/not-zeroing-grad-harms-training",
    finding="From any start and at any rate: along the stiffest direction the last swings are as wide as the first, "
    "or wider.",
    controls=[override("cleared each epoch", clear=zero_gradient)],
)
@settings(max_examples=10)
@given(values=starts, lr=st.floats(1e-4, 0.08), clear=st.just(leave_gradient))
def test_without_clearing_no_rate_settles(values, lr, clear):
    exact = QuadraticDynamics.from_regression(design_matrix(T_UN), T_C)
    trajectory = train(autograd_step(LOSS, start(values), lr, clear), 200).trajectory
    swings = ((trajectory - exact.minimiser) @ exact.eigenvectors[:, 0]).abs()
    assume(swings[0] > 1e-3)
    assert swings[-100:].max() > 0.5 * swings[:100].max()


@claim(
    "linear-model/no-grad-in-update-only-saves-cost",
    verdict=REFUTED,
    finding="It is required: without it autograd refuses the in-place update of a leaf, with a RuntimeError in the "
    "first epoch.",
    controls=[override("under no_grad", guard=torch.no_grad)],
)
def test_the_in_place_update_needs_no_grad(guard=nullcontext):
    params = start()
    LOSS(params).backward()
    with pytest.raises(RuntimeError, match="leaf Variable that requires grad"), guard():
        params -= 1e-2 * params.grad
    with torch.no_grad():
        params -= 1e-2 * params.grad
    assert params.requires_grad


def assign(params, lr):
    with torch.no_grad():
        return params - lr * params.grad


def assign_and_require_grad(params, lr):
    return assign(params, lr).requires_grad_()


@claim("linear-model/assignment-drops-requires-grad", controls=[override("in place", descend=descend_in_place)])
@settings(max_examples=40)
@given(values=starts, lr=rates, descend=st.just(assign))
def test_assignment_makes_a_tensor_without_gradient(values, lr, descend):
    params = start(values)
    LOSS(params).backward()
    moved = descend(params, lr)
    assert moved is not params
    assert not moved.requires_grad
    assert moved.grad is None


@claim(
    "linear-model/assignment-breaks-training",
    finding="The second epoch's backward finds nothing that requires a gradient. With requires_grad_() after it '=' "
    "trains as well.",
    controls=[override("'=' and requires_grad_()", descend=assign_and_require_grad)],
)
def test_assignment_fails_in_the_second_epoch(descend=assign):
    step = autograd_step(LOSS, start(), 1e-2, descend=descend)
    step()
    with pytest.raises(RuntimeError, match="does not require grad"):
        step()


def subtract_method(params, lr):
    with torch.no_grad():
        return params.sub_(lr * params.grad)


def copy_back(params, lr):
    with torch.no_grad():
        return params.copy_(params - lr * params.grad)


def through_data(params, lr):
    params.data = params.data - lr * params.grad
    return params


def fresh_leaf(params, lr):
    return (params - lr * params.grad).detach().requires_grad_()


def move_a_copy(params, lr):
    params.detach().clone().sub_(lr * params.grad)
    return params


@claim(
    "linear-model/minus-equals-is-the-only-way",
    verdict=REFUTED,
    finding="sub_, copy_, assignment to .data, and '=' followed by requires_grad_() take the same path as '-='. What "
    "counts is that the next epoch starts from a leaf that requires a gradient.",
    controls=[override("the update goes to a copy", descend=move_a_copy)],
)
@pytest.mark.parametrize("descend", [subtract_method, copy_back, through_data, assign_and_require_grad, fresh_leaf])
def test_other_ways_of_writing_the_update_train_as_well(descend):
    written_so = train(autograd_step(LOSS, start(), 1e-2, descend=descend), 100)
    in_place = train(autograd_step(LOSS, start(), 1e-2), 100)
    assert_close(written_so.trajectory, in_place.trajectory)


@claim(
    "linear-model/autograd-replaces-manual-without-change",
    verdict=REFUTED,
    finding="After 10,000 epochs the loss is 2.927645 instead of 4.154041. grad_fn's gradient is 11 times too small; "
    "with the sum over samples in its place, or 11 times its rate, the results are the same.",
    controls=[override("the sum over samples", rule=chain_rule)],
)
@settings(max_examples=10)
@given(values=starts, lr=rates, rule=st.just(averaged_chain_rule))
def test_autograd_takes_steps_eleven_times_as_long(values, lr, rule):
    automatic = train(autograd_step(LOSS, start(values), lr), 50)
    by_hand, at_eleven_times = (
        train(manual_step(partial(rule, x=T_UN, y=T_C), start(values).detach(), rate), 50) for rate in (lr, 11 * lr)
    )
    assert not torch.allclose(by_hand.losses, automatic.losses, rtol=1e-3)
    assert_close(at_eleven_times.trajectory, automatic.trajectory)
    summed = train(manual_step(partial(chain_rule, x=T_UN, y=T_C), start(values).detach(), lr), 50)
    assert_close(summed.trajectory, automatic.trajectory)


@claim(
    "linear-model/autograd-listing-runs-without-derivative-code",
    controls=[override("the manual listing", fit=fit_by_hand)],
)
def test_the_autograd_listing_never_calls_the_derivatives(monkeypatch, fit=fit_with_autograd):
    called = []
    monkeypatch.setattr(manual, "mse_derivative", lambda p, y: called.append("loss") or 2 * (p - y) / len(y))
    monkeypatch.setattr(manual, "linear_derivatives", lambda x: called.append("model") or (x, 1.0))
    history = fit(epochs=100)
    assert not called
    assert history.losses[-1] < history.losses[0] / 2
