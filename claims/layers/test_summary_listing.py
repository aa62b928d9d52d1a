"""Section 5.6: the listing that prints a summary by torchsummary and a count by thop, where either may be missing."""

import io
import sys
from contextlib import redirect_stdout
from functools import partial

import pytest
import torch
from torch import nn

from fitcore.models import CNN
from fitcore.testing import CONDITIONAL, REFUTED, claim, error_of, override

IMAGE = (1, 28, 28)


def lines_of(call, *arguments, **options):
    with redirect_stdout(io.StringIO()) as printed:
        call(*arguments, **options)
    return printed.getvalue().splitlines()


def summarise(model):
    from torchsummary import summary  # noqa: PLC0415 - imported here, since it may be missing

    summary(model, input_size=IMAGE)


def count_operations(model, x, caught=BaseException):
    """The guarded half of the listing; a bare ``except`` catches what ``except BaseException`` does."""
    try:
        from thop import profile  # noqa: PLC0415

        operations, parameters = profile(model, inputs=(x,))
        print(f"operations: {operations:,}, parameters: {parameters:,}")
    except caught:
        print("install thop")


def listing(guarded=()):
    model = CNN()
    try:
        summarise(model)
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
            summary_of(torchsummary)(CNN(), IMAGE)
        assert error_of(on_the_cpu(torchsummary), CNN(), IMAGE) is None
        assert error_of(torchsummary.summary, CNN().cuda(), IMAGE) is None


class Interrupted(nn.Module):
    def forward(self, x):
        raise KeyboardInterrupt


FAILURES = {
    "an image of three channels": (CNN, (1, 3, 28, 28)),
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
    assert lines_of(count_operations, CNN(), torch.zeros(1, *IMAGE)) == ["install thop"]
