"""Sections 8.1 to 8.3 and 8.4: the writer, what add_scalar records, and when it reaches the disk."""

import importlib
import importlib.metadata
import multiprocessing
import os
import re
import signal
import sys
import time
import warnings
from pathlib import Path

import hypothesis.strategies as st
import numpy as np
import pytest
import torch
from hypothesis import given, settings

from fitcore.evaluation.event_files import EventFiles, event_paths
from fitcore.testing import CONDITIONAL, REFUTED, claim, error_of, override, replace
from fitcore.testing.strategies import dtypes

WRITER = "torch.utils.tensorboard"


@claim(
    "pytorch-notes/tensorboard-is-a-separate-install",
    finding="torch does not require it; the import of torch.utils.tensorboard fails without it, and names it.",
    controls=[override("tensorboard is there", hidden=())],
)
def test_the_writer_needs_a_package_that_torch_does_not_bring(monkeypatch, hidden=("tensorboard",)):
    requirements = importlib.metadata.requires("torch") or []
    assert not [name for name in requirements if re.match("tensorboard", name)]
    monkeypatch.setattr(WRITER, importlib.import_module(WRITER))  # to be put back, where an import replaces it
    for name in [name for name in sys.modules if name.startswith(WRITER)]:
        monkeypatch.delitem(sys.modules, name)
    for name in hidden:
        monkeypatch.setitem(sys.modules, name, None)
    with pytest.raises(ImportError, match="tensorboard"):
        importlib.import_module(WRITER)


def refuse_a_missing_folder(folder):
    """What a writer would do that needed the folder."""
    if not Path(folder).is_dir():
        raise FileNotFoundError(folder)


@claim(
    "pytorch-notes/summarywriter-creates-missing-log-dir",
    verdict=REFUTED,
    finding="It creates the folder, and those above it; os.makedirs before it is not needed, and does no harm.",
    controls=[replace("tensorboard.compat.tensorflow_stub.io.gfile.makedirs", refuse_a_missing_folder)],
)
@settings(max_examples=10)
@given(parts=st.lists(st.text("abc", min_size=1, max_size=3), min_size=1, max_size=4), made=st.booleans())
def test_the_writer_creates_the_log_folder(tmp_path_factory, parts, made):
    folder = tmp_path_factory.mktemp("logs").joinpath(*parts)
    if made:
        folder.mkdir(parents=True)
    writer = importlib.import_module(WRITER).SummaryWriter
    assert error_of(lambda: writer(folder).close()) is None
    assert len(event_paths(folder)) == 1


def with_step(writer, tag, value, step):
    writer.add_scalar(tag, value, step)


def without_step(writer, tag, value, step):
    writer.add_scalar(tag, value)


points = st.lists(st.tuples(st.floats(width=32), st.integers(-(2**63), 2**63 - 1)), min_size=1, max_size=5)


@claim(
    "pytorch-notes/add-scalar-records-tag-value-step",
    finding="Any text is a tag and any 64-bit integer a step; points stay in the order of recording, also if the steps "
    "do not rise. Values are rounded to float32: 0.1 is read back as 0.10000000149.",
    controls=[override("no step given", log=without_step)],
)
@settings(max_examples=15)
@given(series=st.dictionaries(st.text(), points, min_size=1, max_size=4), log=st.just(with_step))
def test_every_scalar_is_read_back_with_its_tag_value_and_step(recorded, series, log):
    def write(writer):
        with_step(writer, "loss", 2.0, 0)
        for tag, recordings in series.items():
            for value, step in recordings:
                log(writer, f"{tag}/loss", value, step)
        with_step(writer, "loss", 3.0, 1)
        with_step(writer, "rounded", 0.1, 0)

    events = recorded(write)
    expected = {f"{tag}/loss": recordings for tag, recordings in series.items()} | {"loss": [(2.0, 0), (3.0, 1)]}
    assert set(events.tags["scalars"]) == {*expected, "rounded"}
    for tag, recordings in expected.items():
        values, steps = zip(*recordings, strict=True)
        np.testing.assert_array_equal(events.scalars(tag).values, values)
        assert events.scalars(tag).steps.tolist() == list(steps)
    assert events.scalars("rounded").values == np.float32(0.1)


def straight_to_numpy(x):
    """Convert a tensor that may require a gradient without detaching it."""
    return np.asarray([x.numpy() if isinstance(x, torch.Tensor) else x])


@claim(
    "pytorch-notes/add-scalar-accepts-loss-tensor",
    finding="Of any shape with one element, and of any real dtype; two elements are an error.",
    controls=[replace("torch.utils.tensorboard.summary.make_np", straight_to_numpy)],
)
@settings(max_examples=10)
@given(value=st.integers(-9, 9), dims=st.integers(0, 3), dtype=dtypes(integer=False))
def test_a_loss_that_requires_grad_is_recorded_like_its_item(recorded, value, dims, dtype):
    loss = torch.full([1] * dims, float(value), dtype=dtype, requires_grad=True) * 1

    def write(writer):
        writer.add_scalar("item", loss.item(), 3)
        refused = error_of(writer.add_scalar, "tensor", loss, 3)
        assert refused is None
        assert "one element" in str(error_of_two(writer))

    events = recorded(write)
    assert events.scalars("tensor").values == events.scalars("item").values == value


def error_of_two(writer):
    """What add_scalar, which asserts, says to two elements."""
    with pytest.raises(AssertionError) as refusal:
        writer.add_scalar("two", torch.ones(2), 0)
    return refusal.value


FINISH = {
    "at once": lambda writer: None,
    "flushed": lambda writer: writer.flush(),
    "closed": lambda writer: writer.close(),
    "flushed and closed": lambda writer: (writer.flush(), writer.close()),
    "a moment later": lambda writer: time.sleep(60),
}


def record_and_die(folder, finish):
    """Record 20 points, finish in one of these ways, and leave the process without any tidying up."""
    sys.setswitchinterval(10)  # so that the writer's thread gets its turn only while this one waits for something
    writer = importlib.import_module(WRITER).SummaryWriter(folder)
    for step in range(20):
        writer.add_scalar("loss", step, step)
    FINISH[finish](writer)
    os._exit(0)


def size(folder):
    return sum(path.stat().st_size for path in folder.glob("*"))


@pytest.fixture(scope="session")
def left(tmp_path_factory):
    """Points on the disk, of 20, by the way in which the process that recorded them finished before it died."""
    folder, points = tmp_path_factory.mktemp("endings"), {}
    importlib.import_module(WRITER)  # once, before the processes are forked
    for finish in FINISH:
        process = multiprocessing.get_context("fork").Process(target=record_and_die, args=(folder / finish, finish))
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", DeprecationWarning)  # of forks beside threads, which the child doesn't need
            process.start()
        deadline = time.monotonic() + 30
        while finish == "a moment later" and size(folder / finish) < size(folder / "closed"):
            assert time.monotonic() < deadline
            time.sleep(0.01)
        if finish == "a moment later":
            process.kill()
        process.join(30)
        assert process.exitcode == (-signal.SIGKILL if finish == "a moment later" else 0)
        points[finish] = len(EventFiles(folder / finish).scalars("loss").steps)
    return points


@claim(
    "pytorch-notes/close-required-to-save-events",
    verdict=CONDITIONAL,
    finding="A thread of the writer's writes what is recorded, without being told. Lost is what still waits for it "
    "when the process dies, ten events or so: that is half of these 20 points. A moment later all are on the disk, "
    "though nothing was flushed nor closed.",
    controls=[override("closed before", end="closed"), override("no time left", later="at once")],
)
def test_without_close_only_the_last_events_are_lost_and_only_if_the_process_dies_at_once(
    left, evidence, end="at once", later="a moment later"
):
    evidence.table("points on the disk, of 20", [{"end": way, "points": points} for way, points in left.items()])
    assert 8 <= left[end] < 20
    assert left[later] == 20
    assert left["closed"] == 20


@claim(
    "pytorch-notes/flush-forces-pending-events-to-disk",
    finding="It returns when the writer's thread has written all of them.",
    controls=[override("not flushed", end="at once")],
)
def test_flush_forces_what_is_pending_to_the_disk(left, end="flushed"):
    assert left[end] == 20
    assert left["at once"] < 20


@claim(
    "pytorch-notes/flush-before-close-redundant",
    verdict=REFUTED,
    finding="close() writes whatever is pending: without flush() before it the file has the same points.",
    controls=[override("neither", end="at once")],
)
def test_close_alone_forces_everything_to_the_disk(left, end="closed"):
    assert left[end] == left["flushed and closed"] == 20


def log_a_run(folder, points):
    """Record as many points in ``folder``, and save a model beside them, as the example does."""
    with importlib.import_module(WRITER).SummaryWriter(folder) as writer:
        for step in range(points):
            writer.add_scalar("loss", points, step)
    torch.save({"weight": torch.full((2,), float(points))}, folder / "best_model.pth")


@claim(
    "pytorch-notes/timestamped-dir-avoids-overwriting",
    verdict=CONDITIONAL,
    finding="best_model.pth is overwritten. The event file is not: each run writes one of its own. But both then show "
    "as one run, a curve with all points of the first and then all of the second.",
    controls=[override("a folder for each run", second="b")],
)
def test_a_second_run_in_the_same_folder_overwrites_the_model_and_mixes_the_curves(tmp_path, second="a"):
    (tmp_path / "a").mkdir()
    (tmp_path / "b").mkdir()
    log_a_run(tmp_path / "a", points=3)
    before = event_paths(tmp_path / "a")[0].read_bytes()
    log_a_run(tmp_path / second, points=5)
    first, *others = event_paths(tmp_path / "a")
    assert first.read_bytes() == before
    assert len(others) == 1
    assert EventFiles(tmp_path / "a").scalars("loss").values.tolist() == [3.0] * 3 + [5.0] * 5
    assert torch.load(tmp_path / "a" / "best_model.pth")["weight"].tolist() == [5.0, 5.0]
