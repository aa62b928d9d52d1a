"""Section 5.6: what torchsummary says of a network, and what it does to it."""

import io
from contextlib import redirect_stdout
from functools import partial

import hypothesis.strategies as st
import pytest
import torch
from hypothesis import given
from torch import nn
from torch.nn import functional

from fitcore.models import CNN, RecurrentModel, number_of_parameters
from fitcore.testing import CONDITIONAL, REFUTED, claim, error_of, override, replace
from fitcore.testing.strategies import shapes

IMAGE = (1, 28, 28)


@pytest.fixture(scope="session")
def summary(torchsummary):
    """That of the package, told to stay on the CPU."""
    return partial(torchsummary.summary, device="cpu")


class FunctionalCNN(nn.Module):
    """The network of 5.2.2, with the activations as functions and one pooling layer for all."""

    def __init__(self):
        super().__init__()
        self.conv1 = nn.Conv2d(1, 32, 3, padding=1)
        self.conv2 = nn.Conv2d(32, 64, 3, padding=1)
        self.conv3 = nn.Conv2d(64, 128, 3, padding=1)
        self.pool = nn.MaxPool2d(2, 2)
        self.fc1 = nn.Linear(128 * 3 * 3, 256)
        self.fc2 = nn.Linear(256, 10)
        self.dropout = nn.Dropout(0.5)

    def forward(self, x):
        for convolution in (self.conv1, self.conv2, self.conv3):
            x = self.pool(functional.relu(convolution(x)))
        x = self.dropout(functional.relu(self.fc1(x.flatten(1))))
        return functional.log_softmax(self.fc2(x), dim=1)


def as_it_is(model):
    return model


def frozen(model):
    return model.requires_grad_(False)


def with_activations_as_modules(model):
    return CNN()


@claim(
    "pytorch-notes/summary-reports-390410-parameters",
    finding="Nine calls of layers: the one pooling layer is listed three times, and functions (ReLU, log-softmax) "
    "never, though they too are layers of the network. With a module for each ReLU and pooling it has thirteen.",
    controls=[
        override("frozen", prepare=frozen),
        override("activations as modules", prepare=with_activations_as_modules),
    ],
)
def test_the_summary_has_nine_layers_and_all_parameters(summary, evidence, capsys, prepare=as_it_is):
    summary(prepare(FunctionalCNN()), IMAGE)
    lines = capsys.readouterr().out.splitlines()
    layers = [line.split(maxsplit=1) for line in lines if "[" in line]
    evidence.table("the summary", [{"layer": name, "output shape and parameters": rest} for name, rest in layers])
    totals = [line for line in lines if "params: " in line]
    assert totals == ["Total params: 390,410", "Trainable params: 390,410", "Non-trainable params: 0"]
    kinds = ["Conv2d", "MaxPool2d"] * 3 + ["Linear", "Dropout", "Linear"]
    assert [name for name, _ in layers] == [f"{kind}-{number}" for number, kind in enumerate(kinds, 1)]


def one_size(*size):
    return size


def with_batch_axis(*size):
    return 1, *size


@claim(
    "pytorch-notes/summary-input-size-excludes-batch",
    finding="summary puts a batch of two before it. With (1, 1, 28, 28) the first convolution meets five dimensions "
    "and refuses them.",
    controls=[override("the batch axis given too", size_of=with_batch_axis)],
)
@given(size=shapes(min_dims=1, max_dims=3), size_of=st.just(one_size))
def test_summary_adds_the_batch_axis_to_the_size(summary, size, size_of):
    seen = []
    model = nn.Sequential(nn.PReLU())
    model.register_forward_pre_hook(lambda _, inputs: seen.append(tuple(inputs[0].shape)))
    with redirect_stdout(io.StringIO()):
        summary(model, size_of(*size))
    assert seen == [(2, *size)]
    error = error_of(summary, nn.Sequential(nn.Conv2d(1, 2, 3)), (1, *IMAGE))
    assert "[2, 1, 1, 28, 28]" in str(error)


def state_of(model):
    """Tensors, mode and hooks of a model."""
    hooks = [len(module._forward_hooks) for module in model.modules()]
    return model.training, hooks, {name: tensor.clone() for name, tensor in model.state_dict().items()}


def kept_by(summary, model, size=IMAGE):
    """Names of what a summary, fail or not, leaves as it was: tensors, "mode" and "hooks"."""
    mode, hooks, tensors = state_of(model)
    with redirect_stdout(io.StringIO()):
        error_of(summary, model, size)
    mode_after, hooks_after, after = state_of(model)
    return {
        *(["mode"] if mode == mode_after else []),
        *(["hooks"] if hooks == hooks_after else []),
        *(name for name, tensor in tensors.items() if torch.equal(tensor, after[name])),
    }


def normalised():
    return nn.Sequential(nn.Conv2d(1, 4, 3), nn.BatchNorm2d(4))


class Recurrent(nn.Module):
    """An LSTM that hands on its outputs alone."""

    def __init__(self):
        super().__init__()
        self.lstm = nn.LSTM(8, 16, batch_first=True)

    def forward(self, x):
        return self.lstm(x)[0]


STATISTICS = {"1.running_mean", "1.running_var", "1.num_batches_tracked"}


@claim(
    "pytorch-notes/summary-leaves-the-model-untouched",
    verdict=CONDITIONAL,
    finding="Of the document's network it changes nothing. But it passes random numbers through a model in the model's "
    "own mode: in training batch normalisation counts them into its running statistics; after eval() it doesn't. And "
    "where that pass fails, the hooks of summary stay on the model.",
    controls=[
        replace("torch.utils.hooks.RemovableHandle.remove", lambda handle: None, "hooks stay on"),
        override("in evaluation from the start", prepare=nn.Module.eval),
    ],
)
def test_summary_moves_running_statistics_in_training_and_leaves_hooks_if_it_fails(summary, prepare=as_it_is):
    plain, in_evaluation = FunctionalCNN(), normalised().eval()
    in_training, failing = prepare(normalised()), Recurrent()
    assert kept_by(summary, plain) == {"mode", "hooks", *plain.state_dict()}
    assert kept_by(summary, in_evaluation) == {"mode", "hooks", *in_evaluation.state_dict()}
    assert kept_by(summary, in_training) == {"mode", "hooks", *in_training.state_dict()} - STATISTICS
    assert kept_by(summary, failing, (15, 8)) == {"mode", *failing.state_dict()}


RECURRENT = {
    "the section's": (lambda: RecurrentModel(100, 8, 16, 2), (15,), torch.int64, "indices.* scalar types: Long, Int"),
    "an LSTM by itself": (Recurrent, (15, 8), torch.float32, "'tuple' object has no attribute 'size'"),
}


def by_torchsummary(model, size, dtype):
    from torchsummary import summary  # noqa: PLC0415 - imported here, since it may be missing

    summary(model, size, device="cpu")


def by_torchinfo(model, size, dtype):
    return pytest.importorskip("torchinfo").summary(model, (1, *size), dtypes=[dtype], verbose=0)


@claim(
    "pytorch-notes/summary-works-for-the-rnn",
    verdict=REFUTED,
    finding="Its inputs are random floats, which an embedding can't look up; and an LSTM returns a tuple within a "
    "tuple, whose size it asks for. torchinfo, told dtypes=[torch.int64], counts all 6,340 parameters.",
    controls=[override("torchinfo instead", summarise=by_torchinfo)],
)
@pytest.mark.parametrize("which", RECURRENT)
def test_torchsummary_fails_on_embeddings_and_on_lstms(torchsummary, which, summarise=by_torchsummary):
    make_model, size, dtype, message = RECURRENT[which]
    with pytest.raises((RuntimeError, AttributeError), match=message):
        summarise(make_model(), size, dtype)
    model = make_model()
    assert by_torchinfo(model, size, dtype).total_params == number_of_parameters(model)
