"""Section 5: what torch.no_grad() spares a forward pass: the graph, memory, and hardly any arithmetic."""

import pytest
import torch
from torch import nn
from torch.autograd.graph import saved_tensors_hooks
from torch.utils.flop_counter import FlopCounterMode

from fitcore.evaluation.memory import allocated_bytes
from fitcore.evaluation.passes import passes_and_backward, share_of_time, tracked_passes, untracked_passes
from fitcore.models import CNN, MLP
from fitcore.testing import CONDITIONAL, REFUTED, claim, override


def fully_connected():
    return nn.Sequential(nn.Flatten(), MLP([784, 256, 128, 10], nn.ReLU, dropout=0.3))


def images():
    return torch.zeros(32, 1, 28, 28)


@claim("pytorch-notes/no-grad-output-has-no-graph", controls=[override("gradients stay on", guard=torch.enable_grad)])
@pytest.mark.parametrize("make", [CNN, fully_connected], ids=["CNN", "Classifier"])
@pytest.mark.parametrize("mode", [True, False], ids=["train", "eval"])
def test_the_output_under_no_grad_has_no_graph(make, mode, guard=torch.no_grad):
    model = make().train(mode)
    assert model(images()[:2]).requires_grad
    with guard():
        output = model(images()[:2])
    assert (output.requires_grad, output.grad_fn) == (False, None)


def kept_for_backward(model, x, guard):
    """Bytes of what a forward pass saves for backward, besides parameters and input."""
    saved, existing = [], (x, *model.parameters())
    with guard(), saved_tensors_hooks(lambda tensor: saved.append(tensor) or tensor, lambda tensor: tensor):
        model(x)
    return allocated_bytes(*existing, *saved) - allocated_bytes(*existing)


@claim(
    "pytorch-notes/no-grad-saves-memory-5",
    finding="The CNN keeps 9.3 MiB for the backward pass of a batch of 32, in eval mode as in training; nothing of it "
    "under no_grad.",
    controls=[override("gradients stay on", guard=torch.enable_grad)],
)
@pytest.mark.parametrize("mode", [True, False], ids=["train", "eval"])
def test_under_no_grad_a_forward_pass_keeps_nothing(mode, evidence, guard=torch.no_grad):
    model = CNN().train(mode)
    tracked, untracked = (kept_for_backward(model, images(), how) for how in (torch.enable_grad, guard))
    rows = [{"forward pass": "tracked", "MiB": tracked / 2**20}, {"forward pass": "no_grad", "MiB": untracked / 2**20}]
    evidence.table("kept for backward", rows)
    first_layer = 4 * 32 * 32 * 28 * 28
    assert tracked > first_layer
    assert untracked == 0


def operations(forward, model, x):
    """Floating-point operations of convolutions and matrix products."""
    with FlopCounterMode(display=False) as counter:
        forward(model, x)
    return counter.get_total_flops()


def tracked_forward(model, x):
    return model(x)


def tracked_forward_and_backward(model, x):
    model(x).sum().backward()


def untracked_forward(model, x):
    with torch.no_grad():
        return model(x)


@claim(
    "pytorch-notes/no-grad-saves-forward-compute",
    verdict=REFUTED,
    finding="The forward pass has 496 million floating-point operations with gradients and without. The backward pass, "
    "which an evaluation doesn't run anyway, would add nearly twice as many.",
    controls=[override("backward included", tracked=tracked_forward_and_backward)],
)
def test_the_forward_pass_has_as_many_operations_under_no_grad(evidence, tracked=tracked_forward):
    model = CNN().eval()
    passes = {"tracked": tracked, "under no_grad": untracked_forward, "with backward": tracked_forward_and_backward}
    counts = {name: operations(run, model, images()) for name, run in passes.items()}
    rows = [{"pass": name, "million operations": count / 1e6} for name, count in counts.items()]
    evidence.table("convolutions and matrix products, batch of 32", rows)
    assert counts["under no_grad"] == counts["tracked"] > 4e8
    assert counts["with backward"] > 2.5 * counts["tracked"]


def small_network():
    return MLP([1, 10, 1], nn.ReLU).eval(), torch.ones(3, 1)


def cnn_on_a_batch():
    return CNN().eval(), images()


@claim(
    "pytorch-notes/no-grad-saves-compute",
    verdict=CONDITIONAL,
    finding="What it saves is bookkeeping, a microsecond or two a layer: a quarter to three tenths of the time of the "
    "1-10-1 network on three numbers, and next to nothing for the CNN on a batch of 32, whose forward pass has the "
    "same operations either way. Most would be saved by not calling backward, which needs no no_grad.",
    controls=[
        override("gradients stay on", forward=tracked_passes),
        override("backward in the CNN's tracked pass", tracked=passes_and_backward),
    ],
)
def test_no_grad_saves_time_where_layers_have_little_to_do(evidence, forward=untracked_passes, tracked=tracked_passes):
    of_small = share_of_time(forward, tracked_passes, *small_network(), calls=20, rounds=200)
    of_large = share_of_time(forward, tracked, *cnn_on_a_batch(), calls=1, rounds=8)
    rows = [{"network": "1-10-1, 3 numbers", "share": of_small}, {"network": "CNN, 32 images", "share": of_large}]
    evidence.table("time of the forward pass under no_grad over that of the tracked one", rows)
    assert of_small < 0.85
    assert of_large > 0.65
