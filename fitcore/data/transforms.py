"""Augmentations that torchvision lacks: Cutout, and images transformed together with their boxes or masks."""

from collections.abc import Sequence

import torch
from PIL import Image
from torch import Tensor, nn
from torchvision import tv_tensors
from torchvision.transforms import v2
from torchvision.transforms.v2 import functional

IMAGENET_MEAN, IMAGENET_STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)


class Cutout(nn.Module):
    """Set a square of fixed side to a constant, its centre being any pixel with equal probability.

    Near a border the square reaches beyond the image, and less of it shows.

    Source: T. DeVries, G. W. Taylor, "Improved Regularization of Convolutional Neural Networks with Cutout", 2017.
    """

    def __init__(self, side: int, value: float = 0.0) -> None:
        """Keep the settings.

        Args:
            side: of the square, in pixels.
            value: what its pixels become; the mean of the data set, where images are not normalised.

        Raises:
            ValueError: ``side`` is less than 1.
        """
        super().__init__()
        if side < 1:
            raise ValueError(f"side must be at least 1, got {side}")
        self.side, self.value = side, value

    def forward(self, image: Tensor) -> Tensor:
        """Return a copy of ``image`` (..., height, width) without the square."""
        rows, columns = (self._window(length) for length in image.shape[-2:])
        erased = image.clone()
        erased[..., rows, columns] = self.value
        return erased

    def _window(self, length: int) -> slice:
        start = int(torch.randint(length, ())) - self.side // 2
        return slice(max(start, 0), start + self.side)


class DetectionTransform(nn.Module):
    """Flip an image and its boxes at random, jitter brightness and contrast, and normalise."""

    def __init__(
        self,
        flip: float = 0.5,
        brightness: float = 0.2,
        contrast: float = 0.2,
        mean: Sequence[float] = IMAGENET_MEAN,
        std: Sequence[float] = IMAGENET_STD,
    ) -> None:
        """Compose torchvision's transforms.

        Args:
            flip: probability of a horizontal flip.
            brightness: factors are drawn from 1 ± brightness.
            contrast: likewise.
            mean: of each channel of images in [0, 1].
            std: likewise.
        """
        super().__init__()
        self._transform = v2.Compose(
            [
                v2.RandomHorizontalFlip(flip),
                v2.ColorJitter(brightness, contrast),
                v2.ToDtype({tv_tensors.Image: torch.float32, "others": None}, scale=True),
                v2.Normalize(mean, std),
            ]
        )

    def forward(self, image: Image.Image | Tensor, boxes: Tensor) -> tuple[Tensor, Tensor]:
        """Return the image, float32 (channels, height, width), and its boxes.

        Args:
            image: PIL image, or tensor (channels, height, width).
            boxes: (n, 4) left, top, right and bottom edges in pixels: a box of one pixel is 1 wide.

        Raises:
            ValueError: ``boxes`` has another shape.
        """
        if boxes.ndim != 2 or boxes.shape[1] != 4:
            raise ValueError(f"boxes must be (n, 4), got {tuple(boxes.shape)}")
        pixels = functional.to_image(image)
        size = (int(pixels.shape[-2]), int(pixels.shape[-1]))
        framed = tv_tensors.BoundingBoxes(boxes, format=tv_tensors.BoundingBoxFormat.XYXY, canvas_size=size)
        pixels, framed = self._transform(pixels, framed)
        return pixels.as_subclass(Tensor), framed.as_subclass(Tensor)


class SegmentationTransform(nn.Module):
    """Flip and rotate an image and its mask alike, with one draw for both: no generator is seeded.

    The mask is rotated to the nearest pixel, so that no label arises but that of the corners.
    """

    def __init__(self, flip: float = 0.5, degrees: float = 10.0, exposed: int = 0) -> None:
        """Compose torchvision's transforms.

        Args:
            flip: probability of a horizontal flip.
            degrees: angles are drawn from ± degrees.
            exposed: label of the corners that a rotation exposes; the ``ignore_index`` of the loss, say.
        """
        super().__init__()
        fill = {tv_tensors.Mask: exposed, "others": 0}
        self._transform = v2.Compose([v2.RandomHorizontalFlip(flip), v2.RandomRotation(degrees, fill=fill)])

    def forward(self, image: Image.Image | Tensor, mask: Image.Image | Tensor) -> tuple[Tensor, Tensor]:
        """Return both as tensors, of the dtypes they had.

        Args:
            image: PIL image, or tensor (channels, height, width).
            mask: PIL image of one channel, or tensor (height, width), of labels.

        Raises:
            ValueError: the mask is not as large as the image.
        """
        pixels = functional.to_image(image)
        labels = functional.pil_to_tensor(mask)[0] if isinstance(mask, Image.Image) else mask
        if labels.shape != pixels.shape[-2:]:
            raise ValueError(f"mask must be {tuple(pixels.shape[-2:])} as the image, got {tuple(labels.shape)}")
        pixels, turned = self._transform(pixels, tv_tensors.Mask(labels))
        return pixels.as_subclass(Tensor), turned.as_subclass(Tensor)
