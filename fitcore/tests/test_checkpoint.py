"""Checkpoints: whole or not at all, whatever happens to the disk, the folder and the file."""

import fcntl
import multiprocessing
import os
import resource
import stat
import zipfile
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest
import torch
from torch import nn

from fitcore.training.checkpoint import load_checkpoint, load_weights, save_checkpoint

STATE = {
    "model": {"weight": torch.arange(6.0).view(2, 3)},
    "epoch": 3,
    "losses": [0.5, 0.25],
    "name": "net",
    "best": None,
}


@pytest.fixture
def path(tmp_path):
    return tmp_path / "net.pt"


def names(folder):
    return sorted(each.name for each in folder.iterdir())


def test_the_state_comes_back(path):
    save_checkpoint(path, STATE)
    loaded = load_checkpoint(path)
    assert torch.equal(loaded["model"].pop("weight"), STATE["model"]["weight"])
    assert loaded == STATE | {"model": {}}
    assert names(path.parent) == ["net.pt"]


def test_torch_reads_what_was_saved_and_what_torch_saved_is_read(path):
    save_checkpoint(path, {"epoch": 1})
    assert torch.load(path) == {"epoch": 1}
    torch.save({"epoch": 2}, path)
    assert load_checkpoint(path) == {"epoch": 2}


def test_the_path_may_be_a_string_without_a_folder(path, monkeypatch):
    monkeypatch.chdir(path.parent)
    save_checkpoint("net.pt", {"epoch": 1})
    assert load_checkpoint("net.pt") == {"epoch": 1}


def test_tensors_go_where_map_location_says(path):
    save_checkpoint(path, STATE)
    assert load_checkpoint(path, map_location="meta")["model"]["weight"].device.type == "meta"


def test_a_missing_folder_is_named(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"no folder .*runs"):
        save_checkpoint(tmp_path / "runs" / "net.pt", STATE)


def test_a_folder_is_not_overwritten(tmp_path):
    with pytest.raises(IsADirectoryError, match=f"as {tmp_path}, which is a folder"):
        save_checkpoint(tmp_path, STATE)
    assert names(tmp_path) == []


def test_a_symbolic_link_stays_one(path):
    link = path.with_name("latest.pt")
    link.symlink_to("net.pt")
    save_checkpoint(link, {"epoch": 1})
    assert link.is_symlink()
    assert load_checkpoint(path) == load_checkpoint(link) == {"epoch": 1}


def test_the_permissions_of_the_old_file_are_kept_and_those_of_a_new_one_are_usual(path):
    save_checkpoint(path, {"epoch": 1})
    path.with_name("usual").touch()
    assert path.stat().st_mode == path.with_name("usual").stat().st_mode
    path.chmod(0o640)
    save_checkpoint(path, {"epoch": 2})
    assert stat.S_IMODE(path.stat().st_mode) == 0o640


def test_what_could_not_be_loaded_is_not_saved(path):
    save_checkpoint(path, {"epoch": 1})
    with pytest.raises(ValueError, match=r"objects of pathlib\.\w+"):
        save_checkpoint(path, {"epoch": 2, "where": Path("here")})
    assert load_checkpoint(path) == {"epoch": 1}
    assert names(path.parent) == ["net.pt"]


def test_a_leftover_of_a_killed_run_is_removed_and_other_files_are_not(path):
    bystanders = [".net.pt", ".other.pt.0123.tmp", "net.pt.tmp"]
    for name in (*bystanders, ".net.pt.0123.tmp"):
        path.with_name(name).write_bytes(b"half a file")
    save_checkpoint(path, STATE)
    assert names(path.parent) == sorted([*bystanders, "net.pt"])


def test_several_writers_to_one_path_leave_one_whole_file(path):
    with ThreadPoolExecutor(4) as threads:
        writers = [threads.submit(save_checkpoint, path, {"epoch": epoch}) for epoch in range(40)]
    assert [writer.exception() for writer in writers] == [None] * 40
    assert load_checkpoint(path)["epoch"] in range(40)
    assert names(path.parent) == ["net.pt"]


def test_brackets_in_a_name_are_no_pattern(tmp_path):
    (tmp_path / ".nett.0123.tmp").touch()
    save_checkpoint(tmp_path / "net[t]", STATE)
    assert names(tmp_path) == [".nett.0123.tmp", "net[t]"]


def test_a_failed_renaming_leaves_the_old_file_and_nothing_else(path, monkeypatch):
    save_checkpoint(path, {"epoch": 1})

    def refuse(source, target):
        raise PermissionError(1, "Operation not permitted")

    monkeypatch.setattr(os, "replace", refuse)
    with pytest.raises(PermissionError, match=r"can't save.*net\.pt"):
        save_checkpoint(path, {"epoch": 2})
    assert load_checkpoint(path) == {"epoch": 1}
    assert names(path.parent) == ["net.pt"]


def test_the_file_and_then_its_name_are_forced_to_the_disk(path, monkeypatch):
    forced = []
    monkeypatch.setattr(os, "fsync", lambda descriptor: forced.append(os.fstat(descriptor)))
    save_checkpoint(path, STATE)
    assert [(status.st_ino, status.st_size) for status in forced] == [
        (each.stat().st_ino, each.stat().st_size) for each in (path, path.parent)
    ]


def test_nothing_is_left_open(path):
    before = os.listdir("/dev/fd")
    save_checkpoint(path, STATE)
    load_checkpoint(path)
    assert os.listdir("/dev/fd") == before


def test_a_temporary_file_that_is_removed_before_it_is_locked_is_made_anew(path, monkeypatch):
    lock, taken = fcntl.flock, []

    def lock_too_late(file, operation):
        if not taken:
            taken.append(Path(file.name))
            taken[0].unlink()
        lock(file, operation)

    monkeypatch.setattr(fcntl, "flock", lock_too_late)
    save_checkpoint(path, {"epoch": 1})
    assert load_checkpoint(path) == {"epoch": 1}
    assert names(path.parent) == ["net.pt"]


def test_what_torch_cannot_save_is_told_as_torch_does(path, monkeypatch):
    def fail(state, file):
        raise RuntimeError("no such storage")

    monkeypatch.setattr(torch, "save", fail)
    with pytest.raises(RuntimeError, match=r"^no such storage$"):
        save_checkpoint(path, STATE)
    assert names(path.parent) == []


def test_the_generators_are_left_alone(path):
    before = torch.get_rng_state()
    save_checkpoint(path, STATE)
    load_checkpoint(path)
    assert torch.equal(torch.get_rng_state(), before)


def test_checksums_are_written_even_where_they_are_switched_off(path):
    torch.serialization.set_crc32_options(False)
    try:
        save_checkpoint(path, STATE)
        assert not torch.serialization.get_crc32_options()
    finally:
        torch.serialization.set_crc32_options(True)
    assert load_checkpoint(path)["epoch"] == 3


def error_on_a_full_disk(path):
    """Save more than the process may write, and say what came of it."""
    resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, 100_000))
    try:
        save_checkpoint(path, {"weight": torch.zeros(100_000)})
    except OSError as error:
        return str(error)
    return None


def error_in_a_read_only_folder(path):
    """Save as a user who may not write to the folder."""
    path.parent.chmod(0o555)
    if os.geteuid() == 0:  # root may write everywhere
        os.setegid(65534)
        os.seteuid(65534)
    try:
        save_checkpoint(path, {"epoch": 2})
    except OSError as error:
        return str(error)
    return None


@pytest.mark.parametrize(
    ("attempt", "reason"),
    [(error_on_a_full_disk, "File too large"), (error_in_a_read_only_folder, "Permission denied")],
    ids=["full disk", "read-only folder"],
)
@pytest.mark.filterwarnings("ignore:os.fork:RuntimeWarning")  # of JAX, where another test has imported it
@pytest.mark.filterwarnings("ignore:This process .* is multi-threaded:DeprecationWarning")
def test_where_nothing_can_be_written_the_error_says_why_and_the_old_file_stays(attempt, reason):
    with TemporaryDirectory() as folder:  # which other users may read, unlike tmp_path
        path = Path(folder) / "net.pt"
        path.parent.chmod(0o755)
        save_checkpoint(path, {"epoch": 1})
        with multiprocessing.get_context("fork").Pool(1) as child:
            error = child.apply(attempt, (path,))
        path.parent.chmod(0o755)
        assert f"can't save the checkpoint: {reason}: '{path}'" in error
        assert load_checkpoint(path) == {"epoch": 1}
        assert names(path.parent) == ["net.pt"]


def test_a_missing_file_is_named(path):
    with pytest.raises(FileNotFoundError, match=r"no checkpoint .*net\.pt"):
        load_checkpoint(path)


@pytest.mark.parametrize("content", [b"", b"PK", b"no checkpoint", bytes(1000)], ids=["empty", "PK", "text", "zeros"])
def test_what_is_no_checkpoint_is_named(content, path):
    path.write_bytes(content)
    with pytest.raises(ValueError, match=r"net\.pt is truncated or damaged, or no checkpoint"):
        load_checkpoint(path)


def test_a_flipped_bit_of_a_tensor_is_noticed(path):
    save_checkpoint(path, STATE)
    content, weights = bytearray(path.read_bytes()), STATE["model"]["weight"].numpy().tobytes()
    content[content.index(weights)] ^= 1
    path.write_bytes(content)
    with pytest.raises(ValueError, match=r"is damaged: its record \S*data/0 is not what was saved"):
        load_checkpoint(path)


def test_a_tensor_that_is_marked_as_a_folder_is_noticed(path):
    torch.save(STATE, path.with_name("whole.pt"))
    with zipfile.ZipFile(path.with_name("whole.pt")) as whole, zipfile.ZipFile(path, "w") as archive:
        for record in whole.infolist():
            content = whole.read(record)
            record.external_attr |= 0x10 * record.filename.endswith("data/0")
            archive.writestr(record, content)
    with pytest.raises(ValueError, match=r"is damaged: its record \S*data/0 is not what was saved"):
        load_checkpoint(path)


def test_a_folder_is_no_checkpoint(tmp_path):
    with pytest.raises(ValueError, match="is no checkpoint but a folder"):
        load_checkpoint(tmp_path)


def test_another_archive_is_no_checkpoint(path):
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("readme", "nothing to load")
    with pytest.raises(ValueError, match=r"can't load .*net\.pt"):
        load_checkpoint(path)


def test_a_tensor_alone_is_no_checkpoint(path):
    torch.save(torch.zeros(2), path)
    with pytest.raises(ValueError, match="holds no dictionary but a Tensor"):
        load_checkpoint(path)


class Hostile:
    def __reduce__(self):
        return os.mkdir, ("executed",)


def test_nothing_is_executed(path, monkeypatch):
    monkeypatch.chdir(path.parent)
    torch.save({"state": Hostile()}, path)
    with pytest.raises(ValueError, match=r"net\.pt: it holds objects that could run code: posix\.mkdir"):
        load_checkpoint(path)
    assert names(path.parent) == ["net.pt"]


def test_a_device_that_is_missing_is_named(path, monkeypatch):
    save_checkpoint(path, STATE)
    with pytest.raises(ValueError, match=r"can't load .*net\.pt: .*nonsense"):
        load_checkpoint(path, map_location="nonsense")


def net(width=4):
    return nn.Sequential(nn.Linear(3, 4), nn.BatchNorm1d(4), nn.Linear(4, width))


def test_weights_that_fit_are_loaded():
    source, target = net(), net()
    load_weights(target, source.state_dict())
    assert all(map(torch.equal, source.state_dict().values(), target.state_dict().values()))


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        (lambda weights: weights.pop("2.bias"), "2.bias is missing"),
        (lambda weights: weights.update(extra=torch.zeros(1)), "extra is unexpected"),
        (lambda weights: weights.update({"2.bias": torch.zeros(4, 1)}), r"2.bias has shape \(4, 1\) instead of \(4,\)"),
        (lambda weights: weights.update({"2.bias": 0.0}), "2.bias is no tensor but a float"),
        (
            lambda weights: [weights.pop(name) for name in ("0.weight", "0.bias", "2.bias")],
            "0.weight is missing; 0.bias is missing; 2.bias is missing$",
        ),
        (lambda weights: weights.clear(), "0.weight is missing; 0.bias is missing; 1.weight is missing; ...$"),
    ],
    ids=["missing", "unexpected", "shape", "no tensor", "three missing", "all missing"],
)
def test_weights_that_do_not_fit_are_named_and_nothing_is_touched(change, reason):
    weights, target = net().state_dict(), net()
    before = [each.clone() for each in target.state_dict().values()]
    change(weights)
    with pytest.raises(ValueError, match=f"don't fit this Sequential: {reason}"):
        load_weights(target, weights)
    assert all(map(torch.equal, before, target.state_dict().values()))


def test_a_layer_without_a_shape_yet_takes_the_shape_of_the_weights():
    target = nn.Sequential(nn.LazyLinear(4))
    load_weights(target, nn.Sequential(nn.Linear(3, 4)).state_dict())
    assert target[0].weight.shape == (4, 3)


def test_a_state_beside_the_tensors_is_handed_on():
    class Counting(nn.Linear):
        count = 0

        def get_extra_state(self):
            return {"count": self.count}

        def set_extra_state(self, state):
            self.count = state["count"]

    source, target = Counting(1, 1), Counting(1, 1)
    source.count = 5
    load_weights(target, source.state_dict())
    assert target.count == 5
