"""Convolution and max-pooling of images, written out: every window of the kernel, and what becomes of it."""

import math

import torch
from torch import Tensor
from torch.nn import functional

from fitcore.models.validation import require_positive

Size = int | tuple[int, int]


def convolution_size(size: int, kernel: int, *, stride: int = 1, padding: int = 0, dilation: int = 1) -> int:
    """⌊(size + 2 padding - dilation (kernel - 1) - 1) / stride⌋ + 1: the places of a kernel along ``size`` values.

    Pooling makes maps of the same size, as long as it doesn't round up (``ceil_mode``).

    Raises:
        ValueError: size, kernel, stride or dilation below 1, negative padding, or a kernel that reaches beyond the
            padded values, so that there is no output.
    """
    require_positive(size=size, kernel=kernel, stride=stride, dilation=dilation)
    if padding < 0:
        raise ValueError(f"padding must be at least 0, got {padding}")
    extent, padded = dilation * (kernel - 1) + 1, size + 2 * padding
    if extent > padded:
        raise ValueError(
            f"kernel must fit into the padded values, got one of {kernel} that spans {extent} with dilation {dilation} "
            f"for {size} values, {padded} with padding {padding}"
        )
    return (padded - extent) // stride + 1


def convolve(
    images: Tensor,
    weight: Tensor,
    bias: Tensor | None = None,
    *,
    stride: Size = 1,
    padding: Size = 0,
    dilation: Size = 1,
) -> Tensor:
    """``out[n, o] = bias[o] + Σ window · weight[o]`` at each place of the kernel, as ``torch.nn.functional.conv2d``.

    Networks call this a convolution; strictly it is the cross-correlation, since the kernel isn't turned round.

    Args:
        images: (n, channels, height, width); zeros are put around them.
        weight: (maps, channels, kernel height, kernel width): a kernel for each map.
        bias: (maps,).
        stride: how far the kernel moves on, one number or (height, width), as all that follow.
        padding: zeros on each side.
        dilation: distance between the values that a kernel looks at.

    Returns:
        (n, maps, out height, out width), sizes as ``convolution_size`` says.

    Raises:
        ValueError: shapes that don't fit together, or what ``convolution_size`` refuses.
    """
    if weight.ndim != 4 or images.ndim != 4 or weight.shape[1] != images.shape[1]:
        raise ValueError(
            "images (n, channels, height, width) and weight (maps, channels, kernel height, kernel width) are needed, "
            f"got {tuple(images.shape)} and {tuple(weight.shape)}"
        )
    if bias is not None and bias.shape != weight.shape[:1]:
        raise ValueError(f"bias must be ({len(weight)},), got {tuple(bias.shape)}")
    kernel = weight.shape[2], weight.shape[3]
    windows = _windows(images, kernel, stride=stride, padding=padding, dilation=dilation, fill=0.0)
    maps = torch.einsum("nchwij,ocij->nohw", windows, weight)
    return maps if bias is None else maps + bias[:, None, None]


def max_pool(
    images: Tensor, kernel: Size, *, stride: Size | None = None, padding: Size = 0, dilation: Size = 1
) -> Tensor:
    """Return the largest value of each window, channel by channel, as ``torch.nn.functional.max_pool2d`` does.

    Where several are the largest, each gets a share of the gradient; torch gives all of it to the first.

    Args:
        images: (n, channels, height, width), of floating point.
        kernel: size of the windows, one number or (height, width), as all that follow.
        stride: how far they move on; by default the kernel, so that they lie side by side.
        padding: at most half the kernel; what is added never is the largest.
        dilation: distance between the values of a window.

    Returns:
        (n, channels, out height, out width), sizes as ``convolution_size`` says.

    Raises:
        ValueError: images of another kind, more padding, or what ``convolution_size`` refuses.
    """
    if images.ndim != 4 or not images.is_floating_point():
        raise ValueError(
            "images must be (n, channels, height, width) of floating point, "
            f"got {tuple(images.shape)} of {images.dtype}"
        )
    if any(2 * added > side for added, side in zip(_pair(padding), _pair(kernel), strict=True)):
        raise ValueError(f"padding must be at most half the kernel, got {padding} and {kernel}")
    stride = kernel if stride is None else stride
    windows = _windows(images, kernel, stride=stride, padding=padding, dilation=dilation, fill=-math.inf)
    return windows.amax((-2, -1))


def _windows(images: Tensor, kernel: Size, *, stride: Size, padding: Size, dilation: Size, fill: float) -> Tensor:
    """View (n, channels, out height, out width, kernel height, kernel width) of the images with ``fill`` around."""
    sides, steps, (up, left), distances = map(_pair, (kernel, stride, padding, dilation))
    for size, side, step, added, distance in zip(images.shape[2:], sides, steps, (up, left), distances, strict=True):
        convolution_size(size, side, stride=step, padding=added, dilation=distance)
    windows = functional.pad(images, (left, left, up, up), value=fill)
    for dim, side, step, distance in zip((2, 3), sides, steps, distances, strict=True):
        windows = windows.unfold(dim, distance * (side - 1) + 1, step)[..., ::distance]
    return windows


def _pair(size: Size) -> tuple[int, int]:
    return (size, size) if isinstance(size, int) else size
