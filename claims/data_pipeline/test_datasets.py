"""Sections 6 and 6.1.2: what a Dataset is, and what the document's own one returns."""

import sqlite3

import hypothesis.strategies as st
import pytest
import torch
from hypothesis import given
from torch.utils.data import DataLoader, Dataset, TensorDataset
from torchvision.transforms import Compose, Normalize, ToTensor

from fitcore.data import cifar10
from fitcore.testing import CONDITIONAL, REFUTED, claim, error_of, override
from fitcore.testing.strategies import dtypes, numbered, shapes, tensors

MEAN, STD = (0.4914, 0.4822, 0.4465), (0.2023, 0.1994, 0.2010)


class Samples(Dataset):
    """Data and labels, and what is done to a sample when it is asked for: the document's Dataset."""

    def __init__(self, data, labels, transform=None):
        self.data, self.labels, self.transform = data, labels, transform

    def __len__(self):
        return len(self.data)

    def __getitem__(self, index):
        sample = self.data[index]
        return (self.transform(sample) if self.transform else sample), self.labels[index]


class Rows(Dataset):
    """The rows of a table, counted and read when they are asked for."""

    def __init__(self, database):
        self.database = database

    def __len__(self):
        return self.database.execute("SELECT count(*) FROM readings").fetchone()[0]

    def __getitem__(self, index):
        return self.database.execute("SELECT value FROM readings WHERE rowid = ?", (index + 1,)).fetchone()[0]


def fed_by_hand(database):
    return TensorDataset(torch.tensor(database.execute("SELECT value FROM readings").fetchall()))


def insert(database, values):
    database.executemany("INSERT INTO readings VALUES (?)", [(float(value),) for value in values])


@claim(
    "pytorch-notes/dataset-wraps-any-source",
    finding="20 rows make four batches of five; after ten more are inserted, the same loader says six and serves all "
    "thirty from its next epoch on, as its Dataset is asked for its length anew.",
    controls=[override("tensors fed by hand", wrap=fed_by_hand)],
)
@pytest.mark.parametrize("shuffle", [False, True])
def test_a_dataset_follows_a_table_that_grows(shuffle, wrap=Rows):
    database = sqlite3.connect(":memory:")
    database.execute("CREATE TABLE readings (value REAL)")
    insert(database, range(20))
    loader = DataLoader(wrap(database), batch_size=5, shuffle=shuffle)
    assert (len(loader), len(list(loader))) == (4, 4)
    insert(database, range(20, 30))
    assert (len(loader), len(list(loader))) == (6, 6)
    assert torch.cat(list(loader)).sort().values.tolist() == list(range(30))


class Unsized(Dataset):
    """Samples without a length."""

    def __getitem__(self, index):
        return index


class Sized(Unsized):
    def __len__(self):
        return 20


@claim(
    "pytorch-notes/dataset-needs-len-for-loader",
    verdict=CONDITIONAL,
    finding="It raises TypeError, with shuffle=True already when the loader is made. But it is the loader's own "
    "samplers that ask for the length: given a sampler, or a list of batches, it iterates such a Dataset.",
    controls=[override("with a length", make=Sized)],
)
@pytest.mark.parametrize("shuffle", [False, True])
def test_a_loader_needs_a_length_unless_it_is_given_a_sampler(shuffle, make=Unsized):
    dataset = make()
    error = error_of(lambda: list(DataLoader(dataset, batch_size=5, shuffle=shuffle)))
    assert isinstance(error, TypeError)
    assert "has no len()" in str(error)
    (batch,) = DataLoader(dataset, batch_size=5, sampler=[3, 1, 4])
    assert batch.tolist() == [3, 1, 4]
    assert [batch.tolist() for batch in DataLoader(dataset, batch_sampler=[[2, 7], [1]])] == [[2, 7], [1]]


@claim(
    "pytorch-notes/customdataset-prints-shape",
    controls=[
        override("channels first of all", data=lambda: torch.zeros(3, 100, 32, 32)),
        override("one channel", data=lambda: torch.zeros(100, 1, 32, 32)),
    ],
)
def test_a_hundred_images_have_length_100_and_shape_3_32_32(data=lambda: torch.randn(100, 3, 32, 32)):
    dataset = Samples(data(), torch.randint(0, 10, (100,)))
    assert len(dataset) == 100
    assert dataset[0][0].shape == (3, 32, 32)


@claim(
    "pytorch-notes/customdataset-label-is-0d-tensor",
    finding="A 0-d tensor, not an int; format() with no format of its own shows its value alone, print() and repr() "
    "show tensor(3).",
    controls=[override("a row for each label", column=lambda labels: labels[:, None])],
)
@given(
    labels=tensors(shapes(min_dims=1, max_dims=1), dtype=dtypes(floating=False)),
    data=st.data(),
    column=st.just(torch.clone),
)
def test_a_label_is_a_0d_tensor_that_formats_as_an_integer(labels, data, column):
    index = data.draw(st.integers(0, len(labels) - 1))
    label = Samples(labels, column(labels))[index][1]
    assert isinstance(label, torch.Tensor)
    assert (label.ndim, label.dtype) == (0, labels.dtype)
    assert f"{label}" == str(labels.tolist()[index])
    assert repr(label) != f"{label}"


def a_copy(sample):
    return sample.clone()


@claim(
    "pytorch-notes/customdataset-sample-aliases-data",
    finding="An in-place change of a sample changes the data for good; of a batch it doesn't.",
    controls=[
        override("a transform that copies", transform=a_copy),
        override("batches that are views", collate=lambda samples: (samples[0][0]._base, samples[0][1])),
    ],
)
@given(
    data=numbered(shapes(min_dims=2)).map(lambda t: t + 1),
    place=st.data(),
    transform=st.none(),
    collate=st.none(),
)
def test_a_sample_is_a_view_of_the_data_and_a_batch_is_a_copy(data, place, transform, collate):
    dataset, original = Samples(data, torch.arange(len(data)), transform), data.clone()
    index = place.draw(st.integers(0, len(data) - 1))
    batch, _ = next(iter(DataLoader(dataset, batch_size=len(data), collate_fn=collate)))
    batch.zero_()
    assert torch.equal(data, original)
    dataset[index][0].zero_()
    original[index] = 0
    assert torch.equal(data, original)


@claim(
    "pytorch-notes/customdataset-length-mismatch-raises-at-construction",
    verdict=REFUTED,
    finding="It takes data and labels of any lengths. 100 samples with 50 labels fail at the 51st, by an IndexError; "
    "with labels to spare nothing ever fails. TensorDataset compares the lengths when it is made.",
    controls=[override("a Dataset that compares them", make=TensorDataset)],
)
@given(samples=st.integers(2, 100), missing=st.integers(1, 99), make=st.just(Samples))
def test_different_lengths_go_unnoticed_at_construction(samples, missing, make):
    labels = max(1, samples - missing)
    data = torch.zeros(samples, 3), torch.zeros(labels)
    assert error_of(make, *data) is None
    dataset = make(*data)
    assert len(dataset) == samples
    assert error_of(dataset.__getitem__, labels - 1) is None
    assert isinstance(error_of(dataset.__getitem__, labels), IndexError)
    assert error_of(lambda: list(DataLoader(make(*data[::-1])))) is None
    assert "Size mismatch" in str(error_of(TensorDataset, *data))


@claim(
    "pytorch-notes/totensor-rejects-tensor-input",
    verdict=REFUTED,
    finding="ToTensor takes PIL images and arrays only: over tensors the first sample raises TypeError. It takes the "
    "arrays of the same images; and over tensors Normalize alone does, as they are what ToTensor would make.",
    controls=[override("arrays", source=lambda images: images.permute(0, 2, 3, 1).numpy())],
)
@given(
    images=tensors(st.tuples(st.integers(1, 3), st.just(3), st.integers(1, 5), st.integers(1, 5)), torch.uint8),
    source=st.just(lambda images: images),
)
def test_totensor_takes_arrays_and_no_tensors(images, source):
    labels = torch.arange(len(images))
    error = error_of(Samples(source(images), labels, ToTensor()).__getitem__, 0)
    assert isinstance(error, TypeError)
    assert "should be PIL Image or ndarray" in str(error)
    arrays = Samples(images.permute(0, 2, 3, 1).numpy(), labels, Compose([ToTensor(), Normalize(MEAN, STD)]))
    scaled = Samples(images.float() / 255, labels, Normalize(MEAN, STD))
    torch.testing.assert_close(arrays[0][0], scaled[0][0])


@claim(
    "pytorch-notes/tensor-label-indexes-class-list",
    finding="So can any integer or boolean tensor of one element; one of floating point can't.",
    controls=[override("labels of floating point", dtype=torch.float32)],
)
@given(
    label=st.integers(0, 9),
    dtype=dtypes(floating=False),
)
def test_a_0d_integer_tensor_indexes_a_list(label, dtype):
    classes = cifar10(train=False).classes
    labels = torch.tensor([label]).to(dtype)
    assert error_of(lambda: classes[labels[0]]) is None
    assert classes[labels[0]] is classes[label]


@pytest.fixture(scope="session")
def photographs(data_root):
    return cifar10(data_root)


@claim(
    "pytorch-notes/normalised-image-range",
    finding="Black is -2.429 in the first channel and white 2.754 in the third; the photographs reach both. The other "
    "channels keep within.",
    controls=[override("the standard deviations of all pixels", std=(0.2470, 0.2435, 0.2616))],
)
def test_normalised_pixels_lie_between_minus_2_429_and_2_754(photographs, evidence, std=STD):
    pixels = Normalize(MEAN, std)(photographs[:500].scaled)
    extremes = [pixels.min(), pixels.max()]
    assert evidence.figure("range", reported=[-2.429, 2.754], measured=extremes, tolerance=5e-4)


@claim(
    "pytorch-notes/train-loader-batch-shapes",
    controls=[override("single images", batch_size=1)],
)
def test_a_batch_of_64_has_images_64_3_32_32_and_labels_64(photographs, batch_size=64):
    dataset = Samples(photographs.images, photographs.labels, lambda image: image / 255)
    batches = list(DataLoader(dataset, batch_size, shuffle=True, drop_last=True))
    assert {(tuple(images.shape), tuple(labels.shape)) for images, labels in batches} == {((64, 3, 32, 32), (64,))}
    assert {(images.dtype, labels.dtype) for images, labels in batches} == {(torch.float32, torch.int64)}


@pytest.fixture
def full_root(data_root):
    if data_root is None:
        pytest.skip("needs the full CIFAR-10 data set: --data-root")
    return data_root


@claim("pytorch-notes/cifar10-sizes", controls=[override("the images to test on", train=False)])
def test_each_class_has_5000_training_images(full_root, evidence, train=True):
    images = cifar10(full_root, train=train)
    counts = torch.bincount(images.labels)
    assert images.images.shape[1:] == (3, 32, 32)
    assert evidence.figure("training images of each class", reported=[5000] * 10, measured=counts, tolerance=0)
