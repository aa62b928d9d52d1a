"""Section 6.2.1: the document's Dataset over a folder of images, beside torchvision's ImageFolder."""

import io
import os
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from tempfile import TemporaryDirectory
from unittest.mock import patch

import hypothesis.strategies as st
import torch
from hypothesis import example, given, settings
from PIL import Image
from torch import nn
from torch.utils.data import DataLoader, Dataset
from torchvision.datasets import ImageFolder
from torchvision.datasets.folder import IMG_EXTENSIONS
from torchvision.transforms import ToTensor

from fitcore.testing import CONDITIONAL, REFUTED, claim, error_of, override

SUFFIXES = (".png", ".jpg", ".jpeg")


class ClassFolders(Dataset):
    """The document's: a class for each entry of the root, and the images that lie directly in it."""

    def __init__(self, root, transform=None):
        self.transform = transform
        self.classes = self.entries(root)
        self.samples = [
            (path, label)
            for label, folder in enumerate(Path(root, name) for name in self.classes)
            if folder.is_dir()
            for path in self.files(folder)
        ]

    def entries(self, root):
        return sorted(os.listdir(root))

    def files(self, folder):
        return [folder / name for name in os.listdir(folder) if name.lower().endswith(SUFFIXES)]

    def __len__(self):
        return len(self.samples)

    def __getitem__(self, index):
        path, label = self.samples[index]
        image = self.load(path)
        return (self.transform(image) if self.transform else image), label

    def load(self, path):
        return Image.open(path).convert("RGB")


class OnlyFolders(ClassFolders):
    def entries(self, root):
        return sorted(entry.name for entry in Path(root).iterdir() if entry.is_dir())


class InReverse(ClassFolders):
    def entries(self, root):
        return super().entries(root)[::-1]


class AsStored(ClassFolders):
    def load(self, path):
        return Image.open(path)


class Sorted(ClassFolders):
    def files(self, folder):
        return sorted(super().files(folder))


class Searched(ClassFolders):
    def files(self, folder):
        return [path for path in folder.rglob("*") if path.suffix.lower() in IMG_EXTENSIONS]


class Eager(ClassFolders):
    def __init__(self, root, transform=None):
        super().__init__(root, transform)
        self.images = {path: super(Eager, self).load(path) for path, _ in self.samples}

    def load(self, path):
        return self.images[path]


@cache
def encoded(suffix, shade=0, mode="L"):
    """A file of 2x2 pixels in one grey."""
    file = io.BytesIO()
    Image.new("L", (2, 2), shade).convert(mode).save(file, Image.registered_extensions()[suffix.lower()])
    return file.getvalue()


@contextmanager
def folder_of(files):
    """A root with ``files``, each a path below it and its bytes; a path that ends in / is an empty folder."""
    with TemporaryDirectory() as root:
        for name, content in files.items():
            path = Path(root, name)
            path.parent.mkdir(parents=True, exist_ok=True)
            path.mkdir(exist_ok=True) if name.endswith("/") else path.write_bytes(content)
        yield Path(root)


def shade_of(image):
    """The grey of an image in RGB or in grey."""
    return image.convert("L").getpixel((0, 0))


DOCUMENTS_TREE = {"a": [".png"] * 3 + [".JPG", ".txt"], "b": [".png"] * 3}
# Names differ in more than case, for file systems that see no other difference.
names = st.text("abcXYZ019_", min_size=1, max_size=4)
files = st.lists(st.sampled_from([*SUFFIXES, ".PNG", ".JPG", ".txt", ".gif"]), max_size=6)
trees = st.lists(st.tuples(names, files), max_size=6, unique_by=lambda item: item[0].lower()).map(dict)


@claim(
    "pytorch-notes/imagefolder-example-tree",
    finding="Whatever the classes are called, sorted by code point, capitals first; in RGB also where the files are "
    "gray or indexed.",
    controls=[override("classes in reverse", dataset=InReverse), override("left as stored", dataset=AsStored)],
)
@settings(max_examples=15)
@example(tree=DOCUMENTS_TREE, mode="L", dataset=ClassFolders)
@given(tree=trees, mode=st.sampled_from(["L", "RGB"]), dataset=st.just(ClassFolders))
def test_every_png_and_jpeg_comes_in_rgb_with_the_index_of_its_class(tree, mode, dataset):
    files = {
        f"{name}/{number}{suffix}": b"" if suffix == ".txt" else encoded(suffix, 40 * label, mode)
        for label, name in enumerate(sorted(tree))
        for number, suffix in enumerate(tree[name])
    }
    with folder_of(files | {f"{name}/": b"" for name in tree}) as root:
        samples = list(dataset(root))
    images = [name for name in files if name.lower().endswith(SUFFIXES)]
    assert sorted(label for _, label in samples) == [sorted(tree).index(Path(name).parent.name) for name in images]
    # Each class has a grey of its own; JPEG changes it by a few levels.
    assert all(image.mode == "RGB" for image, _ in samples)
    assert [round(shade_of(image) / 40) for image, _ in samples] == [label for _, label in samples]


@claim(
    "pytorch-notes/imagefolder-stray-file-shifts-labels",
    verdict=REFUTED,
    finding="Every entry of the root counts as a class, files too: with .DS_Store and aaa.txt the two classes are "
    "labelled 2 and 3 of four, which a loss over two outputs refuses. ImageFolder counts folders alone.",
    controls=[override("folders alone", dataset=OnlyFolders)],
)
@example(strays={".DS_Store", "aaa.txt"}, dataset=ClassFolders)
@given(strays=st.sets(names.map(lambda name: name + ".txt"), min_size=1), dataset=st.just(ClassFolders))
def test_files_in_the_root_take_numbers_of_classes(strays, dataset):
    classes = ["cat", "dog"]
    with folder_of({f"{name}/1.png": encoded(".png") for name in classes} | dict.fromkeys(strays, b"")) as root:
        printed, torchvisions = dataset(root), ImageFolder(root)
        labels, right = [label for _, label in printed], [label for _, label in torchvisions]
    ahead = [sum(stray < name for stray in strays) for name in classes]
    assert printed.classes == sorted(classes + sorted(strays))
    assert labels == [ahead[0], 1 + ahead[1]]
    assert (torchvisions.classes, right) == (classes, [0, 1])
    assert isinstance(error_of(nn.functional.cross_entropy, torch.zeros(1, 2), torch.tensor([2])), IndexError)


@claim(
    "pytorch-notes/imagefolder-loads-lazily",
    finding="A sample shows what the file holds when it is asked for; a file that has gone is missed only then.",
    controls=[override("read by the constructor", dataset=Eager)],
)
@settings(max_examples=10)
@given(before=st.integers(0, 255), after=st.integers(0, 255), dataset=st.just(ClassFolders))
def test_files_are_opened_when_a_sample_is_asked_for(before, after, dataset):
    with folder_of({"cat/1.png": encoded(".png", before)}) as root:
        samples, file = dataset(root), root / "cat" / "1.png"
        file.write_bytes(encoded(".png", after))
        assert shade_of(samples[0][0]) == after
        file.unlink()
        assert len(samples) == 1
        assert isinstance(error_of(samples.__getitem__, 0), FileNotFoundError)


THIRTY = [f"{number:02}.png" for number in range(30)]


@claim(
    "pytorch-notes/imagefolder-file-order-deterministic",
    verdict=REFUTED,
    finding="Only the classes are sorted: files come in the order of os.listdir, which is the file system's own. "
    "Neither ext4 nor tmpfs sorts. ImageFolder sorts them.",
    controls=[override("sorted by the class", dataset=Sorted)],
)
@settings(max_examples=10)
@given(listing=st.permutations(THIRTY), dataset=st.just(ClassFolders))
def test_files_come_in_the_order_of_listdir_whatever_it_is(evidence, listing, dataset):
    with folder_of({f"cat/{name}": encoded(".png") for name in listing}) as root:
        as_listed = [path.name for path, _ in dataset(root).samples]
        assert as_listed == os.listdir(root / "cat")
        with patch("os.listdir", lambda folder: ["cat"] if folder == root else listing):
            assert [path.name for path, _ in dataset(root).samples] == listing
        assert [Path(path).name for path, _ in ImageFolder(root).samples] == THIRTY
    out_of_place = sum(name != sorted_name for name, sorted_name in zip(as_listed, THIRTY, strict=True))
    evidence.observe("files out of their sorted place, of 30, on this machine", out_of_place)


@claim(
    "pytorch-notes/imagefolder-nested-and-formats",
    verdict=CONDITIONAL,
    finding="The same where all images lie directly in a class's folder and are .png, .jpg or .jpeg. ImageFolder also "
    "looks into the folders within, and knows .bmp, .webp, .tif, .tiff, .ppm and .pgm; a class without images, which "
    "the document's Dataset keeps, is an error to it unless allow_empty=True.",
    controls=[override("searched as torchvision does", dataset=Searched)],
)
@settings(max_examples=15)
@example(files={"a/1.png", "a/sub/2.png", "b/3.bmp", "b/4.webp"}, dataset=ClassFolders)
@given(
    files=st.sets(
        st.tuples(
            st.sampled_from("ab"),
            st.sampled_from(["", "sub/", "sub/sub/"]),
            st.sampled_from([*SUFFIXES, ".bmp", ".TIF"]),
        ).map(lambda parts: "{}/{}1{}".format(*parts))
    ),
    dataset=st.just(ClassFolders),
)
def test_the_two_agree_on_flat_folders_of_png_and_jpeg(files, dataset):
    nothing_in_b = not any(name.startswith("b/") for name in files)
    flat = {name for name in files if name.count("/") == 1 and name.lower().endswith(SUFFIXES)}
    both = {"a/nested/1.png", "a/1.webp"}
    with folder_of(dict.fromkeys([*files, *both, "b/"], b"")) as root:
        found = {path.relative_to(root).as_posix() for path, _ in dataset(root).samples}
        torchvisions = ImageFolder(root, allow_empty=True)
        found_by_torchvision = {Path(path).relative_to(root).as_posix() for path, _ in torchvisions.samples}
        refusal = error_of(ImageFolder, root)
    assert found == flat
    assert found_by_torchvision == files | both
    assert isinstance(refusal, FileNotFoundError) == nothing_in_b


@claim(
    "pytorch-notes/imagefolder-without-transform-cannot-batch",
    verdict=REFUTED,
    finding="It returns PIL images, of which the loader can't make a batch: TypeError. ToTensor suffices where all "
    "images have one size.",
    controls=[override("with ToTensor", transform=ToTensor())],
)
def test_a_loader_takes_no_pil_images(transform=None):
    with folder_of({f"cat/{number}.png": encoded(".png") for number in range(4)}) as root:
        error = error_of(lambda: list(DataLoader(ClassFolders(root, transform), batch_size=2)))
        batches = list(DataLoader(ClassFolders(root, ToTensor()), batch_size=2))
    assert isinstance(error, TypeError)
    assert "found <class 'PIL.Image.Image'>" in str(error)
    assert [tuple(images.shape) for images, _ in batches] == [(2, 3, 2, 2)] * 2
