"""Images with several labels each."""

from collections.abc import Callable, Mapping
from typing import Any

from torch import Tensor
from torch.utils.data import Dataset

Labels = dict[str, Any]


class MultiTaskDataset(Dataset[tuple[Any, Labels]]):
    """n images, each with a label for every task: a sample is ``(image, {task: label})``.

        v2.Compose([v2.RandomHorizontalFlip(), v2.RandomRotation(10)])     # as transform, for tv_tensors.Image and Mask

    A ``DataLoader`` batches the labels task by task.

    Attributes:
        images: (n, ...).
        labels: by task, (n, ...) each.
        transform: makes a sample of an image *and* its labels, since what moves the pixels has to move a mask too.
    """

    def __init__(
        self,
        images: Tensor,
        labels: Mapping[str, Tensor],
        transform: Callable[[Any, Labels], tuple[Any, Labels]] | None = None,
    ) -> None:
        """Keep the tensors as they are.

        Raises:
            ValueError: a task has another number of labels than there are images.
        """
        for task, of_task in labels.items():
            if len(of_task) != len(images):
                raise ValueError(f"{task!r} must have a label for each of {len(images)} images, got {len(of_task)}")
        self.images = images
        self.labels = dict(labels)
        self.transform = transform

    def __len__(self) -> int:
        """Return the number of images."""
        return len(self.images)

    def __getitem__(self, index: int) -> tuple[Any, Labels]:
        """Return an image and its labels, transformed together."""
        image, labels = self.images[index], {task: of_task[index] for task, of_task in self.labels.items()}
        return (image, labels) if self.transform is None else self.transform(image, labels)
