"""Batches of images that differ in size."""

from collections.abc import Sequence

import torch
from torch import Tensor
from torch.nn.functional import pad


def pad_to_largest(batch: Sequence[tuple[Tensor, int | Tensor]]) -> tuple[Tensor, Tensor]:
    """Images (n, channels, height, width) and labels (n,), for ``DataLoader(collate_fn=pad_to_largest)``.

    Each image, (channels, h, w), is padded with zeros at its right and bottom to the largest height and the largest
    width of the batch. Of images of one size with integer labels it makes what torch's
    ``default_collate`` does.

    Raises:
        ValueError: an empty batch, or images that differ in their number of channels.
    """
    if not batch:
        raise ValueError("batch must have at least one image")
    images, labels = zip(*batch, strict=True)
    channels = {image.shape[0] for image in images}
    if len(channels) > 1:
        raise ValueError(f"images of a batch must have the same number of channels, got {sorted(channels)}")
    height, width = (max(image.shape[dimension] for image in images) for dimension in (1, 2))
    padded = [pad(image, (0, width - image.shape[2], 0, height - image.shape[1])) for image in images]
    return torch.stack(padded), torch.tensor(labels)
