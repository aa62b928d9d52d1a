import numpy as np
import pytest
import torch
from torch import nn
from torch.utils.tensorboard import SummaryWriter

from fitcore.evaluation.event_files import EventFiles, event_paths


def test_scalars_come_in_the_order_of_recording(tmp_path):
    with SummaryWriter(tmp_path) as writer:
        for step, value in ((5, 1.5), (2, 0.1), (2, float("inf"))):
            writer.add_scalar("loss", value, step)
    points = EventFiles(tmp_path).scalars("loss")
    assert points.steps.tolist() == [5, 2, 2]
    assert points.values.tolist() == [1.5, np.float32(0.1), np.inf]
    assert (np.diff(points.times) >= 0).all()


def test_nothing_is_thinned_out(tmp_path):
    with SummaryWriter(tmp_path) as writer:
        for step in range(1200):
            writer.add_scalar("loss", step, step)
    assert len(EventFiles(tmp_path).scalars("loss").steps) == 1200


def test_histograms_keep_size_extremes_and_sum(tmp_path):
    with SummaryWriter(tmp_path) as writer:
        writer.add_histogram("weight", torch.tensor([-2.0, 0.0, 0.0, 5.0]), 3)
    (histogram,) = EventFiles(tmp_path).histograms("weight")
    assert (histogram.step, histogram.size) == (3, 4)
    assert (histogram.minimum, histogram.maximum, histogram.sum) == (-2.0, 5.0, 3.0)
    assert histogram.counts.sum() == 4
    assert (np.diff(histogram.right_edges) > 0).all()


def test_images_are_pixels(tmp_path):
    red = torch.zeros(3, 2, 4, dtype=torch.uint8)
    red[0] = 255
    with SummaryWriter(tmp_path) as writer:
        writer.add_image("red", red, 7)
    ((step, pixels),) = EventFiles(tmp_path).images("red")
    assert step == 7
    assert pixels.tolist() == red.permute(1, 2, 0).tolist()


def test_texts_and_hyperparameters(tmp_path):
    hparams = {"lr": 0.5, "optimizer": "Adam", "nesterov": True}
    with SummaryWriter(tmp_path) as writer:
        writer.add_text("note", "größer", 4)
        writer.add_hparams(hparams, {"loss": 1.0}, run_name=".")
    events = EventFiles(tmp_path)
    assert events.texts("note") == [(4, "größer")]
    assert events.hparams == hparams
    assert len(events.paths) == 2


@pytest.mark.filterwarnings("ignore:.torch.jit.trace")
def test_the_graph_is_a_list_of_nodes(tmp_path):
    with SummaryWriter(tmp_path) as writer:
        writer.add_graph(nn.Linear(2, 3), torch.zeros(1, 2))
    assert "aten::linear" in [node.op for node in EventFiles(tmp_path).graph]


def test_what_was_not_recorded_is_said(tmp_path):
    with SummaryWriter(tmp_path) as writer:
        writer.add_scalar("loss", 1.0, 0)
    events = EventFiles(tmp_path)
    assert events.tags == {"scalars": ["loss"], "tensors": [], "histograms": [], "images": []}
    assert events.hparams == {}
    with pytest.raises(KeyError, match="accuracy"):
        events.scalars("accuracy")
    with pytest.raises(ValueError, match="graph"):
        _ = events.graph


def test_a_folder_without_event_files_is_refused(tmp_path):
    (tmp_path / "tfevents of another run").mkdir()
    assert event_paths(tmp_path) == []
    with pytest.raises(FileNotFoundError, match="no event file in"):
        EventFiles(tmp_path)
