"""Section 19: inference with eval() and no_grad(), each and both."""

from contextlib import nullcontext

import hypothesis.strategies as st
import torch
from hypothesis import given
from torch import nn

from fitcore.gradients.graph import graph_leaves
from fitcore.models import MLP
from fitcore.seeding import seeded
from fitcore.testing import CONDITIONAL, claim, override, replace

seeds = st.integers(0, 2**32 - 1)


def network(seed, batch_norm, dropout):
    """A network with or without the two layers that heed the mode, and inputs."""
    with seeded(seed):
        return MLP([20, 64, 64, 3], nn.ReLU, batch_norm, 0.5 if dropout else 0.0), torch.randn(8, 20)


def outputs(model, x, guard):
    with guard():
        return model(x)


def repeats(model, x, guard):
    """Whether the first sample comes out the same again, in other company."""
    return torch.allclose(outputs(model, x, guard)[0], outputs(model, x[:4], guard)[0], atol=1e-5)


def stay_in_training(module, mode=True):
    return module


@claim(
    "pytorch-notes/inference-needs-eval-and-no-grad",
    verdict=CONDITIONAL,
    finding="For both of the document's reasons together, yes: eval() settles the outputs, no_grad saves the cost. "
    "With dropout or BatchNorm the outputs depend on chance or on the batch until eval() is called, with no_grad or "
    "without. A network without such layers doesn't need it.",
    controls=[
        replace("torch.nn.Module.train", stay_in_training),
    ],
)
@given(
    seed=seeds,
    batch_norm=st.booleans(),
    dropout=st.booleans(),
    guard=st.sampled_from([torch.no_grad, torch.inference_mode, nullcontext]),
)
def test_eval_is_what_settles_the_outputs(seed, batch_norm, dropout, guard):
    model, x = network(seed, batch_norm, dropout)
    assert repeats(model.train(), x, guard) == (not batch_norm and not dropout)
    assert repeats(model.eval(), x, guard)


@claim(
    "pytorch-notes/inference-needs-eval-and-no-grad",
    verdict=CONDITIONAL,
    finding="For the cost no_grad alone: without it the graph of a pass leads to all parameters, in evaluation too. "
    "It changes no bit of the outputs, and inference_mode does the same.",
    controls=[override("no guard", guard=nullcontext)],
)
@given(
    seed=seeds,
    batch_norm=st.booleans(),
    dropout=st.booleans(),
    guard=st.sampled_from([torch.no_grad, torch.inference_mode]),
)
def test_no_grad_is_what_saves_the_graph(seed, batch_norm, dropout, guard):
    model, x = network(seed, batch_norm, dropout)
    recorded, unrecorded = model.eval()(x), outputs(model, x, guard)
    assert graph_leaves(recorded) == set(model.parameters())
    assert unrecorded.grad_fn is None
    assert torch.equal(unrecorded, recorded)
