"""Sections 8.2 to 8.5.3: the recorded graph, and figures as images."""

from functools import partial

import hypothesis.strategies as st
import numpy as np
import pytest
import torch
from hypothesis import given, settings
from torch import nn
from torch.utils.tensorboard import SummaryWriter

from fitcore.models import MLP, number_of_parameters
from fitcore.testing import CONDITIONAL, REFUTED, claim, error_of, override, replace

pytestmark = pytest.mark.filterwarnings("ignore:.torch.jit.trace")  # deprecated, and yet what add_graph calls


class WrittenOut(nn.Module):
    """A layer as the products and sums of the blackboard."""

    def __init__(self):
        super().__init__()
        self.weight, self.bias = nn.Parameter(torch.ones(1, 20)), nn.Parameter(torch.ones(20))

    def forward(self, x):
        return torch.relu(x @ self.weight + self.bias)


def regression_net():
    return MLP([1, 20, 20, 1], nn.ReLU)


def shape_of(node):
    """The output's shape that the graph shows for a node."""
    return [dim.size for shape in node.attr["_output_shapes"].list.shape for dim in shape.dim]


def draw_nothing(*_, **__):
    """Record no graph."""


@claim(
    "pytorch-notes/add-graph-writes-graph-event",
    controls=[replace("torch.utils.tensorboard.SummaryWriter.add_graph", draw_nothing)],
)
@settings(max_examples=5)
@given(hidden=st.lists(st.integers(1, 8), max_size=3))
def test_one_event_describes_the_layers_of_the_model(recorded, hidden):
    from tensorboard.backend.event_processing.event_file_loader import EventFileLoader  # noqa: PLC0415

    model = MLP([1, *hidden, 1], nn.ReLU)
    events = recorded(lambda writer: writer.add_graph(model, torch.randn(1, 1)))
    graphs = [event for event in EventFileLoader(str(events.paths[0])).Load() if event.HasField("graph_def")]
    assert len(graphs) == 1
    layers = [node for node in events.graph if node.op == "aten::linear"]
    assert [shape_of(layer)[-1] for layer in layers] == [*hidden, 1]


@claim(
    "pytorch-notes/add-graph-validates-layer-sizes",
    finding="It runs the model once, and raises what that raises, naming the two shapes. What else does not fit, such "
    "as targets of another shape than the outputs, it cannot see.",
    controls=[override("layers that fit", inputs=256)],
)
@settings(max_examples=10)
@given(inputs=st.integers(1, 300).filter(lambda inputs: inputs != 256) | st.just(128))
def test_add_graph_raises_where_two_layers_do_not_fit(recorded, inputs):
    broken = nn.Sequential(nn.Linear(784, 256), nn.ReLU(), nn.Linear(inputs, 10))

    def write(writer):
        with pytest.raises(RuntimeError, match=f"1x256 and {inputs}x10"):
            writer.add_graph(broken, torch.zeros(1, 784))

    recorded(write)


@claim(
    "pytorch-notes/graph-ops-named-matmul-add-relu",
    verdict=CONDITIONAL,
    finding="The nodes are named after PyTorch's own operations. A model that multiplies and adds has aten::matmul, "
    "aten::add and aten::relu; of a layer nn.Linear there is a single aten::linear, and no MatMul nor Add.",
    controls=[override("layers of nn.Linear", written_out=regression_net)],
)
def test_matmul_and_add_are_nodes_only_where_the_model_calls_them(recorded, evidence, written_out=WrittenOut):
    operations = {}
    for name, model in (("x @ w + b", written_out()), ("nn.Linear", regression_net())):
        graph = recorded(partial(SummaryWriter.add_graph, model=model, input_to_model=torch.zeros(1, 1))).graph
        operations[name] = [node.op.removeprefix("aten::") for node in graph if node.op.startswith("aten::")]
    evidence.table("operations", [{"model": name, "nodes": ", ".join(ops)} for name, ops in operations.items()])
    assert operations["x @ w + b"] == ["matmul", "add", "relu"]
    assert operations["nn.Linear"] == ["linear", "relu", "linear", "relu", "linear"]


class Shortcut(nn.Module):
    """Two layers and a shortcut, round the activation too or only round the first layer."""

    def __init__(self, round_both=True):
        super().__init__()
        self.inner, self.outer, self.round_both = nn.Linear(3, 3), nn.Linear(3, 1), round_both

    def forward(self, x):
        hidden = self.inner(x)
        return self.outer(torch.relu(hidden) + x if self.round_both else torch.relu(hidden + x))


@claim(
    "pytorch-notes/graph-edges-show-data-flow",
    finding="From the input through each operation to the output, round a shortcut too; and from the parameters.",
    controls=[override("another shortcut", make=partial(Shortcut, round_both=False))],
)
def test_an_edge_leads_to_each_operation_from_what_it_takes(recorded, make=Shortcut):
    graph = recorded(lambda writer: writer.add_graph(make(), torch.zeros(1, 3))).graph
    operation = {node.name: node.op.split("::")[-1] for node in graph}
    computing = [node for node in graph if node.op.startswith("aten::")]
    assert [(operation[node.name], [operation[name] for name in node.input]) for node in computing] == [
        ("linear", ["IO Node", "GetAttr", "GetAttr"]),
        ("relu", ["linear"]),
        ("add", ["relu", "IO Node", "Constant"]),
        ("linear", ["add", "GetAttr", "GetAttr"]),
    ]


@claim(
    "pytorch-notes/graph-shows-parameter-nodes",
    finding="Each weight and each bias, by its name within its layer.",
    controls=[override("a model without parameters", make=nn.ReLU)],
)
def test_every_parameter_is_a_node(recorded, make=regression_net):
    graph = recorded(lambda writer: writer.add_graph(make(), torch.zeros(1, 1))).graph
    nodes = [node.name for node in graph if node.op == "prim::GetAttr"]
    assert sorted(name.split("/")[-2] for name in nodes) == ["bias"] * 3 + ["weight"] * 3


@claim(
    "pytorch-notes/graph-shows-parameter-count",
    verdict=CONDITIONAL,
    finding="Each operation's node has the shape of its output. Those of the parameters have no shape: how many "
    "numbers they are is nowhere in the graph. Sum the sizes of model.parameters().",
    controls=[override("other widths", hidden=10)],
)
def test_the_graph_has_the_shapes_of_outputs_but_not_of_parameters(recorded, hidden=20):
    model = MLP([1, hidden, 20, 1], nn.ReLU)
    graph = recorded(lambda writer: writer.add_graph(model, torch.zeros(1, 1))).graph
    shapes = [shape_of(node) for node in graph if node.op.startswith("aten::")]
    assert shapes == [[1, 20]] * 4 + [[1, 1]]
    assert [shape_of(node) for node in graph if node.op == "prim::GetAttr"] == [[]] * 6
    assert not any("481" in str(node) for node in graph)
    assert number_of_parameters(model) == 481


def drawn(width, height):
    from matplotlib.figure import Figure  # noqa: PLC0415

    figure = Figure(figsize=(width, height), dpi=20)
    figure.add_subplot().plot([0, 1], [1, 0])
    return figure


def pixels(figure):
    from matplotlib.backends.backend_agg import FigureCanvasAgg  # noqa: PLC0415

    canvas = FigureCanvasAgg(figure)
    canvas.draw()
    return np.asarray(canvas.buffer_rgba())


def blank(figures, close=True):
    """An empty picture of the size of the first figure."""
    return np.zeros((3, *pixels(figures).shape[:2]), dtype=np.uint8)


@claim(
    "pytorch-notes/add-figure-stores-image",
    finding="The pixels are those that Matplotlib draws, to the bit.",
    controls=[replace("torch.utils.tensorboard.writer.figure_to_image", blank)],
)
@settings(max_examples=3)
@given(width=st.integers(2, 4), height=st.integers(2, 4), step=st.integers(0, 99))
def test_a_figure_is_stored_as_the_image_that_it_draws(recorded, evidence, width, height, step):
    events = recorded(lambda writer: writer.add_figure("Predictions", drawn(width, height), step))
    ((found, image),) = events.images("Predictions")
    evidence.image("as read back", image[..., :3])
    assert found == step
    np.testing.assert_array_equal(image[..., :3], pixels(drawn(width, height))[..., :3])


def keep_open(*_):
    """Close no figure."""


@claim(
    "pytorch-notes/plt-close-after-add-figure-needed",
    verdict=REFUTED,
    finding="add_figure closes the figure itself, unless it is told close=False; to close it again does no harm.",
    controls=[replace("matplotlib.pyplot.close", keep_open)],
)
def test_add_figure_closes_the_figure(recorded, pyplot):
    def write(writer):
        figure, kept = pyplot.figure(figsize=(1, 1)), pyplot.figure(figsize=(1, 1))
        writer.add_figure("closed", figure)
        writer.add_figure("kept", kept, close=False)
        open_ones = pyplot.get_fignums()
        assert error_of(pyplot.close, figure) is None
        assert open_ones == [kept.number]

    recorded(write)
    pyplot.close("all")
