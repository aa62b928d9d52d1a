import pytest
import torch
from torch.utils.data import DataLoader

from fitcore.data import MultiTaskDataset

IMAGES = torch.rand(5, 3, 4, 4)
LABELS = {"class": torch.arange(5), "mask": torch.rand(5, 4, 4)}


def flipped(image, labels):
    return image.flip(-1), labels | {"mask": labels["mask"].flip(-1)}


def test_a_sample_is_an_image_and_its_label_for_every_task():
    data = MultiTaskDataset(IMAGES, LABELS)
    assert len(data) == 5
    image, labels = data[3]
    assert torch.equal(image, IMAGES[3])
    assert list(labels) == ["class", "mask"]
    assert all(torch.equal(labels[task], LABELS[task][3]) for task in LABELS)


def test_the_transform_sees_image_and_labels():
    image, labels = MultiTaskDataset(IMAGES, LABELS, flipped)[3]
    assert torch.equal(image, IMAGES[3].flip(-1))
    assert torch.equal(labels["mask"], LABELS["mask"][3].flip(-1))
    assert labels["class"] == 3


def test_a_loader_batches_task_by_task():
    (_, labels), *_ = DataLoader(MultiTaskDataset(IMAGES, LABELS), batch_size=2)
    assert {task: tuple(of_task.shape) for task, of_task in labels.items()} == {"class": (2,), "mask": (2, 4, 4)}


def test_a_task_without_a_label_for_every_image():
    with pytest.raises(ValueError, match="'mask' must have a label for each of 5 images, got 4"):
        MultiTaskDataset(IMAGES, {"class": torch.arange(5), "mask": torch.rand(4, 4, 4)})
