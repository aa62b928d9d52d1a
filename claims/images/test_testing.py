"""Sections 10.5 and 12.1: the test loop: its order, no_grad, eval() and the device."""

from functools import partial

import hypothesis.strategies as st
import pytest
import torch
from hypothesis import given, settings
from torch import nn
from torch.autograd.graph import saved_tensors_hooks
from torch.utils.data import DataLoader, TensorDataset

from fitcore.data import mnist
from fitcore.evaluation.memory import allocated_bytes
from fitcore.evaluation.passes import passes_and_backward, share_of_time, tracked_passes, untracked_passes
from fitcore.models import CNN, MLP
from fitcore.seeding import seeded
from fitcore.testing import CONDITIONAL, REFUTED, claim, error_of, override

document_cnn = partial(CNN, widths=(16, 32), hidden=None)
normalised_cnn = partial(CNN, widths=(16, 32), hidden=None, batch_norm=True)
cnn_with_dropout = partial(CNN, widths=(16, 32), hidden=32)


@torch.no_grad()
def answers(model, loader):
    """The class that each sample is taken for, in the order of the samples' numbers."""
    found = torch.empty(len(loader.dataset), dtype=torch.int64)
    for x, number in loader:
        found[number] = model(x).argmax(1)
    return found


@claim(
    "pytorch-notes/test-accuracy-independent-of-shuffle",
    finding="In each of four orders every digit is taken for the same. With batch normalisation left in training mode "
    "that depends on which digits share a batch.",
    controls=[override("batch normalisation, in training mode", network=normalised_cnn, batch_size=8)],
    trials=6,
)
def test_the_order_of_the_test_digits_does_not_change_the_accuracy(
    trials, data_root, evidence, network=document_cnn, batch_size=64
):
    digits = mnist(data_root, train=False)[:64]
    data = TensorDataset(digits.scaled.double(), torch.arange(64))  # in float64, where rounding decides no answer

    def in_four_orders(_):
        model = network().double()
        loaders = (DataLoader(data, batch_size, shuffle=shuffle) for shuffle in (False, True, True, True))
        return torch.stack([answers(model, loader) for loader in loaders])

    found = trials.map(in_four_orders)
    recognised = (found == digits.labels.numpy()).sum(2)
    evidence.observe("recognised, of 64 digits, by untrained networks", recognised[:, 0])
    trials.always((recognised == recognised[:, :1]).all(1), name="as many in every order")
    trials.always((found == found[:, :1]).all((1, 2)), name="and the same ones")


def kept_for_backward(model, x, guard):
    """Bytes of what a forward pass keeps besides parameters and images."""
    kept, existing = [], (x, *model.parameters())
    with guard(), saved_tensors_hooks(lambda tensor: kept.append(tensor) or tensor, lambda tensor: tensor):
        model(x)
    return allocated_bytes(*existing, *kept) - allocated_bytes(*existing)


@claim(
    "pytorch-notes/no-grad-saves-memory-10-5",
    finding="For 256 images the forward pass keeps 32 MiB for a backward pass, and under no_grad nothing.",
    controls=[override("gradients stay on", guard=torch.enable_grad)],
)
def test_under_no_grad_nothing_is_kept_of_256_images(evidence, guard=torch.no_grad):
    model, x = document_cnn(), torch.zeros(256, 1, 28, 28)
    tracked, untracked = (kept_for_backward(model, x, how) for how in (torch.enable_grad, guard))
    rows = [{"forward pass": "tracked", "MiB": tracked / 2**20}, {"forward pass": "no_grad", "MiB": untracked / 2**20}]
    evidence.table("kept for backward", rows)
    after_first_relu = 4 * 256 * 16 * 28 * 28
    assert tracked > after_first_relu
    assert untracked == 0


def intermediates(model, x):
    """The output of each layer, by hooks."""
    outputs = []
    layers = [layer for layer in model.modules() if not [*layer.children()]]
    hooks = [layer.register_forward_hook(lambda _, __, output: outputs.append(output)) for layer in layers]
    model(x)
    for hook in hooks:
        hook.remove()
    return outputs


def forward_only(outputs):
    """Leave it at the forward pass."""


def backward_keeping_gradients(outputs):
    for output in outputs:
        output.retain_grad()
    outputs[-1].sum().backward()


def gradients(outputs):
    """What has been stored so far; to ask for them from now on is what keeps torch from a warning."""
    for output in outputs:
        output.retain_grad()
    return [output.grad for output in outputs]


@claim(
    "pytorch-notes/no-grad-stores-gradients-of-intermediates",
    verdict=REFUTED,
    finding="It stores intermediate results, from which backward computes gradients; there are no gradients yet. Nor "
    "are those of intermediate results kept by backward, unless retain_grad() asks for it.",
    controls=[override("a backward pass that keeps them", then=backward_keeping_gradients)],
)
@settings(max_examples=10)
@given(seed=st.integers(0, 2**32 - 1), then=st.just(forward_only))
def test_a_forward_pass_stores_results_and_no_gradients(seed, then):
    with seeded(seed):
        model, x = CNN(8, widths=(2, 3), hidden=None), torch.randn(4, 1, 8, 8)
    assert kept_for_backward(model, x, torch.enable_grad) > 0
    outputs = intermediates(model, x)
    then(outputs)
    assert gradients(outputs) == [None] * len(outputs)
    outputs = intermediates(model, x)
    outputs[-1].sum().backward()
    assert gradients(outputs) == [None] * len(outputs)
    outputs = intermediates(model, x)
    backward_keeping_gradients(outputs)
    assert all(gradient is not None for gradient in gradients(outputs))


@claim(
    "pytorch-notes/no-grad-faster",
    verdict=CONDITIONAL,
    finding="Where layers have little to do, and bookkeeping counts: an MLP of twelve narrow layers takes about 0.7 of "
    "the time for a single image, on one thread. The CNN saves less than a quarter for 128 images, usually nothing: "
    "the operations are the same.",
    controls=[
        override("gradients stay on", forward=tracked_passes),
        override("backward in the CNN's tracked pass", tracked=passes_and_backward),
    ],
)
def test_no_grad_is_faster_for_one_image_and_not_for_a_batch(
    evidence, forward=untracked_passes, tracked=tracked_passes
):
    small = MLP([784, *[16] * 12, 10], nn.ReLU), torch.rand(1, 784)
    large = document_cnn(), torch.rand(128, 1, 28, 28)
    of_small = share_of_time(forward, tracked_passes, *small, calls=20, rounds=50)
    of_large = share_of_time(forward, tracked, *large, calls=1, rounds=6)
    rows = [{"network": "MLP, one image", "share": of_small}, {"network": "CNN, 128 images", "share": of_large}]
    evidence.table("time under no_grad over that of the tracked pass", rows)
    assert of_small < 0.85
    assert of_large > 0.75


LAYERS_WITH_MODES = {"dropout": cnn_with_dropout, "batch normalisation": normalised_cnn}


def by_mode(model, x):
    """Outputs in training and in evaluation mode."""
    with torch.no_grad():
        return model.train()(x), model.eval()(x)


@claim(
    "pytorch-notes/test-without-eval-mode-ok",
    verdict=CONDITIONAL,
    finding="For this network, to the bit: it has no layer that knows modes. With dropout or batch normalisation the "
    "outputs, and so the test results, are others without eval().",
    controls=[override("with batch normalisation", network=normalised_cnn)],
)
@pytest.mark.parametrize("layer", LAYERS_WITH_MODES)
@settings(max_examples=5)
@given(seed=st.integers(0, 2**32 - 1), network=st.just(document_cnn))
def test_testing_without_eval_gives_the_same_only_without_layers_that_know_modes(seed, layer, network):
    with seeded(seed):
        model, other, x = network(), LAYERS_WITH_MODES[layer](), torch.rand(64, 1, 28, 28)
        assert torch.equal(*by_mode(model, x))
        training, evaluation = by_mode(other, x)
    assert (training - evaluation).abs().max() > 1e-3


@claim(
    "pytorch-notes/eval-mode-changes-this-cnn",
    verdict=REFUTED,
    finding="It sets a flag that none of its layers reads: every output has the same bits, and so has every gradient.",
    controls=[
        override("with batch normalisation", network=normalised_cnn),
        override("with dropout", network=cnn_with_dropout),
    ],
)
@settings(max_examples=5)
@given(seed=st.integers(0, 2**32 - 1), network=st.just(document_cnn))
def test_eval_changes_no_output_of_this_network(seed, network):
    with seeded(seed):
        model, x = network(), torch.rand(16, 1, 28, 28)
        assert torch.equal(*by_mode(model, x))
        of_modes = [
            torch.autograd.grad(model.train(on)(x).square().sum(), [*model.parameters()]) for on in (True, False)
        ]
    assert not model.training
    assert all(map(torch.equal, *of_modes))


def gpu_if_there_is_one():
    return torch.device("cuda" if torch.cuda.is_available() else "cpu")


def meta_device():
    return torch.device("meta")


@claim(
    "pytorch-notes/listing-falls-back-to-cpu",
    finding="Where torch sees no GPU the expression is the CPU, and a training step and a test run there.",
    controls=[override("another device whatever there is", choose=meta_device)],
)
def test_without_a_gpu_the_listing_runs_on_the_cpu(monkeypatch, data_root, choose=gpu_if_there_is_one):
    monkeypatch.setattr("torch.cuda.is_available", lambda: False)
    device, digits = choose(), mnist(data_root)[:64]
    model = document_cnn().to(device)
    optimizer = torch.optim.Adam(model.parameters(), lr=0.001)
    assert device.type == "cpu"

    def step():
        loss = nn.functional.cross_entropy(model(digits.scaled.to(device)), digits.labels.to(device))
        loss.backward()
        optimizer.step()
        return (model.eval()(digits.scaled.to(device)).argmax(1) == digits.labels.to(device)).sum().item()

    assert error_of(step) is None
    monkeypatch.setattr("torch.cuda.is_available", lambda: True)
    assert choose().type == "cuda"
