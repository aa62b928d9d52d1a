import pytest
import torch
from torch.utils.data import DataLoader

from fitcore.data import pad_to_largest


def test_images_are_padded_with_zeros_to_the_largest_height_and_width():
    images, labels = pad_to_largest([(torch.ones(3, 2, 5), 7), (torch.ones(3, 4, 1), 8)])
    assert images.shape == (2, 3, 4, 5)
    assert images.sum((1, 2, 3)).tolist() == [30, 12]
    assert images[0, :, :2].min() == images[1, :, :, :1].min() == 1
    assert labels.tolist() == [7, 8]


def test_a_loader_takes_it():
    samples = [(torch.ones(1, size, size), torch.tensor(size)) for size in (1, 3, 2)]
    (batch,) = DataLoader(samples, batch_size=3, collate_fn=pad_to_largest)
    assert batch[0].shape == (3, 1, 3, 3)
    assert batch[1].tolist() == [1, 3, 2]


@pytest.mark.parametrize(
    ("batch", "says"),
    [
        ([], "batch must have at least one image"),
        ([(torch.ones(1, 2, 2), 0), (torch.ones(3, 2, 2), 0)], r"the same number of channels, got \[1, 3\]"),
    ],
    ids=["empty", "colour and grey"],
)
def test_what_cannot_be_a_batch_is_refused(batch, says):
    with pytest.raises(ValueError, match=says):
        pad_to_largest(batch)
