"""The autograd graph behind a tensor: its nodes are operations, its edges lead to where their operands came from."""

from torch import Tensor
from torch.autograd.graph import Node


def graph_nodes(tensor: Tensor) -> list[Node]:
    """Every node that ``tensor.backward()`` would visit, each once; an ``AccumulateGrad`` stands for each leaf.

    Depth first from the tensor's own operation. A leaf and a constant have none.

    Source: https://docs.pytorch.org/docs/stable/notes/autograd.html, "How autograd encodes the history".
    """
    pending = [] if tensor.grad_fn is None else [tensor.grad_fn]
    visited: dict[Node, None] = {}
    while pending:
        node = pending.pop()
        if node not in visited:
            visited[node] = None
            pending.extend(_operands(node))
    return list(visited)


def graph_edges(tensor: Tensor) -> list[tuple[Node, Node]]:
    """The edges between `graph_nodes`, from an operation to its operands', one for each operand that is tracked."""
    return [(node, operand) for node in graph_nodes(tensor) for operand in _operands(node)]


def graph_leaves(tensor: Tensor) -> set[Tensor]:
    """The leaves whose ``grad`` a ``tensor.backward()`` would fill; of a constant none, of a leaf none either."""
    return {node.variable for node in graph_nodes(tensor) if hasattr(node, "variable")}


def _operands(node: Node) -> list[Node]:
    return [operand for operand, _ in node.next_functions if operand is not None]
