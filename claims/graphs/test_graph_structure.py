"""Sections 4.1 to 4.3: what the graph is made of, what backward does with it, and what it leaves out."""

import hypothesis.strategies as st
import pytest
import torch
from hypothesis import given
from torch.autograd.graph import Node

from fitcore.gradients.graph import graph_edges, graph_nodes
from fitcore.testing import CONDITIONAL, claim, override, replace
from fitcore.testing.strategies import dtypes, tensors

leaves = tensors(dtype=dtypes(integer=False), requires_grad=True)
scalars = tensors((), torch.float64, requires_grad=True)
single_numbers = tensors(st.sampled_from([(), (1,), (1, 1)]), torch.float64, requires_grad=True)


def keep(tensor):
    return tensor


def chain(x):
    """The document's y = 3x, z = y + 5, out = z²."""
    y = x * 3
    z = y + 5
    return y, z, z**2


def of_two_tracked(operation, a, b):
    return operation(a, b)


def of_one_constant(operation, a, b):
    return operation(a, b.detach())


def of_two_and_negated(operation, a, b):
    return -operation(a, b)


def evaluate(program, x, w, apply):
    """The results of operations each of which takes the latest tensor and an earlier one."""
    tensors = [x, w]
    for operation, earlier in program:
        tensors.append(apply(operation, tensors[-1], tensors[earlier % len(tensors)]))
    return tensors[2:]


programs = st.lists(
    st.tuples(st.sampled_from([torch.add, torch.mul, torch.sub, torch.div]), st.integers(0, 20)), min_size=1, max_size=8
)


@claim(
    "pytorch-notes/graph-nodes-tensors-edges-ops",
    verdict=CONDITIONAL,
    finding="As a drawing it is common and fair: each result has the one operation that made it. What PyTorch builds "
    "is another graph: grad_fn is a Node and stands for an operation (a leaf has a node AccumulateGrad), and "
    "next_functions are the edges, one for each tracked operand, so an operation on two tensors has two. Only in a "
    "chain, as the document's example is, do edges and operations come out equal in number.",
    controls=[
        override("one tracked operand each, a chain", apply=of_one_constant),
        override("two operations for each result", apply=of_two_and_negated),
    ],
)
@given(x=scalars, w=scalars, program=programs, apply=st.just(of_two_tracked))
def test_each_result_has_its_operation_for_a_node_and_each_operand_an_edge(x, w, program, apply):
    results = evaluate(program, x, w, apply)
    nodes = graph_nodes(results[-1])
    operations = [node for node in nodes if type(node).__name__ != "AccumulateGrad"]
    assert all(isinstance(node, Node) for node in nodes)
    assert len(operations) == len(program)
    assert set(operations) == {result.grad_fn for result in results}
    made_by = [type(result.grad_fn).__name__ for result in results]
    assert made_by == [f"{operation.__name__.capitalize()}Backward0" for operation, _ in program]
    assert len(graph_edges(results[-1])) == 2 * len(program)


def doubled(x, times):
    for _ in range(times):
        x = x * 2
    return x


RECORDED = torch.fx.symbolic_trace(lambda x: doubled(x, 3))


@claim(
    "pytorch-notes/graph-is-dynamic",
    controls=[override("a graph recorded beforehand", double=lambda x, times: RECORDED(x))],
)
@given(x=leaves, times=st.integers(0, 30), double=st.just(doubled))
def test_the_graph_is_as_long_as_the_loop_that_ran(x, times, double):
    names = [type(node).__name__ for node in graph_nodes(double(x, times) + 1)]
    assert names == ["AddBackward0", *["MulBackward0"] * times, "AccumulateGrad"]


@claim("pytorch-notes/graph-chain-mul-add-pow", controls=[override("x is a constant", tracked=False)])
@given(x=leaves, tracked=st.just(True))
def test_each_result_records_the_operation_that_made_it(x, tracked):
    names = [type(result.grad_fn).__name__ for result in chain(x.requires_grad_(tracked))]
    assert names == ["MulBackward0", "AddBackward0", "PowBackward0"]


@claim(
    "pytorch-notes/every-op-creates-new-tensor",
    verdict=CONDITIONAL,
    finding="True of the operations in the example, which leave their operand alone. An in-place one such as y.add_(5) "
    "returns y itself with new values and a new grad_fn, and contiguous() or to() with nothing to do returns it as it "
    "is.",
    controls=[override("nothing in place", in_place="")],
)
@given(x=leaves, operation=st.sampled_from(["add", "sub", "mul", "div"]), in_place=st.just("_"))
def test_a_step_makes_a_new_tensor_unless_it_is_in_place(x, operation, in_place):
    y = x * 3
    before = y.detach().clone()
    new = getattr(y, operation)(5.0)
    assert new is not y
    assert new.data_ptr() != y.data_ptr()
    assert torch.equal(y, before)
    assert getattr(y, operation + in_place)(5.0) is y
    assert torch.equal(y, new)
    assert type(y.grad_fn) is type(new.grad_fn)
    assert y.contiguous() is y.to(y.dtype) is y


def parents(tensor):
    return [parent for parent, _ in tensor.grad_fn.next_functions]


@claim("pytorch-notes/grad-fn-references-parents", controls=[override("y is detached", between=torch.Tensor.detach)])
@given(x=leaves, between=st.just(keep))
def test_the_node_of_a_result_leads_to_the_nodes_of_its_operands(x, between):
    y = x * 3
    z = between(y) * x
    out = z**2
    assert parents(out) == [z.grad_fn]
    assert parents(z)[0] is y.grad_fn
    assert parents(z)[1].variable is parents(y)[0].variable is x
    assert parents(y)[1] is None


def backward_from_two(tensor, gradient=None):
    torch.autograd.backward(tensor, torch.full_like(tensor, 2.0) if gradient is None else gradient)


@claim(
    "pytorch-notes/grads-of-3x-plus-5-squared",
    controls=[replace("torch.Tensor.backward", backward_from_two)],
)
def test_the_example_gives_22_22_and_66(evidence):
    x = torch.tensor([2.0], requires_grad=True)
    y, z, out = chain(x)
    y.retain_grad()
    z.retain_grad()
    out.backward()
    measured = torch.stack([out, z.grad, y.grad, x.grad])[:, 0]
    assert evidence.figure("out, its derivatives", reported=[121, 22, 22, 66], measured=measured, tolerance=0)


@claim(
    "pytorch-notes/backward-injects-one",
    finding="Checked bit by bit, and out.grad itself reads 1; with a gradient of g put in, everything is g times as "
    "large.",
    controls=[replace("torch.Tensor.backward", backward_from_two)],
)
@given(x=single_numbers, factor=st.integers(-9, 9))
def test_backward_starts_with_a_gradient_of_one(x, factor):
    def gradients(*injected):
        leaf = x.detach().clone().requires_grad_()
        *_, out = chain(leaf)
        out.retain_grad()
        out.backward(*injected)
        return torch.stack([out.grad, leaf.grad])

    assert (gradients()[0] == 1).all()
    assert torch.equal(gradients(), gradients(torch.ones_like(x)))
    assert torch.equal(gradients() * factor, gradients(torch.full_like(x, factor)))


@claim("pytorch-notes/requires-grad-false-is-constant", controls=[override("x requires a gradient", constant=False)])
@given(pair=tensors((2, 3), dtypes(integer=False)), constant=st.just(True))
def test_what_requires_no_gradient_is_a_constant(pair, constant):
    x, w = pair.clone().unbind()
    x.requires_grad_(not constant)
    w.requires_grad_()
    product = x * w
    assert [parent is None for parent, _ in product.grad_fn.next_functions] == [True, False]
    product.sum().backward()
    assert x.grad is None
    assert torch.equal(w.grad, x)


@claim("pytorch-notes/backward-on-constants-raises", controls=[override("x requires a gradient", tracked=True)])
@given(x=single_numbers, tracked=st.just(False))
def test_backward_through_constants_alone_is_an_error(x, tracked):
    result = x.detach().requires_grad_(tracked) * 3
    with pytest.raises(RuntimeError, match="does not require grad and does not have a grad_fn"):
        result.backward()
