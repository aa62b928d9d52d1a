"""The embedded images: what there is, and that callers can't spoil it."""

import re
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

import fitcore.data.embedded
from fitcore.data import cifar10, mnist

FILES = Path(fitcore.data.embedded.__file__).parent / "files"


@pytest.mark.parametrize(
    ("load", "train", "shape"),
    [
        (mnist, True, (8000, 1, 28, 28)),
        (mnist, False, (2000, 1, 28, 28)),
        (cifar10, True, (2400, 3, 32, 32)),
        (cifar10, False, (600, 3, 32, 32)),
    ],
)
def test_images_labels_and_classes_fit_together(load, train, shape):
    data = load(train=train)
    assert data.images.shape == shape
    assert data.images.dtype == torch.uint8
    assert data.labels.dtype == torch.int64
    assert len(data) == len(data.labels) == shape[0]
    assert data.labels.unique().tolist() == list(range(10))
    assert len(data.classes) == 10
    assert data.images.is_contiguous()


def test_photographs_are_balanced():
    assert cifar10(train=True).labels.bincount().tolist() == [240] * 10
    assert cifar10(train=False).labels.bincount().tolist() == [60] * 10


def test_scaled_images_are_what_totensor_makes():
    transforms = pytest.importorskip("torchvision.transforms")
    data = cifar10()[:3]
    picture = Image.fromarray(data.images[2].permute(1, 2, 0).numpy())
    assert torch.equal(data.scaled[2], transforms.ToTensor()(picture))


def test_what_a_caller_does_to_the_images_nobody_else_sees():
    mnist().images.zero_()
    assert mnist().images.any()


def test_a_selection_keeps_images_and_labels_together():
    data = mnist()
    some = data[torch.tensor([5, 2])]
    assert torch.equal(some.images, data.images[[5, 2]])
    assert torch.equal(some.labels, data.labels[[5, 2]])
    assert some.classes == data.classes


@pytest.mark.parametrize("load", [mnist, cifar10])
def test_full_data_that_are_not_there_are_an_error(load, tmp_path):
    with pytest.raises(RuntimeError, match="not found"):
        load(tmp_path)


def test_full_data_are_read_in_the_layout_of_torchvision(tmp_path):
    raw = tmp_path / "MNIST" / "raw"
    raw.mkdir(parents=True)
    images = np.arange(2 * 28 * 28, dtype=np.uint8).reshape(2, 28, 28)
    header = b"\0\0\x08\x03" + np.array([2, 28, 28], dtype=">i4").tobytes()
    for part in ("train", "t10k"):
        (raw / f"{part}-images-idx3-ubyte").write_bytes(header + images.tobytes())
        (raw / f"{part}-labels-idx1-ubyte").write_bytes(b"\0\0\x08\x01" + b"\0\0\0\x02" + bytes([7, 3]))
    data = mnist(tmp_path)
    assert torch.equal(data.images[:, 0], torch.from_numpy(images))
    assert data.labels.tolist() == [7, 3]
    assert data.source == "full MNIST"


@pytest.fixture
def files(tmp_path, monkeypatch):
    """Copies of the embedded files, from which images are read, and nothing read before is remembered."""
    shutil.copytree(FILES, tmp_path / "files")
    monkeypatch.setattr(fitcore.data.embedded, "_FILES", tmp_path / "files")
    fitcore.data.embedded._arrays_of.cache_clear()
    yield tmp_path / "files"
    fitcore.data.embedded._arrays_of.cache_clear()


@pytest.mark.parametrize(("load", "name"), [(mnist, "mnist-10k.npz"), (cifar10, "cifar10-3k.npz")])
@pytest.mark.parametrize("place", [0, 100_000, -1])
def test_a_damaged_file_is_an_error_that_names_it(files, load, name, place):
    content = bytearray((files / name).read_bytes())
    content[place] ^= 1
    (files / name).write_bytes(content)
    with pytest.raises(RuntimeError, match=re.escape(f"{files / name} is damaged")):
        load()


def test_a_truncated_file_is_an_error_that_names_it(files):
    path = files / "mnist-10k.npz"
    path.write_bytes(path.read_bytes()[:-1])
    with pytest.raises(RuntimeError, match=re.escape(f"{path} is damaged")):
        mnist()
