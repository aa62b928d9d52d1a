"""Section 1.8, and its uses in 1.10: sums, means, standard deviations and maxima."""

import hypothesis.strategies as st
import pytest
import torch
from hypothesis import assume, example, given
from torch.testing import assert_close

from fitcore.testing import REFUTED, claim, override, replace
from fitcore.testing.strategies import INTEGER, shapes, tensors

REDUCTIONS = sum_, mean, std, maximum = torch.Tensor.sum, torch.Tensor.mean, torch.Tensor.std, torch.Tensor.max

decimals = st.floats(-100, 100, width=32)
matrices = tensors(shapes(min_dims=2, max_dims=2, min_side=2, max_side=6), torch.float64, decimals)


def keeping_dimensions(reduce):
    return lambda tensor, dim=(0, 1): reduce(tensor, dim=dim, keepdim=True)


@claim(
    "pytorch-notes/sum-mean-std-shapes",
    controls=[
        replace("torch.Tensor.sum", keeping_dimensions(sum_), name="sum with keepdim"),
        replace("torch.Tensor.mean", keeping_dimensions(mean), name="mean with keepdim"),
        replace("torch.Tensor.std", keeping_dimensions(std), name="std with keepdim"),
    ],
)
@given(tor=matrices)
def test_sum_mean_and_std_leave_a_number_and_a_sum_along_rows_a_row(tor):
    array = tor.numpy()
    assert tor.sum().shape == tor.mean().shape == tor.std().shape == ()
    assert tor.sum(dim=0).shape == tor.shape[1:]
    assert_close(tor.sum().item(), array.sum())
    assert_close(tor.mean().item(), array.mean())
    assert_close(tor.sum(dim=0), torch.from_numpy(array.sum(axis=0)))


@claim(
    "pytorch-notes/mean-std-of-integers-raise",
    verdict=REFUTED,
    finding="Neither works on integers: a mean of integers isn't one, and torch doesn't choose a floating-point type "
    "by itself. a.float().mean() does it, or mean(dtype=torch.float32). sum() and max() take integers as they are.",
    controls=[override("floats", dtype=torch.float32)],
)
@pytest.mark.parametrize("dtype", [*INTEGER, torch.bool], ids=str)
@pytest.mark.parametrize("reduce", [mean, std], ids=["mean", "std"])
def test_mean_and_std_refuse_integers(reduce, dtype):
    tor = torch.arange(2).to(dtype)
    with pytest.raises(RuntimeError, match=r"floating point (or|and) complex dtype"):
        reduce(tor)
    assert_close(reduce(tor.double()), reduce(torch.tensor([0.0, 1.0], dtype=torch.float64)))
    assert tor.sum() == 1


def uncorrected(tensor, **options):
    return std(tensor, **{"correction": 0, **options})


@claim(
    "pytorch-notes/std-is-sample-std",
    verdict=REFUTED,
    finding="std() divides by n - 1, numpy.std by n: of 12 numbers torch's is 4.4 % larger. std(correction=0) is "
    "NumPy's, numpy.std(ddof=1) is torch's.",
    controls=[replace("torch.Tensor.std", uncorrected)],
)
@given(tor=matrices)
def test_std_divides_by_one_less_than_numpy_std(tor):
    array = tor.numpy()
    assume(array.std() > 1e-3)
    assert_close(tor.std().item(), array.std(ddof=1))
    assert_close(tor.std(correction=0).item(), array.std())
    assert_close(tor.std().item() / array.std(), (array.size / (array.size - 1)) ** 0.5)
    assert tor.std() > 1.01 * array.std()


def maxima_of_columns(tensor, dim):
    return maximum(tensor, dim=0)


@claim(
    "pytorch-notes/max-dim-returns-values-and-indices",
    finding="Ties included: the index then is that of one of the maxima.",
    controls=[
        replace("torch.Tensor.max", torch.Tensor.min, name="the minima"),
        replace("torch.Tensor.max", maxima_of_columns),
    ],
)
@example(tor=torch.tensor([[1.0, 7.0, 7.0], [3.0, 0.0, 2.0]], dtype=torch.float64))
@given(tor=matrices)
def test_max_along_rows_gives_maxima_and_where_they_stand(tor):
    max_val, max_ids = tor.max(dim=1)
    assert max_val.tolist() == tor.numpy().max(axis=1).tolist()
    assert max_ids.dtype == torch.int64
    assert tor[range(len(tor)), max_ids].tolist() == max_val.tolist()


def mean_of_rows(tensor, dim):
    return mean(tensor, dim=-1)


@claim("pytorch-notes/mean-over-two-dims", controls=[replace("torch.Tensor.mean", mean_of_rows)])
@given(tensor=tensors((3, 4, 5), torch.float64, decimals))
def test_a_mean_over_two_dimensions_is_one_average_a_face(tensor):
    averages = tensor.mean(dim=(1, 2))
    assert averages.shape == (3,)
    assert_close(averages, torch.stack([face.sum() / 20 for face in tensor]))
