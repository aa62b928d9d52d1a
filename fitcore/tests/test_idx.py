"""IDX files are what torchvision reads."""

import pytest
import torch
from torchvision.datasets import MNIST

from fitcore.data import mnist
from fitcore.data.idx import idx_bytes, write_mnist


def test_torchvision_reads_the_digits_without_a_download(tmp_path):
    parts = mnist()[:30], mnist(train=False)[:20]
    write_mnist(tmp_path, *parts)
    for train, digits in zip((True, False), parts, strict=True):
        read = MNIST(tmp_path, train=train, download=True)
        assert torch.equal(read.data, digits.images[:, 0])
        assert torch.equal(read.targets, digits.labels)


def test_the_header_tells_type_and_sizes():
    written = idx_bytes(torch.arange(6, dtype=torch.uint8).reshape(2, 3).T)
    assert written == bytes([0, 0, 8, 2, 0, 0, 0, 3, 0, 0, 0, 2, 0, 3, 1, 4, 2, 5])


@pytest.mark.parametrize("dtype", [torch.int8, torch.int64, torch.float32])
def test_other_dtypes_are_refused(dtype):
    with pytest.raises(ValueError, match="uint8"):
        idx_bytes(torch.ones(3, dtype=dtype))
