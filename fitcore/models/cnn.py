"""Convolutional networks for small images."""

from collections.abc import Sequence
from itertools import pairwise

from torch import Tensor, nn

from fitcore.models.validation import require_positive


class CNN(nn.Module):
    """A block of 3x3 convolution, ReLU and 2x2 max-pooling for each of ``widths``, then a hidden layer and logits.

        CNN()                                                               # 390,410 parameters
        CNN(widths=(16, 32), hidden=None)                                   # 20,490: logits of the features at once
        CNN(image_size=64, channels=3, classes=200, widths=(16, 32, 64, 128), batch_norm=True)

    A block makes of a side of s pixels ⌊(s + 2 padding - 2) / 2⌋: with the default padding of 1 a convolution keeps the
    size, and the 28x28 pixels of the default become maps of 14x14, 7x7 and 3x3.

    Attributes:
        features: the blocks, (n, channels, image_size, image_size) -> (n, widths[-1], side, side).
        classifier: (n, flattened_size) -> (n, classes).
        flattened_size: widths[-1] · side², the number of features of an image.
    """

    def __init__(
        self,
        image_size: int = 28,
        channels: int = 1,
        classes: int = 10,
        widths: Sequence[int] = (32, 64, 128),
        *,
        padding: int = 1,
        batch_norm: bool = False,
        hidden: int | None = 256,
        dropout: float = 0.5,
    ) -> None:
        """Draw the parameters from the global random state, as torch's layers do.

        Args:
            image_size: height and width of the images.
            channels: of the images.
            classes: number of classes.
            widths: channels of the maps of each block, of which there may be none.
            padding: of the convolutions, 0 or 1.
            batch_norm: whether maps are normalised before the ReLU.
            hidden: neurons of the hidden layer; None leaves it out.
            dropout: probability of dropping one of them.

        Raises:
            ValueError: a size below 1, another padding, or an image too small for so many blocks.
        """
        super().__init__()
        require_positive(
            channels=channels, classes=classes, widths=min(widths, default=1), hidden=1 if hidden is None else hidden
        )
        if padding not in (0, 1):
            raise ValueError(f"padding must be 0 or 1, got {padding}")
        side, smallest = image_size, 1
        for _ in widths:
            side = (side + 2 * padding - 2) // 2
            smallest = 2 * smallest + 2 - 2 * padding
        if side < 1:
            raise ValueError(f"image_size must be at least {smallest} for {len(widths)} blocks, got {image_size}")
        self.image_size = image_size
        self.features = nn.Sequential()
        for fan_in, fan_out in pairwise((channels, *widths)):
            norms = [nn.BatchNorm2d(fan_out)] if batch_norm else []
            self.features.extend([nn.Conv2d(fan_in, fan_out, 3, padding=padding), *norms, nn.ReLU(), nn.MaxPool2d(2)])
        self.flattened_size = [channels, *widths][-1] * side**2
        if hidden is None:
            self.classifier = nn.Sequential(nn.Linear(self.flattened_size, classes))
        else:
            self.classifier = nn.Sequential(
                nn.Linear(self.flattened_size, hidden), nn.ReLU(), nn.Dropout(dropout), nn.Linear(hidden, classes)
            )

    def forward(self, images: Tensor) -> Tensor:
        """Return logits (n, classes) of ``images`` (n, channels, image_size, image_size).

        Raises:
            ValueError: images whose features are not as many as the classifier takes.
        """
        features: Tensor = self.features(images).flatten(1)
        if features.shape[1] != self.flattened_size:
            raise ValueError(
                f"images must be {self.image_size}x{self.image_size} to give {self.flattened_size} features each, "
                f"got {tuple(images.shape)} with {features.shape[1]}"
            )
        logits: Tensor = self.classifier(features)
        return logits


class CifarCNN(CNN):
    """The `CNN` for CIFAR-10: 32x32 pixels in three colours, batch normalisation, no padding. 227,594 parameters.

    Its maps are 15x15, 6x6 and 2x2.
    """

    def __init__(
        self,
        image_size: int = 32,
        channels: int = 3,
        classes: int = 10,
        widths: Sequence[int] = (32, 64, 128),
        *,
        padding: int = 0,
        batch_norm: bool = True,
        hidden: int | None = 256,
        dropout: float = 0.5,
    ) -> None:
        """Draw the parameters, as `CNN` does."""
        super().__init__(
            image_size,
            channels,
            classes,
            widths,
            padding=padding,
            batch_norm=batch_norm,
            hidden=hidden,
            dropout=dropout,
        )
