"""Residual networks."""

from collections import OrderedDict
from collections.abc import Sequence
from functools import partial
from itertools import pairwise

from torch import Tensor, nn
from torch.nn.functional import relu

from fitcore.models.layers import Stack


class ResidualBlock(nn.Module):
    """relu(F(x) + S(x)), with F two 3×3 convolutions, each normalised, and a ReLU between them.

    The shortcut S is the identity, an empty ``nn.Sequential``, where F keeps the shape; else a normalised 1×1
    convolution of the same stride. Input (n, in_channels, h, w), output (n, out_channels, ⌈h / stride⌉, ⌈w / stride⌉).

    Source: K. He, X. Zhang, S. Ren, J. Sun, "Deep Residual Learning for Image Recognition", CVPR 2016.
    """

    def __init__(
        self, in_channels: int, out_channels: int, stride: int = 1, *, groups: int = 1, bias: bool = True
    ) -> None:
        """Build the block.

        Args:
            in_channels: channels of the input.
            out_channels: channels of the output.
            stride: of the first convolution and of the shortcut.
            groups: how many independent blocks stand side by side, each with its share of the channels.
            bias: whether convolutions have biases, which the normalisation takes off again.

        Raises:
            ValueError: channels, a stride or groups below 1, or channels that the groups can't share.
        """
        super().__init__()
        if min(in_channels, out_channels, stride, groups) < 1:
            raise ValueError(
                "in_channels, out_channels, stride and groups must be at least 1, "
                f"got {in_channels}, {out_channels}, {stride} and {groups}"
            )
        convolution = partial(nn.Conv2d, groups=groups, bias=bias)
        self.conv1 = convolution(in_channels, out_channels, 3, stride, padding=1)
        self.bn1 = nn.BatchNorm2d(out_channels)
        self.conv2 = convolution(out_channels, out_channels, 3, padding=1)
        self.bn2 = nn.BatchNorm2d(out_channels)
        self.shortcut = nn.Sequential()
        if stride != 1 or in_channels != out_channels:
            projection = convolution(in_channels, out_channels, 1, stride)
            self.shortcut = nn.Sequential(projection, nn.BatchNorm2d(out_channels))

    def forward(self, x: Tensor) -> Tensor:
        """Return relu(F(x) + S(x))."""
        hidden = relu(self.bn1(self.conv1(x)))
        return relu(self.bn2(self.conv2(hidden)) + self.shortcut(x))


class ResidualNetwork(Stack):
    """A strided convolution and pooling, stages of residual blocks, the average over what is left of the image.

    Input (n, channels, h, w), output (n, classes). The image is halved by the convolution, by the pooling and by every
    stage but the first, rounding up. The default has 2,787,594 parameters: an 18-layer network without its last stage.

    Source: He et al., as for `ResidualBlock`.
    """

    def __init__(
        self,
        channels: int = 3,
        classes: int = 10,
        widths: Sequence[int] = (64, 128, 256),
        blocks: int = 2,
        bias: bool = True,
    ) -> None:
        """Build a stage of ``blocks`` blocks for each of ``widths``, its number of channels.

        Raises:
            ValueError: no stage; or channels, classes, widths or blocks below 1.
        """
        if not widths or min(channels, classes, blocks, *widths) < 1:
            raise ValueError(
                "channels, classes and blocks must be at least 1, and widths one positive integer a stage, "
                f"got {channels}, {classes}, {blocks} and {list(widths)}"
            )
        stages = {
            f"stage{number}": _stage(before, width, blocks, 1 if number == 1 else 2, bias)
            for number, (before, width) in enumerate(pairwise([widths[0], *widths]), start=1)
        }
        super().__init__(
            OrderedDict(
                conv=nn.Conv2d(channels, widths[0], 7, 2, padding=3, bias=bias),
                bn=nn.BatchNorm2d(widths[0]),
                relu=nn.ReLU(),
                maxpool=nn.MaxPool2d(3, 2, padding=1),
                **stages,
                avgpool=nn.AdaptiveAvgPool2d(1),
                flatten=nn.Flatten(),
                fc=nn.Linear(widths[-1], classes),
            )
        )


def _stage(in_channels: int, out_channels: int, blocks: int, stride: int, bias: bool) -> nn.Sequential:
    """As many blocks, the first of which changes the number of channels and the size of the image."""
    first = ResidualBlock(in_channels, out_channels, stride, bias=bias)
    return nn.Sequential(first, *(ResidualBlock(out_channels, out_channels, bias=bias) for _ in range(1, blocks)))
