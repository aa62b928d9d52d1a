"""Section 7.4: the complete listing, rebuilt, from the training to the ONNX file, and what the file computes."""

import copy
import importlib
import importlib.metadata
import importlib.util
import sys
import warnings
from collections import OrderedDict
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory

import hypothesis.strategies as st
import pytest
import torch
from hypothesis import given, settings
from matplotlib.figure import Figure
from torch import nn
from torch.testing import assert_close
from torch.utils.data import DataLoader, TensorDataset

from fitcore.testing import CONDITIONAL, claim, error_of, override
from fitcore.testing.strategies import tensors

MISSING = [package for package in ("onnx", "onnxruntime", "onnxscript") if importlib.util.find_spec(package) is None]
pytestmark = pytest.mark.skipif(bool(MISSING), reason=f"needs {', '.join(MISSING)}, of the extra onnx")

AXES = {"input": {0: "batch_size"}, "output": {0: "batch_size"}}


def net(hidden=10):
    return nn.Sequential(OrderedDict(fc1=nn.Linear(1, hidden), relu=nn.ReLU(), fc2=nn.Linear(hidden, 1)))


def trained():
    """Train as the listing does; return the model and the average loss of each epoch."""
    x = torch.linspace(1, 10, 100).unsqueeze(1)
    loader = DataLoader(TensorDataset(x, 3 * x + 2), batch_size=20, shuffle=True)
    model, averages = net(), []
    optimizer = torch.optim.Adam(model.parameters(), lr=0.01)
    for _ in range(100):
        losses = []
        for inputs, targets in loader:
            loss = nn.functional.mse_loss(model(inputs), targets)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            losses.append(loss.item())
        averages.append(sum(losses) / len(losses))
    return model, averages


def reload(path, build):
    """Load as the listing does, with the way that it falls back on."""
    model = build()
    try:
        model.load_state_dict(torch.load(path)["model_state_dict"])
    except Exception:  # the listing catches no less
        model.load_state_dict(torch.load(path))
    return model.eval()


def export(model, path, axes=AXES, **options):
    """Write an ONNX file; return its content, weights included."""
    names = {"input_names": ["input"], "output_names": ["output"]}
    with warnings.catch_warnings():  # dynamic_axes and the TorchScript exporter are deprecated
        warnings.simplefilter("ignore")
        torch.onnx.export(model, torch.randn(1, 1), path, dynamic_axes=axes, **names, **options)
    import onnx  # noqa: PLC0415 - here and below, since it may be missing

    return onnx.load(path).SerializeToString()


def after_training(model, folder, build=net):
    """Save, test, load and export; return the error that the export ended with, if any, and the ONNX file."""
    torch.save({"model_state_dict": model.state_dict(), "model_architecture": "Net"}, folder / "net_weights.pth")
    x = torch.tensor([[1.0], [3.0], [5.0], [7.0], [10.0]])
    with torch.no_grad():
        assert torch.equal(model.eval()(x), reload(folder / "net_weights.pth", build)(x))
    try:
        return None, export(model, str(folder / "model.onnx"))
    except Exception as error:
        return error, b""


def listing():
    """Run the listing; return the model, the averages, and what came of the export."""
    model, averages = trained()
    with TemporaryDirectory() as folder:
        figure = Figure(figsize=(10, 4))
        figure.add_subplot().plot(averages)
        figure.savefig(Path(folder) / "losses.png")
        return model, averages, *after_training(model, Path(folder))


def deep_net():
    """A model with layers that differ between training and evaluation."""
    return nn.Sequential(nn.Linear(1, 16), nn.BatchNorm1d(16), nn.Tanh(), nn.Dropout(0.5), nn.Linear(16, 1))


def exported_by_torchscript(build=net, axes=True):
    """A model and the file that the older exporter makes of it."""
    model = build()
    model(torch.randn(64, 1))
    with TemporaryDirectory() as folder:
        path = str(Path(folder) / "model.onnx")
        return model.eval(), export(model, path, AXES if axes else None, dynamo=False)


EXPORTED = {
    "default": lambda shared: shared(listing)[::3],
    "TorchScript": lambda shared: shared(exported_by_torchscript),
    "BatchNorm and dropout": lambda shared: shared(exported_by_torchscript, deep_net),
}


def session(content):
    """Run an ONNX file: a function of a tensor."""
    import onnxruntime  # noqa: PLC0415

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    running = onnxruntime.InferenceSession(content, options, providers=["CPUExecutionProvider"])
    return lambda x: torch.from_numpy(running.run(None, {"input": x.numpy()})[0])


@pytest.fixture
def hide(monkeypatch):
    """``hide(package)``: as if it weren't installed, for the exporters too, which may have imported it already."""

    def hidden(package):
        exporter = "torch.onnx._internal.exporter"
        for name in [name for name in sys.modules if name.startswith(exporter)]:
            monkeypatch.delitem(sys.modules, name)
        monkeypatch.setattr(importlib.import_module("torch.onnx._internal"), "exporter", None, raising=False)
        monkeypatch.setitem(sys.modules, package, None)

    return hidden


@claim(
    "pytorch-notes/complete-listing-runs",
    finding="To its end: the file it saved is loaded again, and an ONNX file written. Without the package onnxscript, "
    "which torch doesn't bring, the export fails; the listing then says so, and ends all the same.",
    controls=[override("a net of another width to load into", build=partial(net, 11))],
)
def test_the_complete_listing_runs(shared, tmp_path, hide, build=net):
    model, averages, export_error, content = shared(listing)
    assert len(averages) == 100
    assert export_error is None
    assert content
    hide("onnxscript")
    assert error_of(after_training, model, tmp_path, build) is None
    assert isinstance(after_training(model, tmp_path)[0], ModuleNotFoundError)


@claim(
    "pytorch-notes/onnx-export-works-out-of-the-box",
    verdict=CONDITIONAL,
    finding="torch installs neither of the packages that this needs: the default exporter imports onnx and onnxscript, "
    "and raises ModuleNotFoundError without them. The older one (dynamo=False, deprecated) needs onnx alone. With both "
    "installed, both exporters work.",
    controls=[override("everything installed", packages=("fontTools", "fontTools"))],
)
def test_the_export_needs_onnx_and_onnxscript(shared, tmp_path, hide, packages=("onnxscript", "onnx")):
    path = str(tmp_path / "model.onnx")
    assert shared(listing)[2] is None
    hide(packages[0])
    assert error_of(export, net(), path, dynamo=False) is None
    hide(packages[1])
    assert "onnx is not installed" in str(error_of(export, net(), path, dynamo=False))
    assert isinstance(error_of(export, net(), path), ModuleNotFoundError)
    assert "onnx" not in " ".join(importlib.metadata.requires("torch") or [])


def as_exported(content):
    return content


def with_fixed_batch(content):
    """The same graph for batches of one."""
    import onnx  # noqa: PLC0415

    model = onnx.load_from_string(content)
    for value in (*model.graph.input, *model.graph.output):
        value.type.tensor_type.shape.dim[0].dim_value = 1
    return model.SerializeToString()


@claim(
    "pytorch-notes/onnx-dynamic-batch",
    finding="With both exporters: the file that was exported with one sample takes 1, 5 and 64, and any other number.",
    controls=[override("a batch of one fixed in the graph", prepare=with_fixed_batch)],
)
@pytest.mark.parametrize("exporter", ["default", "TorchScript"])
@settings(max_examples=10)
@given(more=st.integers(2, 300), prepare=st.just(as_exported))
def test_an_exported_model_with_a_dynamic_axis_takes_any_batch(exporter, more, prepare, shared):
    run = session(prepare(EXPORTED[exporter](shared)[1]))
    assert [error_of(run, torch.zeros(batch, 1)) for batch in (1, 5, 64, more)] == [None] * 4
    assert [run(torch.zeros(batch, 1)).shape for batch in (1, 5, 64, more)] == [(1, 1), (5, 1), (64, 1), (more, 1)]


@claim(
    "pytorch-notes/onnx-batch-is-fixed-without-dynamic-axes",
    finding="onnxruntime refuses any other as an invalid argument.",
    controls=[override("with dynamic_axes", axes=True)],
)
@given(batch=st.integers(2, 300), axes=st.just(False))
def test_without_dynamic_axes_the_batch_is_that_of_the_dummy_input(batch, axes, shared):
    run = session(shared(exported_by_torchscript, axes=axes)[1])
    assert error_of(run, torch.zeros(1, 1)) is None
    assert "invalid dimensions" in str(error_of(run, torch.zeros(batch, 1)))


def copy_without_weights(model):
    """The same layers with other weights."""
    other = copy.deepcopy(model)
    with torch.no_grad():
        for parameter in other.parameters():
            parameter.add_(1)
    return other


@claim(
    "pytorch-notes/onnx-computes-the-same",
    finding="Within 1e-4, what float32 arithmetic in another order makes of it, in onnxruntime: the trained net by "
    "the default exporter, and by the older one a net with BatchNorm and dropout in evaluation mode too.",
    controls=[override("beside a net that was not exported", of=copy_without_weights)],
)
@pytest.mark.parametrize("model", EXPORTED)
@settings(max_examples=10)
@given(x=tensors(st.tuples(st.integers(1, 9), st.just(1)), elements=st.integers(-99, 99)), of=st.just(copy.deepcopy))
def test_the_onnx_file_computes_what_the_model_does(model, x, of, shared):
    exported, content = EXPORTED[model](shared)
    assert_close(session(content)(x), of(exported)(x).detach(), rtol=1e-4, atol=1e-4)
