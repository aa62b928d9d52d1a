"""Section 7.3: what torch.load accepts by default, and what code in a file can do."""

import os
import pickle
import subprocess
from contextlib import contextmanager

import pytest
import torch
from torch import nn

from fitcore.testing import CONDITIONAL, REFUTED, claim, error_of, replace
from fitcore.training.checkpoint import load_checkpoint

load = torch.load


def trusting(*arguments, **options):
    """``torch.load`` as its default was before torch 2.6."""
    return load(*arguments, **{"weights_only": False} | options)


class Net(nn.Module):
    """A module of one's own, as in 7.4."""

    def __init__(self):
        super().__init__()
        self.fc = nn.Linear(1, 10)


@claim(
    "pytorch-notes/whole-model-load-default",
    verdict=REFUTED,
    finding="Refused since torch 2.6, which made weights_only=True the default: the error names the class, torch's own "
    "layers included. weights_only=False loads it, if the file is trusted, or safe_globals with every class named.",
    controls=[replace("torch.load", trusting)],
)
@pytest.mark.parametrize("build", [Net, lambda: nn.Linear(1, 10)], ids=["Net", "Linear"])
def test_a_pickled_model_is_refused_by_default(build, tmp_path):
    path, model = tmp_path / "model.pt", build()
    torch.save(model, path)
    with pytest.raises(pickle.UnpicklingError, match=rf"weights_only[\s\S]*{type(model).__name__}"):
        torch.load(path)
    trusted = trusting(path)
    with torch.serialization.safe_globals([Net, nn.Linear, set]):
        named = torch.load(path)
    for loaded in (trusted, named):
        assert type(loaded) is type(model)
        assert all(map(torch.equal, loaded.parameters(), model.parameters()))


@contextmanager
def nothing_allowed(functions):
    """Allow no more than there is."""
    yield


class Payload:
    """Pickles as a call of ``function``, which the reader of the file is to make."""

    def __init__(self, function, *arguments):
        self.call = function, arguments

    def __reduce__(self):
        return self.call


SOURCE = "__import__('os').mkdir('executed')"
PAYLOADS = {
    "a function": Payload(os.mkdir, "executed"),
    "a command": Payload(os.system, "mkdir executed"),
    "a process": Payload(subprocess.check_call, ["mkdir", "executed"]),
    "eval": Payload(eval, SOURCE),
    "exec": Payload(exec, SOURCE),
    "another pickle": Payload(pickle.loads, pickle.dumps(Payload(os.mkdir, "executed"))),
}


@claim(
    "pytorch-notes/loading-a-file-can-run-its-code",
    verdict=CONDITIONAL,
    finding="With weights_only=False, the default before torch 2.6, whatever the file asks for is done, before anybody "
    "sees a weight. By default nothing is, and the error names the function.",
    controls=[replace("torch.load", trusting)],
)
@pytest.mark.parametrize("payload", PAYLOADS)
def test_code_in_a_file_runs_if_the_file_is_trusted_and_not_by_default(payload, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    function, _ = PAYLOADS[payload].call
    torch.save({"model_state_dict": {"weight": torch.zeros(2), "bias": PAYLOADS[payload]}}, "net.pt")
    by_default = error_of(torch.load, "net.pt")
    assert isinstance(by_default, pickle.UnpicklingError)
    assert function.__name__ in str(by_default)
    assert isinstance(error_of(load_checkpoint, "net.pt"), ValueError)
    assert os.listdir() == ["net.pt"]
    trusting("net.pt")
    assert sorted(os.listdir()) == ["executed", "net.pt"]


@claim(
    "pytorch-notes/loading-a-file-can-run-its-code",
    verdict=CONDITIONAL,
    finding="safe_globals([eval]) opens the door as wide as weights_only=False: the file may then run any expression.",
    controls=[replace("torch.serialization.safe_globals", nothing_allowed)],
)
def test_a_function_that_is_allowed_is_called(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    torch.save(PAYLOADS["eval"], "net.pt")
    with torch.serialization.safe_globals([eval]):
        error_of(torch.load, "net.pt")
    assert sorted(os.listdir()) == ["executed", "net.pt"]
