"""Sections 8.2, 8.4 and 8.5: TensorBoard's command and page, asked through its own application in this process."""

import re
import socket
from collections import Counter
from contextlib import closing
from importlib import resources
from zipfile import ZipFile

import hypothesis.strategies as st
import pytest
import torch
from hypothesis import given, settings
from torch.utils.tensorboard import SummaryWriter

from fitcore.testing import REFUTED, claim, no_control, override


def first_free_port(ports):
    for port in ports:
        with closing(socket.socket()) as candidate:
            if candidate.connect_ex(("localhost", port)):
                return port
    return None


class BoundOnce:
    """The command's own server, whose socket is closed again once it is bound."""

    def __init__(self, application, flags):
        from tensorboard.program import create_port_scanning_werkzeug_server  # noqa: PLC0415

        server = create_port_scanning_werkzeug_server(application, flags)
        self.address = server.get_url()
        server.server_close()

    def serve_forever(self):
        """Return at once."""

    def get_url(self):
        """Tell where it would have served."""
        return self.address


@claim(
    "pytorch-notes/tensorboard-default-url-port-6006",
    finding="If 6006 is taken, it is the next free port, up to 6015; the command prints the address.",
    controls=[override("any port that is free", options=["--port=0"])],
)
def test_tensorboard_serves_on_port_6006_of_localhost(command, tmp_path, options=()):
    free = first_free_port(range(6006, 6016))
    assert command(tmp_path, *options, server=BoundOnce) == f"http://localhost:{free}/"


names = st.lists(st.text("abc", min_size=1, max_size=2), min_size=1, max_size=3).map("/".join)


@claim(
    "pytorch-notes/logdir-picks-up-subdirectory-runs",
    finding="At any depth; the run's name is its path from there.",
    controls=[override("another folder", pointed_at="elsewhere")],
)
@settings(max_examples=2)
@given(runs=st.sets(names, min_size=1, max_size=3), pointed_at=st.just("runs"))
def test_tensorboard_finds_the_runs_in_the_folders_below(page, tmp_path_factory, runs, pointed_at):
    parent = tmp_path_factory.mktemp("parent")
    for run in {*runs, "experiment_20260101_120000"}:
        with SummaryWriter(parent / "runs" / run) as writer:
            writer.add_scalar("loss", 1.0, 0)
    found = page(parent / pointed_at)("runs")
    assert set(found) == {*runs, "experiment_20260101_120000"}


@claim(
    "pytorch-notes/panel-scalars-histograms-graphs-images-hparams",
    finding="And besides: Time Series, Distributions and Text.",
    controls=[override("no graph, histograms and figure", lean=True)],
)
@pytest.mark.filterwarnings("ignore:.torch.jit.trace")
def test_all_five_panels_have_something_to_show(example, page, evidence, lean=False):
    run = example(epochs=3, lean=lean)
    panels = {name: panel["enabled"] for name, panel in page(run.folder)("plugins_listing").items()}
    evidence.table("panels", [{"panel": name, "shown": shown} for name, shown in panels.items()])
    assert all(panels[name] for name in ("scalars", "histograms", "graphs", "images", "hparams"))


@claim(
    "pytorch-notes/scalars-panel-shows-all-points",
    verdict=REFUTED,
    finding="Of the 2,600 batch losses it shows 1,000: all but the last are drawn at random. --samples_per_plugin "
    "scalars=10000 shows all.",
    controls=[override("3 epochs", steps=39)],
)
def test_the_scalars_panel_shows_a_thousand_points(page, tmp_path, evidence, steps=2600):
    with SummaryWriter(tmp_path) as writer:
        for step in range(steps):
            writer.add_scalar("Loss/Batch_Train", 1 / (step + 1), step)
    url = "plugin/scalars/scalars?run=.&tag=Loss/Batch_Train"
    shown, everything = (page(tmp_path, *options)(url) for options in ((), ("--samples_per_plugin=scalars=10000",)))
    evidence.table("points", [{"recorded": steps, "shown": len(shown), "with scalars=10000": len(everything)}])
    assert len(everything) == steps
    assert len(shown) == 1000
    assert shown[-1][1] == steps - 1


def as_curves_of_one_tag(writer):
    """Record both losses in one call."""
    writer.add_scalars("Loss", {"training": 1.0, "validation": 2.0}, 0)


def as_two_tags(writer):
    """Record them as the example does."""
    writer.add_scalar("Loss", 1.0, 0)
    writer.add_scalar("Loss/validation", 2.0, 0)


def curves_by_tag(ask):
    """Number of runs with a curve for each tag of a page."""
    return Counter(tag for tags in ask("plugin/scalars/tags").values() for tag in tags)


@claim(
    "pytorch-notes/scalars-panel-compares-in-one-chart",
    finding="A chart belongs to one tag, and has a curve for each run. add_scalars makes a run of each value of its "
    "dictionary: both losses in one chart. The example's own Loss/Epoch_Train and Loss/Epoch_Val are two tags of one "
    "run, and stand in a chart each.",
    controls=[override("two tags of one run", record=as_two_tags)],
)
def test_a_chart_has_the_curves_of_one_tag(example, page, tmp_path, record=as_curves_of_one_tag):
    of_the_example = curves_by_tag(page(example(epochs=8, lean=True).folder))
    assert of_the_example["Loss/Epoch_Train"] == of_the_example["Loss/Epoch_Val"] == 1
    with SummaryWriter(tmp_path) as writer:
        record(writer)
    assert curves_by_tag(page(tmp_path)) == {"Loss": 2}


def all_of(weights):
    return weights


def one_of(weights):
    return weights[:1]


@claim(
    "pytorch-notes/histograms-panel-values-counts-steps",
    finding="Each bar counts the numbers up to its right edge that no earlier one has; together they count all.",
    controls=[override("a single weight recorded", chosen=one_of)],
)
def test_the_histograms_panel_counts_weights_by_value_at_every_step(page, tmp_path, evidence, chosen=all_of):
    weights = {step: (1 + step) * torch.randn(1000) for step in (0, 1, 2)}
    with SummaryWriter(tmp_path) as writer:
        for step, values in weights.items():
            writer.add_histogram("weight", chosen(values), step)
    shown = page(tmp_path)("plugin/histograms/histograms?run=.&tag=weight")
    assert [step for _, step, _ in shown] == list(weights)
    for _, step, bars in shown:
        _, right, counts = torch.tensor(bars, dtype=torch.float64).T
        evidence.curve(f"step {step}", right, {"weights": counts}, x_label="value")
        up_to = (weights[step].double() <= right[:, None] + 1e-9).sum(1)
        torch.testing.assert_close(counts.cumsum(0), up_to.double())
        assert counts.sum() == 1000


@claim(
    "pytorch-notes/graph-colours-mark-operation-types",
    verdict=REFUTED,
    finding="By default nodes of the same colour have the same structure inside. One can choose the device, the "
    "compute time, the memory, the XLA cluster or whether a TPU can run them instead; the kind of operation is no "
    "choice.",
    controls=no_control("which colours the page offers is a constant of the page that TensorBoard ships"),
)
def test_the_page_offers_no_colours_by_operation():
    with ZipFile(resources.files("tensorboard") / "webfiles.zip") as files:
        source = files.read("index.js").decode()
    (options,) = re.findall(r'\{([^{}]*XLA_CLUSTER="xla_cluster"[^{}]*)\}', source)
    offered = set(re.findall(r'="(\w+)"', options)) - {"none"}
    assert offered == {"structure", "device", "xla_cluster", "compute_time", "memory", "op_compatibility"}
    assert re.search(r"colorBy=\w+\.STRUCTURE", source)
