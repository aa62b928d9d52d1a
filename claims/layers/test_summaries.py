"""Section 5.6: what torchsummary and thop say of a network, and what they do to it."""

import copy
import io
import sys
import warnings
from contextlib import redirect_stdout
from functools import partial

import hypothesis.strategies as st
import pytest
import torch
from hypothesis import example, given, settings
from torch import nn
from torch.nn import functional
from torch.utils.flop_counter import FlopCounterMode

from fitcore.models import CNN, RecurrentModel, number_of_parameters
from fitcore.testing import CONDITIONAL, REFUTED, claim, error_of, override, replace
from fitcore.testing.strategies import shapes


@pytest.fixture(scope="module")
def torchsummary():
    return pytest.importorskip("torchsummary", reason="needs torchsummary, of the extra test")


@pytest.fixture(scope="module")
def thop():
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "distutils", DeprecationWarning)
        return pytest.importorskip("thop", reason="needs thop, of the extra test, and distutils, which it imports")


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


IMAGE = (1, 28, 28)


def lines_of(call, *arguments, **options):
    with redirect_stdout(io.StringIO()) as printed:
        call(*arguments, **options)
    return printed.getvalue().splitlines()


def summarise(model, size, **options):
    from torchsummary import summary  # noqa: PLC0415 - imported here, since it may be missing

    summary(model, input_size=size, **options)


def count_operations(model, x, caught=BaseException):
    """The guarded half of the listing; a bare ``except`` catches what ``except BaseException`` does."""
    try:
        from thop import profile  # noqa: PLC0415

        operations, parameters = profile(model, inputs=(x,))
        print(f"operations: {operations:,}, parameters: {parameters:,}")
    except caught:
        print("install thop")


def listing(guarded=()):
    model = FunctionalCNN()
    try:
        summarise(model, IMAGE)
    except guarded:
        print("install torchsummary")
    count_operations(model, torch.zeros(1, *IMAGE))


@claim(
    "pytorch-notes/summary-listing-runs-with-plain-pytorch",
    verdict=REFUTED,
    finding="torchsummary is a package of its own and is imported outside of try: without it the listing ends there, "
    "with a ModuleNotFoundError. Without thop alone it prints the summary and the hint.",
    controls=[override("its import guarded as well", guarded=ImportError)],
)
def test_the_listing_needs_torchsummary_and_can_do_without_thop(torchsummary, monkeypatch, guarded=()):
    monkeypatch.setattr("torch.cuda.is_available", lambda: False)
    monkeypatch.setitem(sys.modules, "thop", None)
    lines = lines_of(listing, guarded)
    assert "Total params: 390,410" in lines
    assert lines[-1] == "install thop"
    monkeypatch.setitem(sys.modules, "torchsummary", None)
    with redirect_stdout(io.StringIO()):
        error = error_of(listing, guarded)
    assert isinstance(error, ModuleNotFoundError)
    assert error.name == "torchsummary"


def kind_of_input(summary, monkeypatch):
    """The tensor type in which ``summary`` makes its input on a machine where CUDA is available."""
    asked = []
    monkeypatch.setattr("torch.cuda.is_available", lambda: True)
    monkeypatch.setattr("torch.Tensor.type", lambda tensor, kind: asked.append(kind) or tensor)
    with redirect_stdout(io.StringIO()):
        summary(nn.Sequential(nn.PReLU()), (3,))
    return asked[0]


@claim(
    "pytorch-notes/summary-listing-runs-with-both-packages",
    verdict=CONDITIONAL,
    finding="Where there is no CUDA it prints both. Where there is, summary makes its input on the GPU by default, and "
    "the listing's model is on the CPU: it needs device='cpu'.",
    controls=[override("where CUDA is available", cuda=True)],
)
def test_the_listing_prints_a_summary_and_two_counts_without_cuda(torchsummary, thop, monkeypatch, cuda=False):
    monkeypatch.setattr("torch.cuda.is_available", lambda: cuda)
    with redirect_stdout(io.StringIO()) as printed:
        assert error_of(listing) is None
    lines = printed.getvalue().splitlines()
    assert "Total params: 390,410" in lines
    assert lines[-1] == "operations: 7,748,608.0, parameters: 390,410.0"
    assert kind_of_input(torchsummary.summary, monkeypatch) is torch.cuda.FloatTensor


NEEDS_THE_CPU_SAID = (
    "summary has device='cuda' for a default and makes its input there if it can, wherever the model is: with CUDA the "
    "first convolution refuses it. summary(..., device='cpu') works on both kinds of machine."
)


def as_listed(torchsummary):
    return torchsummary.summary


def on_the_cpu(torchsummary):
    return partial(torchsummary.summary, device="cpu")


@claim(
    "pytorch-notes/summary-works-on-cpu-model-with-cuda",
    verdict=REFUTED,
    finding=NEEDS_THE_CPU_SAID,
    controls=[override("device='cpu'", summary_of=on_the_cpu)],
)
def test_summary_makes_its_input_on_the_gpu_unless_told_otherwise(torchsummary, monkeypatch, summary_of=as_listed):
    assert kind_of_input(summary_of(torchsummary), monkeypatch) is torch.cuda.FloatTensor
    assert kind_of_input(on_the_cpu(torchsummary), monkeypatch) is torch.FloatTensor


@claim(
    "pytorch-notes/summary-works-on-cpu-model-with-cuda",
    verdict=REFUTED,
    finding=NEEDS_THE_CPU_SAID,
    controls=[override("device='cpu'", summary_of=on_the_cpu)],
)
@pytest.mark.gpu
def test_summary_of_a_model_on_the_cpu_fails_with_cuda(torchsummary, summary_of=as_listed):
    with redirect_stdout(io.StringIO()):
        with pytest.raises(RuntimeError, match=r"(?i)cuda.*should be the same|same device"):
            summary_of(torchsummary)(FunctionalCNN(), IMAGE)
        assert error_of(on_the_cpu(torchsummary), FunctionalCNN(), IMAGE) is None
        assert error_of(torchsummary.summary, FunctionalCNN().cuda(), IMAGE) is None


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
def test_the_summary_has_nine_layers_and_all_parameters(torchsummary, evidence, prepare=as_it_is):
    lines = lines_of(on_the_cpu(torchsummary), prepare(FunctionalCNN()), IMAGE)
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
def test_summary_adds_the_batch_axis_to_the_size(torchsummary, size, size_of):
    seen = []
    model = nn.Sequential(nn.PReLU())
    model.register_forward_pre_hook(lambda _, inputs: seen.append(tuple(inputs[0].shape)))
    lines_of(on_the_cpu(torchsummary), model, size_of(*size))
    assert seen == [(2, *size)]
    error = error_of(on_the_cpu(torchsummary), nn.Sequential(nn.Conv2d(1, 2, 3)), (1, *IMAGE))
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
def test_summary_moves_running_statistics_in_training_and_leaves_hooks_if_it_fails(torchsummary, prepare=as_it_is):
    summary, plain, in_evaluation = on_the_cpu(torchsummary), FunctionalCNN(), normalised().eval()
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
    summarise(model, size, device="cpu")


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


def floating_point_operations(model, x):
    """Operations that torch's own counter sees in matrix products and convolutions."""
    with FlopCounterMode(display=False) as counter:
        model(x)
    return counter.get_total_flops()


def multiply_adds(model, x):
    return pytest.importorskip("torchinfo").summary(model, input_data=x, verbose=0).total_mult_adds


def counted_by_thop(thop, model, x):
    operations, _ = thop.profile(copy.deepcopy(model), inputs=(x,), verbose=False)
    return operations


@claim(
    "pytorch-notes/thop-number-is-flops",
    verdict=REFUTED,
    finding="It is the number of multiply-accumulates, 7,748,608, each of which is a multiplication and an addition: "
    "torch's own counter says 15,497,216 operations. Some papers call the former FLOPs; thop itself calls them MACs. "
    "Neither counter counts biases, ReLU or pooling; torchinfo's 7,792,778 mult-adds have the biases in them.",
    controls=[override("a multiplication with its addition for one", operations_of=multiply_adds)],
)
def test_thop_counts_half_of_the_operations(thop, evidence, operations_of=floating_point_operations):
    model, x = FunctionalCNN(), torch.zeros(1, *IMAGE)
    macs = 9 * (32 * 28**2 + 32 * 64 * 14**2 + 64 * 128 * 7**2) + 1152 * 256 + 256 * 10
    biases = 32 * 28**2 + 64 * 14**2 + 128 * 7**2 + 256 + 10
    counts = {"thop": counted_by_thop(thop, model, x), "torch.utils.flop_counter": operations_of(model, x)}
    rows = counts | {"torchinfo": multiply_adds(model, x)}
    evidence.table("counts for one image", [{"counter": name, "count": count} for name, count in rows.items()])
    assert rows == {"thop": macs, "torch.utils.flop_counter": 2 * macs, "torchinfo": macs + biases}
    assert macs == 7_748_608


@claim(
    "pytorch-notes/thop-number-is-flops",
    verdict=REFUTED,
    finding="So it is for any convolution and linear layer, with bias or without.",
    controls=[override("a multiplication with its addition for one", operations_of=multiply_adds)],
)
@given(
    widths=st.tuples(*[st.integers(1, 4)] * 3),
    side=st.integers(3, 8),
    bias=st.booleans(),
    operations_of=st.just(floating_point_operations),
)
def test_thop_counts_half_of_the_operations_of_any_convolution_and_linear_layer(
    thop, widths, side, bias, operations_of
):
    channels, maps, outputs = widths
    features = maps * (side - 2) ** 2
    model = nn.Sequential(
        nn.Conv2d(channels, maps, 3, bias=bias), nn.Flatten(), nn.Linear(features, outputs, bias=bias)
    )
    x = torch.zeros(1, channels, side, side)
    macs = counted_by_thop(thop, model, x)
    assert macs == features * channels * 9 + features * outputs
    assert operations_of(model, x) == 2 * macs


def all_images(x):
    return x


def first_image(x):
    return x[:1]


@claim(
    "pytorch-notes/thop-count-scales-with-batch",
    verdict=REFUTED,
    finding="It grows with the batch: divide by its size. The listing's batch of one makes it a count per image.",
    controls=[override("the first image alone", part=first_image)],
)
@settings(max_examples=5)
@example(batch=2, part=all_images)
@given(batch=st.integers(2, 6), part=st.just(all_images))
def test_thops_count_is_that_of_the_whole_batch(thop, batch, part):
    counts = counted_by_thop(thop, FunctionalCNN(), part(torch.zeros(batch, *IMAGE)))
    assert counts == batch * 7_748_608


@claim(
    "pytorch-notes/thop-prints-integers",
    verdict=REFUTED,
    finding="thop counts in floats: the line says 7,748,608.0 and 390,410.0. With int(...) it would have no '.0'.",
    controls=[override("made whole", number=int)],
)
def test_the_counts_are_printed_as_floats(thop, number=as_it_is):
    counts = thop.profile(FunctionalCNN(), inputs=(torch.zeros(1, *IMAGE),), verbose=False)
    assert [f"{number(count):,}" for count in counts] == ["7,748,608.0", "390,410.0"]
    assert [f"{int(count):,}" for count in counts] == ["7,748,608", "390,410"]


class Interrupted(nn.Module):
    def forward(self, x):
        raise KeyboardInterrupt


FAILURES = {
    "an image of three channels": (FunctionalCNN, (1, 3, 28, 28)),
    "a mistake in forward": (nn.Module, (1,)),
    "Ctrl-C": (Interrupted, (1,)),
}


@claim(
    "pytorch-notes/thop-except-branch-means-not-installed",
    verdict=REFUTED,
    finding="A bare except catches everything: an image of the wrong shape, a mistake in forward, even Ctrl-C print "
    "'install thop' where thop is installed. except ImportError would show what is wrong.",
    controls=[override("except ImportError", caught=ImportError)],
)
@pytest.mark.parametrize("failure", FAILURES)
def test_any_failure_prints_that_thop_is_to_be_installed(thop, monkeypatch, failure, caught=BaseException):
    make_model, shape = FAILURES[failure]
    arguments = make_model(), torch.zeros(shape)

    def last_line(caught):
        with redirect_stdout(io.StringIO()) as printed:
            error = error_of(interruptible, count_operations, *arguments, caught)
        return printed.getvalue().splitlines()[-1:] if error is None else error

    assert last_line(caught) == ["install thop"]
    assert isinstance(last_line(ImportError), Exception)
    monkeypatch.setitem(sys.modules, "thop", None)
    assert last_line(ImportError) == ["install thop"]


def interruptible(call, *arguments):
    """Make of a ``KeyboardInterrupt``, which would end the tests, an ordinary exception."""
    try:
        call(*arguments)
    except KeyboardInterrupt as interrupt:
        raise RuntimeError("interrupted") from interrupt


def forget_module(monkeypatch, package):
    for name in [name for name in sys.modules if name.split(".")[0] == package]:
        monkeypatch.delitem(sys.modules, name)


@claim(
    "pytorch-notes/thop-except-branch-means-not-installed",
    verdict=REFUTED,
    finding="It also appears where thop is installed and can't be imported: thop 0.1.1 needs distutils, which Python "
    "3.12 no longer has (setuptools brings it back).",
    controls=[override("with distutils", missing="distutils.of_old")],
)
@pytest.mark.filterwarnings("ignore:distutils:DeprecationWarning")
def test_without_distutils_thop_is_taken_for_missing(thop, monkeypatch, missing="distutils.version"):
    forget_module(monkeypatch, "thop")
    monkeypatch.setitem(sys.modules, missing, None)
    assert lines_of(count_operations, FunctionalCNN(), torch.zeros(1, *IMAGE)) == ["install thop"]


@claim(
    "pytorch-notes/thop-leaves-the-model-saveable",
    verdict=REFUTED,
    finding="profile leaves buffers total_ops and total_params in every module that it has no rule for, here the "
    "network itself. They are saved with it, and loading fails both ways: into a new network, and of an earlier state "
    "into this one. Profile a copy.deepcopy, or load with strict=False.",
    controls=[override("a copy is profiled", profiled=copy.deepcopy)],
)
def test_profiling_leaves_buffers_that_break_loading(thop, tmp_path, profiled=as_it_is):
    model, new = FunctionalCNN(), FunctionalCNN()
    names = list(model.state_dict())
    thop.profile(profiled(model), inputs=(torch.zeros(1, *IMAGE),), verbose=False)
    torch.save(model.state_dict(), tmp_path / "after.pt")
    saved = torch.load(tmp_path / "after.pt")
    assert set(saved) - set(names) == {"total_ops", "total_params"}
    with pytest.raises(RuntimeError, match=r"Unexpected key\(s\) .*total_ops.*total_params"):
        new.load_state_dict(saved)
    with pytest.raises(RuntimeError, match=r"Missing key\(s\) .*total_ops.*total_params"):
        model.load_state_dict(new.state_dict())
    assert new.load_state_dict(saved, strict=False).missing_keys == []
    assert all(torch.equal(new.state_dict()[name], saved[name]) for name in names)
