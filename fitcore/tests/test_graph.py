"""The autograd graph, walked."""

import torch

from fitcore.gradients.graph import graph_edges, graph_leaves, graph_nodes


def test_a_leaf_and_a_constant_have_no_graph():
    assert graph_nodes(torch.ones(2, requires_grad=True)) == []
    assert graph_nodes(torch.ones(2) * 3) == []


def test_each_operation_and_each_leaf_is_a_node():
    x, w = torch.ones(2, requires_grad=True), torch.ones(2, requires_grad=True)
    names = [type(node).__name__ for node in graph_nodes((x * w).sum())]
    assert names == ["SumBackward0", "MulBackward0", "AccumulateGrad", "AccumulateGrad"]


def test_a_node_reached_twice_counts_once_and_its_edges_twice():
    y = torch.ones(2, requires_grad=True) * 3
    assert len(graph_nodes(y * y)) == 3
    assert [operand is y.grad_fn for _, operand in graph_edges(y * y)].count(True) == 2


def test_constant_operands_have_no_edge():
    assert len(graph_edges(torch.ones(2, requires_grad=True) * torch.ones(2))) == 1


def test_the_leaves_are_those_that_get_a_gradient():
    x, w, c = torch.ones(2, requires_grad=True), torch.ones(2, requires_grad=True), torch.ones(2)
    assert graph_leaves((x * w * c).sum()) == {x, w}
    assert graph_leaves(x) == graph_leaves(c * 2) == set()


def test_a_graph_deeper_than_the_recursion_limit_is_walked():
    x = torch.ones((), requires_grad=True)
    for _ in range(3_000):
        x = x + 1
    assert len(graph_edges(x)) == 3_000
