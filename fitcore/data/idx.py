"""The IDX format of the MNIST files, so that torchvision reads digits that were not downloaded."""

import struct
from pathlib import Path

import torch
from torch import Tensor

from fitcore.data.embedded import LabelledImages

_UNSIGNED_BYTE = 0x08


def write_mnist(root: Path, training: LabelledImages, test: LabelledImages) -> None:
    """Write digits where ``torchvision.datasets.MNIST(root)`` looks for them, so that it finds nothing to download.

    Args:
        root: a folder, which gets ``MNIST/raw`` with the four files of the original, unpacked.
        training: images (n, 1, height, width) with labels below 256.
        test: likewise.

    Format: Y. LeCun, C. Cortes, C. Burges, "The MNIST database of handwritten digits".
    """
    folder = root / "MNIST" / "raw"
    folder.mkdir(parents=True, exist_ok=True)
    for part, digits in (("train", training), ("t10k", test)):
        (folder / f"{part}-images-idx3-ubyte").write_bytes(idx_bytes(digits.images[:, 0]))
        (folder / f"{part}-labels-idx1-ubyte").write_bytes(idx_bytes(digits.labels.byte()))


def idx_bytes(array: Tensor) -> bytes:
    """Return a uint8 tensor as IDX: two zero bytes, type, number of dimensions, big-endian sizes, then the elements.

    Raises:
        ValueError: another dtype.
    """
    if array.dtype != torch.uint8:
        raise ValueError(f"array must be uint8, got {array.dtype}")
    header = struct.pack(f">HBB{array.ndim}I", 0, _UNSIGNED_BYTE, array.ndim, *array.shape)
    return header + array.contiguous().numpy().tobytes()
