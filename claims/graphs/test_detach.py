"""Sections 2.7 and 4.4.1: what detach cuts off, and what it leaves as it was."""

import hypothesis.strategies as st
import numpy as np
import pytest
import torch
from hypothesis import given
from torch import nn

from fitcore.gradients.graph import graph_nodes
from fitcore.testing import claim, override
from fitcore.testing.strategies import dtypes, tensors

detach = torch.Tensor.detach
leaves = tensors(dtype=dtypes(integer=False), requires_grad=True)


def keep(tensor):
    return tensor


@claim(
    "pytorch-notes/detach-new-tensor-no-history",
    finding="It is a new tensor over the memory of the old one: nothing is copied.",
    controls=[override("clone", cut=torch.clone)],
)
@given(x=leaves, cut=st.just(detach))
def test_detach_returns_the_same_values_without_history(x, cut):
    y = x**2
    z = cut(y)
    assert z is not y
    assert torch.equal(z, y)
    assert z.data_ptr() == y.data_ptr()
    assert (z.requires_grad, z.grad_fn) == (False, None)
    assert type(y.grad_fn).__name__ == "PowBackward0"


@claim(
    "pytorch-notes/detach-affects-only-itself",
    finding="True of tracking. The values stay shared: what is written into z in place stands in y as well.",
    controls=[override("detach_, in place", cut=torch.Tensor.detach_)],
)
@given(x=leaves, cut=st.just(detach))
def test_detaching_leaves_the_original_in_the_graph(x, cut):
    y = x * 3
    operation = y.grad_fn
    z = cut(y)
    assert not z.requires_grad
    assert not (z * 2).requires_grad
    assert y.requires_grad
    assert y.grad_fn is operation
    (y * 2).sum().backward()
    assert (x.grad == 6).all()
    z.fill_(7.0)
    assert (y == 7).all()


@claim("pytorch-notes/detached-factor-acts-as-constant", controls=[override("both factors tracked", cut=keep)])
@given(x=tensors(dtype=torch.float64, elements=st.integers(1, 9), requires_grad=True), cut=st.just(detach))
def test_a_detached_factor_counts_as_a_constant(x, cut):
    y = x * 3
    z = cut(y)
    (z * y).sum().backward()
    assert torch.equal(x.grad, 3 * z)
    assert not torch.equal(x.grad, 6 * y)


@claim("pytorch-notes/detach-stops-earlier-layer", controls=[override("nothing detached", cut=keep)])
def test_no_gradient_passes_a_detached_layer(trials, cut=detach):
    def outcome(seed):
        first, second = nn.Linear(3, 4), nn.Linear(4, 1)
        x = torch.randn(5, 3, requires_grad=True)
        out = second(cut(first(x)))
        out.sum().backward()
        stopped = all(tensor.grad is None for tensor in (x, *first.parameters()))
        reached = all(parameter.grad is not None for parameter in second.parameters())
        return torch.equal(out, second(first(x))), stopped, reached

    same_output, stopped, reached = trials.map(outcome).T
    trials.always(same_output, "the forward pass is the same")
    trials.always(stopped, "no gradient in the layer and before it")
    trials.always(reached, "gradients after it")


def run_in_chunks(carry, chunks=4, steps=5):
    """Hidden state of an RNN after each chunk, with ``carry`` applied to it between chunks."""
    cell, hidden, states = nn.RNNCell(3, 4), torch.zeros(1, 4), []
    for inputs in torch.randn(chunks, steps, 1, 3):
        hidden = carry(hidden)
        for x in inputs:
            hidden = cell(x, hidden)
        states.append(hidden)
    return cell, states


@claim(
    "pytorch-notes/detach-clears-rnn-history",
    controls=[override("carried over as it is", carry=keep)],
)
def test_detaching_between_chunks_keeps_the_graph_to_one_chunk(trials, evidence, carry=detach):
    def graph_sizes(carry):
        return trials.map(lambda seed: [len(graph_nodes(state)) for state in run_in_chunks(carry)[1]])

    detached, carried = graph_sizes(carry), graph_sizes(keep)
    sizes = {"detached": np.median(detached, 0), "carried over": np.median(carried, 0)}
    evidence.curve("nodes in the graph", range(1, 5), sizes, x_label="chunk")
    trials.always((detached[:, 1:] <= detached[:, :1]).all(1), "no longer than one chunk")
    trials.always((np.diff(carried) > 0).all(1), "carried over it grows")


def restart(cell, state):
    """What a chunk gives that begins with a given hidden state."""
    return cell(torch.ones(1, 3), state)


@claim(
    "pytorch-notes/detach-clears-rnn-history",
    finding="Each backward is that of a sequence that begins with the hidden state as a constant. Carried over "
    "undetached, the second chunk's backward fails: it runs into the first chunk, whose buffers are freed.",
    controls=[override("carried over as it is", carry=keep)],
)
def test_a_backward_sees_its_own_chunk_only(trials, carry=detach):
    def errors(seed):
        cell, (first, *_) = run_in_chunks(keep, chunks=1)
        weights = list(cell.parameters())
        alone = torch.autograd.grad(restart(cell, first.detach().clone()).sum(), weights)
        inside = torch.autograd.grad(restart(cell, carry(first)).sum(), weights, retain_graph=True)
        first.sum().backward()
        with pytest.raises(RuntimeError, match="a second time"):
            restart(cell, first).sum().backward()
        restart(cell, first.detach()).sum().backward()
        return max((a - b).abs().max() for a, b in zip(alone, inside, strict=True))

    trials.always(trials.map(errors) == 0, "the same gradient")
