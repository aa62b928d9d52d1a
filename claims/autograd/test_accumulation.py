"""Sections 2.4.2, 2.5 and 2.6: gradients add up until they are cleared."""

import hypothesis.strategies as st
import pytest
import torch
from hypothesis import assume, given, settings

from fitcore.gradients import gradient, mse
from fitcore.models import linear
from fitcore.testing import CONDITIONAL, REFUTED, claim, error_of, override, replace
from fitcore.testing.strategies import tensors
from fitcore.training import autograd_step, train, zero_gradient

numbers = tensors((), torch.float64)


def leave_gradient(x):
    """Let it accumulate."""


def set_to_none(x):
    x.grad = None


def gradients_of_square(start, clear=leave_gradient, passes=3, **backward):
    """What ``x.grad`` shows after each of the passes, in which y = x² is computed and goes backward."""
    x, shown = start.clone().requires_grad_(), []
    for _ in range(passes):
        clear(x)
        (x**2).backward(**backward)
        shown.append(x.grad.clone())
    return torch.stack(shown)


@claim(
    "pytorch-notes/grads-accumulate-over-backward",
    controls=[override("cleared before each", clear=zero_gradient)],
)
@given(first=tensors((3,), torch.float64), second=tensors((3,), torch.float64), clear=st.just(leave_gradient))
def test_each_backward_adds_its_gradient(first, second, clear):
    w = torch.ones(3, dtype=torch.float64, requires_grad=True)
    (w * first).sum().backward()
    clear(w)
    (w**2 * second).sum().backward()
    assert torch.equal(w.grad, first + 2 * second)


@claim(
    "pytorch-notes/accumulation-figures-2-4-6",
    verdict=REFUTED,
    finding="The gradients add up, but each is 2x = 4, not 2: the listing prints 4, 8 and 12. 2 + 2 + 2 = 6 would be "
    "right at x = 1.",
    controls=[override("cleared before each", clear=zero_gradient)],
)
def test_three_passes_at_two_show_4_8_and_12(evidence, clear=leave_gradient):
    shown = gradients_of_square(torch.tensor(2.0), clear, retain_graph=True)
    assert not evidence.figure("x.grad after each pass", reported=[2, 4, 6], measured=shown, tolerance=0.5)
    assert shown.tolist() == [4, 8, 12]
    assert gradients_of_square(torch.tensor(1.0), clear).tolist() == [2, 4, 6]


@claim(
    "pytorch-notes/cleared-gradient-is-2-each-time",
    verdict=REFUTED,
    finding="It is the same in each iteration, but 4: the derivative of x² at 2 is 2x = 4. It would be 2 at x = 1.",
    controls=[override("never cleared", clear=leave_gradient)],
)
def test_each_cleared_pass_at_two_shows_4(evidence, clear=zero_gradient):
    shown = gradients_of_square(torch.tensor(2.0), clear)
    assert not evidence.figure("x.grad after each pass", reported=[2, 2, 2], measured=shown, tolerance=0.5)
    assert shown.tolist() == [4, 4, 4]
    assert gradients_of_square(torch.tensor(1.0), clear).tolist() == [2, 2, 2]


def recomputed(x):
    return [x**2 for _ in range(3)]


def computed_once(x):
    return [x**2] * 3


@claim(
    "pytorch-notes/retain-graph-needed-in-loop",
    verdict=REFUTED,
    finding="Each pass of the loop computes y anew, with a graph of its own: without retain_graph=True it shows the "
    "same gradients. It is needed where y is computed once, before the loop.",
    controls=[override("y computed before the loop", outputs=computed_once)],
)
@settings(max_examples=40)
@given(start=st.just(torch.tensor(2.0)) | numbers, outputs=st.just(recomputed))
def test_the_loop_does_without_retain_graph(start, outputs):
    x = start.clone().requires_grad_()
    assert [error_of(y.backward) for y in outputs(x)] == [None] * 3
    assert torch.equal(x.grad, gradients_of_square(start, retain_graph=True)[-1])
    assert ["a second time" in str(error_of(y.backward)) for y in computed_once(x)] == [False, True, True]


@claim(
    "pytorch-notes/skipping-zero-doubles-gradient",
    finding="[4, 8, 12] at [1, 2, 3].",
    controls=[override("zeroed in between", clear=zero_gradient)],
)
@settings(max_examples=40)
@given(values=st.just(torch.tensor([1.0, 2.0, 3.0])) | tensors((3,)), clear=st.just(leave_gradient))
def test_without_zeroing_the_second_method_doubles_the_gradient(values, clear):
    assume(values.any())
    x = values.clone().requires_grad_()
    y = x**2
    y.sum().backward(retain_graph=True)
    once = x.grad.clone()
    clear(x)
    y.backward(torch.ones(3))
    assert torch.equal(x.grad, 2 * once)
    assert torch.equal(once, 2 * values)


@claim(
    "pytorch-notes/must-clear-before-every-backward",
    verdict=CONDITIONAL,
    finding="Where each batch is to have its own gradient: what an uncleared one holds is off by the whole of the "
    "earlier gradient. Where several batches are to make one step it is wrong to clear: four micro-batches of 8, each "
    "loss divided by 4, add up to the gradient of the batch of 32, to 1e-15.",
    trials=20,
    controls=[override("cleared before each", clear=zero_gradient)],
)
def test_uncleared_gradients_are_wrong_for_a_batch_and_right_for_its_parts(trials, evidence, clear=leave_gradient):
    def relative_errors(seed):
        x, y = torch.randn(32, 4, dtype=torch.float64), torch.randn(32, dtype=torch.float64)
        w = torch.randn(4, dtype=torch.float64, requires_grad=True)
        whole = gradient(lambda w: mse(x @ w, y), w)
        for part_x, part_y in zip(x.chunk(4), y.chunk(4), strict=True):
            clear(w)
            (mse(part_x @ w, part_y) / 4).backward()
        from_parts = w.grad.clone()
        clear(w)
        mse(x @ w, y).backward()
        return torch.stack([from_parts - whole, w.grad - whole]).norm(dim=1) / whole.norm()

    of_parts, of_next_batch = trials.map(relative_errors).T
    evidence.compare(
        "relative error of the uncleared gradient",
        {"four micro-batches against their batch": of_parts, "the next batch": of_next_batch},
    )
    trials.always(of_parts < 1e-10, "micro-batches add up to the batch")
    trials.always(abs(of_next_batch - 1) < 1e-10, "the next batch's gradient is off by the earlier one")


@claim(
    "pytorch-notes/grad-reset-line-as-code",
    verdict=CONDITIONAL,
    finding="Read as Python it assigns to x.grad what 'None or optimizer.zero_grad()' yields: zero_grad() is always "
    "called, and returns None. So it clears where there is an optimizer, all of its parameters, and raises NameError "
    "where there is none, as in the document up to there. As prose, 'either of the two', each half clears.",
    controls=[override("'and' in place of 'or'", line="x.grad = None and optimizer.zero_grad()")],
)
def test_the_reset_line_needs_an_optimizer(line="x.grad = None or optimizer.zero_grad()"):
    x, other = torch.tensor([3.0], requires_grad=True), torch.tensor([4.0], requires_grad=True)
    (x * other).backward()
    with pytest.raises(NameError, match="'optimizer' is not defined"):
        exec(line, {"x": x})
    assert (x.grad, other.grad) == (4.0, 3.0)
    exec(line, {"x": x, "optimizer": torch.optim.SGD([x, other], lr=0.1)})
    assert x.grad is None
    assert other.grad is None
    (x * other).backward()
    set_to_none(x)
    assert (x.grad, other.grad) == (None, 3.0)


zero_grad = torch.optim.Optimizer.zero_grad


@claim(
    "pytorch-notes/zero-grad-sets-none-by-default",
    verdict=REFUTED,
    finding="It sets them to None; to zeros only with set_to_none=False, which was the default before torch 2.0.",
    controls=[
        replace(
            "torch.optim.Optimizer.zero_grad",
            lambda optimizer, set_to_none=False: zero_grad(optimizer, set_to_none),
            name="the default before torch 2.0",
        )
    ],
)
@pytest.mark.parametrize(
    "make", [torch.optim.SGD, torch.optim.Adam, torch.optim.AdamW, torch.optim.RMSprop, torch.optim.Adagrad]
)
@settings(max_examples=10)
@given(parameter=tensors(requires_grad=True))
def test_zero_grad_leaves_none(parameter, make):
    optimizer = make([parameter])
    (parameter**2).sum().backward()
    optimizer.zero_grad()
    assert parameter.grad is None
    (parameter**2).sum().backward()
    optimizer.zero_grad(set_to_none=False)
    assert torch.equal(parameter.grad, torch.zeros_like(parameter))


def halve(parameter):
    if parameter.grad is not None:
        parameter.grad /= 2


@claim(
    "pytorch-notes/grad-none-equals-grad-zero-handwritten",
    finding="The same bits in w and b after each of the 100 steps.",
    trials=20,
    controls=[override("half of it left", clear=halve)],
)
def test_clearing_by_none_and_by_zeros_take_the_same_path(trials, clear=zero_gradient):
    def same(seed):
        x, start = torch.randn(10), torch.randn(2)
        by_none, by_zeros = (
            train(autograd_step(lambda p: mse(linear(x, *p), 3 * x + 1), start.clone().requires_grad_(), 0.1, way), 100)
            for way in (set_to_none, clear)
        )
        return torch.equal(by_none.trajectory, by_zeros.trajectory)

    trials.always(trials.map(same))
