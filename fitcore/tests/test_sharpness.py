import hypothesis.strategies as st
import pytest
import torch
from hypothesis import example, given, settings
from torch.testing import assert_close

from fitcore.evaluation.sharpness import sharpness
from fitcore.seeding import seeded


@settings(max_examples=20)
@example(seed=0, eigenvalues=[0.0] * 3, copies=2)
@given(
    seed=st.integers(0, 2**32 - 1),
    eigenvalues=st.lists(st.sampled_from([-5.0, -1.0, 0.0, 0.25, 3.0]), min_size=1, max_size=8),
    copies=st.integers(1, 3),
)
def test_the_largest_eigenvalue_of_any_quadratic_also_if_some_are_equal_negative_or_zero(seed, eigenvalues, copies):
    with seeded(seed):
        axes = torch.linalg.qr(torch.randn(copies, len(eigenvalues), len(eigenvalues), dtype=torch.float64)).Q
        hessians = (axes * torch.tensor(eigenvalues, dtype=torch.float64)) @ axes.mT
        point = torch.randn(copies, len(eigenvalues), dtype=torch.float64)
        found = sharpness(lambda w: 0.5 * torch.einsum("ci,cij,cj->c", w, hessians, w), point)
    assert_close(found, torch.full_like(found, max(eigenvalues)), rtol=1e-9, atol=1e-9)
    assert not point.requires_grad
    assert not found.requires_grad


def test_few_products_find_an_eigenvalue_that_stands_apart():
    eigenvalues = torch.linspace(-1, 1, 500).index_fill(0, torch.tensor([7]), 4.0)
    with seeded(0):
        found = sharpness(lambda w: 0.5 * (eigenvalues * w.square()).sum(1), torch.ones(1, 500), products=15)
    assert_close(found, torch.tensor([4.0]), rtol=1e-4, atol=0)


def test_the_hessian_is_that_of_the_point():
    quartic = sharpness(lambda w: w.pow(4).sum(1), torch.tensor([[1.0, 2.0], [0.5, -0.5]]))
    assert_close(quartic, torch.tensor([48.0, 3.0]), rtol=1e-4, atol=0)


def test_one_product_is_enough_for_one_parameter():
    found = sharpness(lambda w: w.pow(4).sum(1), torch.tensor([[1.0], [0.5]]), products=1)
    assert_close(found, torch.tensor([12.0, 3.0]), rtol=1e-4, atol=0)


def test_errors_name_what_is_wrong():
    with pytest.raises(ValueError, match="products must be at least 1, got 0"):
        sharpness(lambda w: w.square().sum(1), torch.ones(1, 2), products=0)
    with pytest.raises(ValueError, match="finite Hessian"):
        sharpness(lambda w: w.pow(4).sum(1), torch.tensor([[1.0, 2.0], [torch.inf, 1.0]]))
