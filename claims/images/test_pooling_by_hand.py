"""Section 10.6.2: the largest values of a map's windows, by hand."""

import hypothesis.strategies as st
import torch
from hypothesis import example, given
from torch import nn
from torch.nn.functional import avg_pool2d

from fitcore.models import max_pool
from fitcore.testing import REFUTED, claim, replace
from fitcore.testing.strategies import tensors

MAP = torch.tensor([[1.0, 3, 2, 4], [2, 9, 1, 5], [0, 1, 5, 6], [7, 8, 3, 2]])
PRINTED = torch.tensor([[3.0, 4], [8, 6]])


def average(maps, kernel, stride, padding, *others, **options):
    return avg_pool2d(maps, kernel, stride, padding)


def first_row_of_each_window(maps, kernel, stride, *others, **options):
    return max_pool(maps[..., ::2, :], (1, kernel), stride=(1, stride))


@claim(
    "pytorch-notes/maxpool-example-3-4-8-6",
    verdict=REFUTED,
    finding="[[9, 5], [8, 6]]: the upper windows hold 1, 3, 2, 9 and 2, 4, 1, 5; printed are the largest values of "
    "their first row. They would be right if the map had at most 3 in place of the 9 (the comment beside it says 0), "
    "and at most 4 in place of the 5. The second comment's window, 9, 1, 5, 6, is none of the four, and its 9 is not "
    "in the result either.",
    controls=[
        replace("torch.nn.functional.max_pool2d", average),
        replace("torch.nn.functional.max_pool2d", first_row_of_each_window),
    ],
)
@example(first=0, second=0)
@given(first=st.integers(-9, 3), second=st.integers(-9, 4))
def test_the_largest_values_of_the_example_are_9_5_8_and_6(first, second, evidence):
    pool = nn.MaxPool2d(2, 2)
    pooled = pool(MAP[None, None])
    assert not evidence.figure("pooled map", reported=PRINTED, measured=pooled[0, 0], tolerance=0)
    assert pooled[0, 0].tolist() == [[9, 5], [8, 6]]
    assert torch.equal(pooled, max_pool(MAP[None, None], 2))
    windows = MAP.unfold(0, 2, 2).unfold(1, 2, 2).flatten(2).flatten(0, 1)
    assert [1, 5, 6, 9] not in windows.sort().values.tolist()
    other = MAP.clone()
    other[1, 1], other[1, 3] = first, second
    assert torch.equal(pool(other[None, None])[0, 0], PRINTED)


@claim(
    "pytorch-notes/maxpool-example-3-4-8-6",
    verdict=REFUTED,
    finding="Windows side by side that cover a map never lose its largest value: the 9 has to be among the results.",
    controls=[
        replace("torch.nn.functional.max_pool2d", average),
        replace("torch.nn.functional.max_pool2d", first_row_of_each_window),
    ],
)
@example(maps=MAP[None, None])
@given(maps=tensors((1, 1, 4, 4)))
def test_the_largest_value_of_a_map_survives_pooling(maps):
    assert nn.MaxPool2d(2, 2)(maps).max() == maps.max()
    assert MAP.max() == 9
    assert 9 not in PRINTED
