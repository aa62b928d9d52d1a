"""Section 6.6.3: images with a label for each of several tasks."""

import hypothesis.strategies as st
import torch
from hypothesis import given
from torch.nn.functional import cross_entropy, mse_loss
from torch.utils.data import DataLoader, Dataset
from torchvision import tv_tensors
from torchvision.transforms import v2

from fitcore.data import MultiTaskDataset
from fitcore.testing import REFUTED, claim, error_of, override
from fitcore.testing.strategies import shapes


class MultiTask(Dataset):
    """The document's Dataset, whose transform sees the image alone."""

    def __init__(self, images, labels, transform=None):
        self.images, self.labels, self.transform = images, labels, transform

    def __len__(self):
        return len(self.images)

    def __getitem__(self, index):
        image = self.images[index]
        labels = {task: of_task[index] for task, of_task in self.labels.items()}
        return (self.transform(image) if self.transform else image), labels


def example_labels(samples=1000):
    return {
        "classification": torch.randint(0, 10, (samples,)),
        "regression": torch.randn(samples, 1),
        "segmentation": torch.randn(samples, 32, 32),
    }


@claim(
    "pytorch-notes/multitask-shapes",
    controls=[override("channels last", images=lambda: torch.zeros(1000, 32, 32, 3))],
)
def test_a_sample_has_an_image_and_a_label_of_each_task(images=lambda: torch.randn(1000, 3, 32, 32)):
    dataset = MultiTask(images(), example_labels())
    image, labels = dataset[0]
    assert (len(dataset), image.shape) == (1000, (3, 32, 32))
    shapes_of_labels = {task: tuple(label.shape) for task, label in labels.items()}
    assert shapes_of_labels == {"classification": (), "regression": (1,), "segmentation": (32, 32)}
    assert labels["classification"].dtype == torch.int64


def as_pairs(samples):
    """A collation that leaves every sample's dictionary as it is."""
    return torch.stack([image for image, _ in samples]), [labels for _, labels in samples]


@claim(
    "pytorch-notes/multitask-default-collate",
    finding="Of any number of tasks with labels of any shape: a dictionary of tensors, one batch dimension each.",
    controls=[override("samples side by side", collate=as_pairs)],
)
@given(
    label_shapes=st.dictionaries(st.text(max_size=5), shapes(max_dims=3), min_size=1, max_size=4),
    batch_size=st.just(16) | st.integers(1, 20),
    collate=st.none(),
)
def test_labels_are_batched_task_by_task(label_shapes, batch_size, collate):
    labels = {task: torch.rand(20, *shape) for task, shape in label_shapes.items()}
    loader = DataLoader(MultiTask(torch.rand(20, 3, 4, 4), labels), batch_size, collate_fn=collate)
    images, batch = next(iter(loader))
    assert images.shape == (batch_size, 3, 4, 4)
    assert isinstance(batch, dict)
    assert list(batch) == list(labels)
    assert all(torch.equal(batch[task], labels[task][:batch_size]) for task in labels)


def class_indices(masks):
    return torch.randint(0, 10, masks.shape)


def as_they_are(masks):
    return masks


@claim(
    "pytorch-notes/multitask-segmentation-target-for-ce",
    verdict=REFUTED,
    finding="They are floating point, which cross_entropy refuses as class indices (RuntimeError), and rounded some "
    "are negative, which is an IndexError. Class indices are whole numbers from 0 to C - 1, as randint draws them; the "
    "normal ones would be targets of a regression.",
    controls=[override("drawn by randint", masks=class_indices)],
    trials=5,
)
def test_normal_segmentation_labels_are_no_class_indices(trials, masks=as_they_are):
    def outcomes(_):
        dataset, logits = MultiTask(torch.rand(4, 3, 32, 32), example_labels(4)), torch.randn(4, 10, 32, 32)
        _, labels = next(iter(DataLoader(dataset, batch_size=4)))
        drawn = labels["segmentation"]
        targets = masks(drawn), drawn.long(), class_indices(drawn)
        floating, negative, repaired = (error_of(cross_entropy, logits, target) for target in targets)
        return (
            isinstance(floating, RuntimeError) and "Long" in str(floating),
            isinstance(negative, IndexError) and "out of bounds" in str(negative),
            repaired is None and mse_loss(logits[:, 0], drawn).isfinite(),
        )

    floating, negative, repaired = trials.map(outcomes).T
    trials.always(floating, name="as they are: RuntimeError")
    trials.always(negative, name="rounded: IndexError")
    trials.always(repaired, name="whole numbers from 0 to 9 are class indices")


MOVES = [v2.RandomHorizontalFlip(p=1), v2.RandomVerticalFlip(p=1), v2.RandomRotation((90, 90)), v2.RandomRotation(45)]


def image_alone(images, masks, move):
    return MultiTask(images, {"segmentation": masks}, move)


def together(images, masks, move):
    """The labels go through the transform too, which is told which of them is a mask."""

    def moved(image, labels):
        return move(tv_tensors.Image(image), {"segmentation": tv_tensors.Mask(labels["segmentation"])})

    return MultiTaskDataset(images, {"segmentation": masks}, moved)


@claim(
    "pytorch-notes/multitask-geometric-transform-misaligns-mask",
    verdict=REFUTED,
    finding="The transform gets the image alone: after a flip or a rotation the mask still shows the old places. A "
    "transform of image and labels, of torchvision.transforms.v2 with the mask as tv_tensors.Mask, moves both by the "
    "same draw.",
    controls=[override("image and mask together", dataset=together)],
)
@given(
    side=st.integers(2, 8),
    move=st.sampled_from(MOVES[:3]),
    any_move=st.sampled_from(MOVES),
    dataset=st.just(image_alone),
)
def test_what_moves_the_image_alone_leaves_the_mask_behind(side, move, any_move, dataset):
    masks = torch.arange(1.0, 1 + 4 * side**2).view(4, side, side)
    images = masks[:, None].expand(-1, 3, -1, -1)
    image, labels = dataset(images, masks, move)[2]
    assert not torch.equal(image, images[2])
    assert not torch.equal(image[0], labels["segmentation"])
    image, labels = together(images, masks, any_move)[2]
    assert all(torch.equal(channel, labels["segmentation"]) for channel in image)
