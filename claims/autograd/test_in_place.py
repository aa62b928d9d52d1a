"""Sections 2.7 and 2.9: writing into tensors that autograd knows."""

from contextlib import nullcontext

import hypothesis.strategies as st
import pytest
import torch
from hypothesis import given, settings
from torch.autograd.graph import saved_tensors_hooks
from torch.testing import assert_close

from fitcore.gradients import central_difference
from fitcore.testing import CONDITIONAL, REFUTED, claim, error_of, override
from fitcore.testing.strategies import tensors

DOCUMENTED = torch.tensor([1.0, 2.0, 3.0])
OVERWRITTEN = "modified by an inplace operation"

vectors = st.just(DOCUMENTED) | tensors((3,))


@claim(
    "pytorch-notes/inplace-leaf-write-raises-at-once",
    verdict=CONDITIONAL,
    finding="Not as written: autograd refuses the assignment with a RuntimeError, x keeps its values, and the earlier "
    "graph still gives 2x. Under no_grad the write goes through, and then y = x², which had saved x, can't go "
    "backward.",
    controls=[override("under no_grad", guard=torch.no_grad)],
)
@settings(max_examples=40)
@given(values=vectors, guard=st.just(nullcontext))
def test_writing_to_a_leaf_is_refused_before_it_breaks_anything(values, guard):
    x = values.clone().requires_grad_()
    y = x**2
    with pytest.raises(RuntimeError, match="a view of a leaf Variable that requires grad"), guard():
        x[0] = 10.0
    assert torch.equal(x, values)
    y.sum().backward(retain_graph=True)
    assert torch.equal(x.grad, 2 * values)
    with torch.no_grad():
        x[0] = 10.0
    with pytest.raises(RuntimeError, match=OVERWRITTEN):
        y.sum().backward()


SQUARE, DOUBLE, EXP, SIN, SUMS = torch.square, lambda x: x * 2, torch.exp, torch.sin, lambda x: x.cumsum(0)


def writing_to_operand(operation, x):
    """The tensor to be written to, and the result."""
    operand = x * 1
    return operand, operation(operand)


def writing_to_result(operation, x):
    result = operation(x * 1)
    return result, result


def pairs(*cases):
    names = {SQUARE: "square", DOUBLE: "double", EXP: "exp", SIN: "sin", SUMS: "cumsum"}
    ids = [f"{names[operation]}-{written.__name__.replace('_', ' ')}" for operation, written in cases]
    return pytest.mark.parametrize(("operation", "written"), cases, ids=ids)


OVERWRITING_WHAT_WAS_SAVED = [(SQUARE, writing_to_operand), (SIN, writing_to_operand), (EXP, writing_to_result)]
OVERWRITING_NOTHING_SAVED = [
    (SQUARE, writing_to_result),
    (SIN, writing_to_result),
    (EXP, writing_to_operand),
    (DOUBLE, writing_to_operand),
    (DOUBLE, writing_to_result),
    (SUMS, writing_to_operand),
    (SUMS, writing_to_result),
]


def saves(operation, written, x):
    """Whether the tensor that is to be written to is among those saved for backward."""
    saved = []
    with saved_tensors_hooks(lambda kept: saved.append(kept.data_ptr()) or kept, lambda kept: kept):
        target, _ = written(operation, x)
    return target.data_ptr() in saved


def write(tensor):
    tensor[0] = 10.0


def write_unseen(tensor):
    """Past the version counter by which autograd notices writes."""
    tensor.data[0] = 10.0


@claim(
    "pytorch-notes/inplace-always-destroys-gradient",
    verdict=CONDITIONAL,
    finding="Where it overwrites a tensor that an operation has saved for its backward: the operand of x² or sin, the "
    "result of exp. Then backward raises, so that no wrong gradient goes unnoticed; a write through .data it doesn't "
    "see.",
    controls=[override("a write through .data", write=write_unseen)],
)
@pairs(*OVERWRITING_WHAT_WAS_SAVED)
@settings(max_examples=10)
@given(x=tensors((3,), torch.float64, requires_grad=True), write=st.just(write))
def test_overwriting_a_saved_tensor_stops_backward(x, write, operation, written):
    assert saves(operation, written, x)
    target, result = written(operation, x)
    write(target)
    assert OVERWRITTEN in str(error_of(result.sum().backward))
    assert x.grad is None


@claim(
    "pytorch-notes/inplace-always-destroys-gradient",
    verdict=CONDITIONAL,
    finding="Anything else may be overwritten: the gradient is that of what was computed, the write included (where an "
    "element of the result was overwritten it is 0), as central differences confirm.",
    controls=[override("an operand that was saved", operation=SIN, written=writing_to_operand)],
)
@pairs(*OVERWRITING_NOTHING_SAVED)
@settings(max_examples=10)
@given(x=tensors((3,), torch.float64, requires_grad=True))
def test_overwriting_what_was_not_saved_leaves_the_gradient_right(x, operation, written):
    def written_and_summed(point):
        target, result = written(operation, point)
        write(target)
        return result.sum()

    assert error_of(written_and_summed(x).backward) is None
    assert not saves(operation, written, x)
    assert_close(x.grad, central_difference(written_and_summed, x.detach(), delta=1e-4), rtol=1e-6, atol=1e-6)


@claim(
    "pytorch-notes/clone-then-write-is-safe",
    controls=[override("an alias in place of the clone", copy=torch.detach)],
)
@settings(max_examples=40)
@given(values=vectors, copy=st.just(torch.clone))
def test_writing_to_a_clone_leaves_leaf_and_graph_alone(values, copy):
    x = values.clone().requires_grad_()
    y = x**2
    x_new = copy(x)
    x_new[0] = 10.0
    assert torch.equal(x, values)
    assert x_new[0] == 10.0
    y.sum().backward()
    assert torch.equal(x.grad, 2 * values)


def detached_copy(y):
    return y.detach().clone()


@claim(
    "pytorch-notes/detach-copies-data",
    verdict=REFUTED,
    finding="The new tensor is a view of the same memory: writing 100 into it writes 100 into y. What it doesn't share "
    "is the history, as the document says. detach().clone() is independent.",
    controls=[override("followed by clone()", detach=detached_copy)],
)
@settings(max_examples=40)
@given(values=vectors, detach=st.just(torch.detach))
def test_a_detached_tensor_shares_its_memory(values, detach):
    y = values.clone().requires_grad_() ** 2
    independent = detached_copy(y)
    d = detach(y)
    d[0] = 100.0
    assert y[0] == 100.0
    assert d.data_ptr() == y.data_ptr()
    assert torch.equal(independent, values**2)


def leave_alone(x):
    """The forbidden line stays commented out."""


def three_traps(forbidden):
    """What the listing does: a write to a clone, a look at gradients, a gradient check."""
    x = DOCUMENTED.clone().requires_grad_()
    _ = x**2
    forbidden(x)
    x_new = x.clone()
    write(x_new)
    x = DOCUMENTED.clone().requires_grad_()
    y = x.sum()
    print(f"{y.requires_grad}, {x.grad}")
    y.backward()
    print(x.grad)
    x, eps = torch.tensor([1.5], requires_grad=True), 1e-5
    torch.sin(x).backward()
    numerical = (torch.sin(torch.tensor([1.5 + eps])) - torch.sin(torch.tensor([1.5 - eps]))) / (2 * eps)
    print(f"{x.grad.item():.8f}\n{numerical.item():.8f}\n{abs(x.grad.item() - numerical.item()):.10f}")


@claim(
    "pytorch-notes/listing-29-runs",
    finding="To the end. The gradient check prints 0.07073720, some 0.0715 and a difference of some 0.0008.",
    controls=[override("with the forbidden line", forbidden=write)],
)
def test_the_listing_of_three_traps_runs(capsys, forbidden=leave_alone):
    assert error_of(three_traps, forbidden) is None
    state, gradient, automatic, numerical, difference = capsys.readouterr().out.splitlines()
    assert (state, gradient) == ("True, None", "tensor([1., 1., 1.])")
    assert float(automatic) == pytest.approx(0.0707372, abs=2e-8)
    assert abs(float(numerical) - float(automatic)) == pytest.approx(float(difference), abs=1e-8)
