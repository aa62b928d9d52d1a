"""Sections 4.4.2 and 4.6: why the update of w and b stands under no_grad, and what would happen without."""

from contextlib import nullcontext

import hypothesis.strategies as st
import pytest
import torch
from hypothesis import given, settings

from fitcore.gradients import mse
from fitcore.gradients.graph import graph_edges, graph_leaves
from fitcore.testing import CONDITIONAL, claim, override
from fitcore.testing.strategies import tensors

X = torch.linspace(0, 10, 20).unsqueeze(1)
Y = 3 * X + 2
LR = 0.01

starts = tensors((2,), elements=st.floats(-5, 5, width=32))


def with_gradients(start):
    """w and b (1,), leaves with the gradient of the document's loss at ``start`` (2,)."""
    w, b = (value.clone().requires_grad_() for value in start.split(1))
    mse(X * w + b, Y).backward()
    return w, b


@claim(
    "pytorch-notes/no-grad-update-keeps-leaf",
    controls=[override("a new tensor", update=torch.sub)],
)
@given(start=starts, update=st.just(torch.Tensor.sub_))
def test_a_parameter_updated_under_no_grad_stays_a_leaf(start, update):
    w, _ = with_gradients(start)
    step = LR * w.grad
    with torch.no_grad():
        w = update(w, step)
    assert torch.equal(w, start[:1] - step)
    assert (w.is_leaf, w.requires_grad, w.grad_fn) == (True, True, None)


def gradients_off():
    return torch.set_grad_enabled(False)


@claim(
    "pytorch-notes/updating-without-no-grad-raises",
    finding="RuntimeError: a leaf Variable that requires grad is being used in an in-place operation, in the first "
    "epoch. What matters is that gradients are off: inference_mode and set_grad_enabled(False) do as well.",
    controls=[override("gradients off outside too", outside=torch.no_grad)],
)
@pytest.mark.parametrize("inside", [torch.no_grad, torch.inference_mode, gradients_off])
@settings(max_examples=10)
@given(start=starts, outside=st.just(nullcontext))
def test_the_update_in_place_needs_gradients_off(inside, start, outside):
    w, b = with_gradients(start)
    with pytest.raises(RuntimeError, match="leaf Variable that requires grad"), outside():
        w -= LR * w.grad
    with pytest.raises(RuntimeError, match="leaf Variable that requires grad"), outside():
        b -= LR * b.grad
    assert torch.equal(torch.cat([w, b]), start)
    with inside():
        w -= LR * w.grad
        b -= LR * b.grad
    assert torch.equal(torch.cat([w, b]), start - LR * torch.cat([w.grad, b.grad]))


def subtract_in_place(params, gradient):
    params -= LR * gradient
    return params


def track(params, gradient):
    return params - LR * gradient


def do_not_track(params, gradient):
    return (params - LR * gradient).detach().requires_grad_()


def descend(start, update, epochs, of=-1, create_graph=False):
    """Parameters (w, b) after 0, 1, ... updates as ``update`` leaves them, and the gradient before each update.

    The gradient is with respect to the parameters after ``of`` updates, by default the current ones.
    """
    path, gradients = [start.clone().requires_grad_()], []
    for _ in range(epochs):
        w, b = path[-1].unbind()
        gradients += torch.autograd.grad(mse(X * w + b, Y), path[of], create_graph=create_graph)
        path.append(update(path[-1], gradients[-1]))
    return path, torch.stack(gradients)


IN_PLACE_RAISES = "The update in place, as the listing has it, raises in its first epoch."


def assert_in_place_update_raises(start):
    with pytest.raises(RuntimeError, match="leaf Variable that requires grad"):
        descend(start, subtract_in_place, epochs=1)


@claim(
    "pytorch-notes/without-no-grad-graph-grows",
    verdict=CONDITIONAL,
    finding="True where each update makes a new tensor, w = w - lr * grad, with a gradient from torch.autograd.grad "
    "(backward() would leave the .grad of such a w None): one operation more behind them each epoch. "
    + IN_PLACE_RAISES
    + " There nothing can grow.",
    controls=[override("not tracked", update=do_not_track)],
)
@settings(max_examples=10)
@given(start=starts, update=st.just(track))
def test_tracked_updates_lengthen_the_graph(start, update, evidence):
    path, _ = descend(start, update, epochs=20)
    edges = [len(graph_edges(params)) for params in path]
    evidence.curve("edges behind w and b", range(21), {"tracked": edges}, x_label="epoch")
    assert edges == list(range(21))
    untracked, _ = descend(start, do_not_track, epochs=20)
    assert not any(graph_edges(params) for params in untracked)
    assert_in_place_update_raises(start)


@claim(
    "pytorch-notes/without-no-grad-update-enters-gradient",
    verdict=CONDITIONAL,
    finding="True where each update makes a new tensor, w = w - lr * grad, with a gradient from torch.autograd.grad "
    "(backward() would leave the .grad of such a w None): backward goes on through all the updates to the first w. "
    + IN_PLACE_RAISES,
    controls=[override("not tracked", update=do_not_track)],
)
@settings(max_examples=10)
@given(start=starts, epochs=st.integers(1, 20), update=st.just(track))
def test_backward_goes_through_tracked_updates(start, epochs, update):
    path, _ = descend(start, update, epochs)
    w, b = path[-1].unbind()
    loss = mse(X * w + b, Y)
    (at_the_current,) = torch.autograd.grad(loss, path[-1], retain_graph=True)
    assert graph_leaves(loss) == {path[0]}
    loss.backward()
    assert torch.equal(path[0].grad, at_the_current)
    assert_in_place_update_raises(start)


@claim(
    "pytorch-notes/without-no-grad-next-gradient-is-disturbed",
    verdict=CONDITIONAL,
    finding="It disturbs what backward() leaves, and so the document's loop: after w = w - lr * w.grad the new w is no "
    "leaf, its .grad stays None, and its gradient is added to that of the old w. "
    + IN_PLACE_RAISES
    + " The gradient itself is not disturbed: torch.autograd.grad gives the same with respect to the current w and b, "
    "bit by bit, in every step.",
    controls=[
        override("not tracked", update=do_not_track),
        override("through the updates, to the first w and b", of=0, create_graph=True, epochs=3),
    ],
)
@settings(max_examples=10)
@given(start=starts, update=st.just(track), epochs=st.just(20), of=st.just(-1), create_graph=st.just(False))
def test_tracked_updates_take_the_next_gradient_elsewhere(start, update, epochs, of, create_graph):
    old = start.clone().requires_grad_()
    mse(X * old[0] + old[1], Y).backward()
    new, first = update(old, old.grad), old.grad.clone()
    loss = mse(X * new[0] + new[1], Y)
    (second,) = torch.autograd.grad(loss, new, retain_graph=True)
    loss.backward()
    assert not new.is_leaf
    with pytest.warns(UserWarning, match="not a leaf Tensor"):
        assert new.grad is None
    assert torch.equal(old.grad, first + second)
    _, tracked = descend(start, update, epochs, of, create_graph)
    _, untracked = descend(start, do_not_track, epochs)
    assert torch.equal(tracked, untracked)
    assert_in_place_update_raises(start)
