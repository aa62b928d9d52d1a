"""Sections 10.1 and 12: the digits, what ToTensor makes of them, and the batches that the loaders hand out."""

import os
import threading

import hypothesis.strategies as st
import numpy as np
import pytest
import torch
from hypothesis import example, given
from torch.utils.data import DataLoader, Dataset, TensorDataset
from torchvision import datasets
from torchvision.transforms import PILToTensor, ToTensor
from torchvision.transforms.functional import to_pil_image

from fitcore.data import cifar10, mnist
from fitcore.data.idx import write_mnist
from fitcore.testing import CONDITIONAL, REFUTED, claim, override
from fitcore.testing.strategies import shapes, tensors

bytes_up_to_255 = st.integers(0, 255)
grey = tensors(shapes(min_dims=2, max_dims=2), torch.uint8, bytes_up_to_255)
coloured = tensors(shapes(min_dims=2, max_dims=2).map(lambda sides: (*sides, 3)), torch.uint8, bytes_up_to_255)


@claim(
    "pytorch-notes/totensor-scales-0-255-to-0-1",
    finding="Values of 8 bits, as those of MNIST, are divided by 255, in PIL images and in arrays. Only arrays of "
    "other dtypes keep their values: 255 as int64 or float32 stays 255.",
    controls=[override("converted without scaling", convert=PILToTensor())],
)
@pytest.mark.parametrize("other", [np.int16, np.int64, np.float32, np.float64])
@given(pixels=grey | coloured, convert=st.just(ToTensor()))
def test_totensor_divides_bytes_by_255_and_nothing_else(pixels, convert, other):
    array = pixels.numpy()
    scaled = convert(to_pil_image(array))
    assert scaled.dtype == torch.float32
    assert torch.equal(scaled, ToTensor()(array))
    assert torch.equal(scaled, pixels.reshape(*pixels.shape[:2], -1).movedim(-1, 0) / 255)
    assert torch.equal(ToTensor()(array.astype(other)).double(), (scaled.double() * 255).round())


def as_it_is(image):
    return torch.tensor(np.asarray(image))


@claim(
    "pytorch-notes/totensor-hw-to-chw",
    finding="A grey image of 28x28 becomes (1, 28, 28), and one in colour, H x W x 3, becomes 3 x H x W.",
    controls=[override("the array as it is", convert=as_it_is)],
)
@example(pixels=torch.zeros(28, 28, dtype=torch.uint8), convert=ToTensor())
@given(pixels=grey | coloured, convert=st.just(ToTensor()))
def test_totensor_puts_channels_first(pixels, convert):
    height, width, *channels = pixels.shape
    for image in (to_pil_image(pixels.numpy()), pixels.numpy()):
        assert convert(image).shape == (*(channels or [1]), height, width)


@claim(
    "pytorch-notes/mnist-images-are-28x28-gray-10-classes",
    finding="So are all 10,000 embedded ones; torchvision makes of each a PIL image of mode L, 8 bits of grey.",
    controls=[override("photographs for digits", load=cifar10)],
)
@pytest.mark.parametrize("train", [True, False], ids=["training", "test"])
def test_digits_are_28x28_in_grey_and_of_ten_classes(tmp_path, data_root, evidence, train, load=mnist):
    digits = load(data_root, train=train)
    first = [digits.labels.tolist().index(label) for label in range(10)]
    evidence.image(f"one of each class: {digits.source}", torch.cat([*digits.images[first, 0]], dim=1) / 255)
    assert digits.images.shape == (len(digits), 1, 28, 28)
    assert digits.labels.unique().tolist() == list(range(10))
    write_mnist(tmp_path, digits[:5], digits[:5])
    image, label = datasets.MNIST(tmp_path, train=train)[0]
    assert (image.mode, image.size, label) == ("L", (28, 28), digits.labels[0])
    assert len(datasets.MNIST.classes) == 10


@pytest.fixture
def full_root(data_root):
    if data_root is None:
        pytest.skip("needs the full MNIST data set: --data-root")
    return data_root


@claim("pytorch-notes/mnist-sizes-60000-10000", controls=[override("the parts exchanged", parts=(False, True))])
def test_the_full_set_has_60000_and_10000_digits(full_root, evidence, parts=(True, False)):
    training, test = (mnist(full_root, train=train) for train in parts)
    sizes = [len(training), len(test)]
    assert evidence.figure("training and test digits", reported=[60_000, 10_000], measured=sizes, tolerance=0)
    assert training.images.shape[1:] == test.images.shape[1:] == (1, 28, 28)


@claim(
    "pytorch-notes/mnist-batches-938-and-157",
    finding="The last of each is a smaller one.",
    controls=[override("the last batch dropped", drop_last=True)],
)
def test_batches_of_64_are_938_and_157(evidence, drop_last=False):
    steps = [sum(1 for _ in DataLoader(range(n), 64, drop_last=drop_last)) for n in (60_000, 10_000)]
    assert evidence.figure("steps", reported=[938, 157], measured=steps, tolerance=0)


@claim(
    "pytorch-notes/every-train-batch-is-64",
    verdict=REFUTED,
    finding="937 of the 938 are: 60,000 is not a multiple of 64, and the last batch has 32 digits. With drop_last=True "
    "all 937 have 64.",
    controls=[override("the last batch dropped", drop_last=True)],
)
def test_the_last_of_938_batches_has_32_digits(drop_last=False):
    *full, last = DataLoader(range(60_000), 64, shuffle=True, drop_last=drop_last, collate_fn=len)
    assert full == [64] * 937
    assert last == 32
    assert set(DataLoader(range(60_000), 64, drop_last=True, collate_fn=len)) == {64}


@claim(
    "pytorch-notes/every-train-batch-is-64",
    verdict=REFUTED,
    finding="What comes out of torchvision's data set is (64, 1, 28, 28) and (64,) until the digits run out: of 100 "
    "embedded ones the second batch has 36.",
    controls=[override("a multiple of 64", digits=128)],
)
def test_a_batch_is_64_digits_of_one_channel_or_the_rest(tmp_path, data_root, digits=100):
    some = mnist(data_root)[:digits]
    write_mnist(tmp_path, some, some)
    batches = [*DataLoader(datasets.MNIST(tmp_path, transform=ToTensor()), batch_size=64, shuffle=True)]
    (first, labels), (last, rest) = batches
    assert (first.shape, labels.shape) == ((64, 1, 28, 28), (64,))
    assert (last.shape, rest.shape) == ((36, 1, 28, 28), (36,))


class Whereabouts(Dataset):
    """Where each sample is read: the process, and whether by its main thread."""

    def __len__(self):
        return 4

    def __getitem__(self, index):
        return os.getpid(), threading.current_thread() is threading.main_thread()


@claim(
    "pytorch-notes/dataloader-multithreading",
    verdict=CONDITIONAL,
    finding="It loads in parallel, though not by threads: each of num_workers is a process, which reads in its main "
    "thread. The listing asks for none, so that its batches are read in the training process itself.",
    controls=[override("as in the listing", num_workers=0)],
)
@pytest.mark.filterwarnings("ignore:This DataLoader will create")  # more workers than cores
def test_parallel_loading_is_done_by_processes(num_workers=2):
    readers = [torch.cat(column) for column in zip(*DataLoader(Whereabouts(), 1, num_workers=num_workers), strict=True)]
    assert len(set(readers[0].tolist())) == 2
    assert os.getpid() not in readers[0]
    assert readers[1].all()
    here = [torch.cat(column) for column in zip(*DataLoader(Whereabouts(), 1, shuffle=True), strict=True)]
    assert set(here[0].tolist()) == {os.getpid()}


class SeededAnew(DataLoader):
    """A loader that starts every epoch from one seed."""

    def __iter__(self):
        self.generator.manual_seed(0)
        return super().__iter__()


@claim(
    "pytorch-notes/shuffle-reorders-each-epoch",
    finding="Ten numbers in batches of five come in a new order each time; that one repeats by chance happens once in "
    "3.6 million.",
    controls=[
        override("no shuffling", shuffle=False),
        override("every epoch from one seed", make=SeededAnew),
    ],
)
def test_shuffled_epochs_have_every_sample_once_in_another_order(trials, evidence, shuffle=True, make=DataLoader):
    def two_epochs(seed):
        generator = torch.Generator().manual_seed(seed)
        loader = make(TensorDataset(torch.arange(10)), batch_size=5, shuffle=shuffle, generator=generator)
        return torch.stack([torch.cat([batch for (batch,) in loader]) for _ in range(2)])

    orders = trials.map(two_epochs)
    evidence.image("orders of two epochs, first 20 seeds", orders[:20].reshape(20, 20) / 9)
    trials.always((np.sort(orders) == np.arange(10)).all((1, 2)), name="each epoch has every sample once")
    trials.mostly((orders[:, 0] != orders[:, 1]).any(1), at_least=0.7, name="in another order")
