import pytest
import torch
from torch.autograd import gradcheck, gradgradcheck
from torch.testing import assert_close

from fitcore.gradients.functions import ReLU, ReLUMaskingNegatives

ROUND_ZERO = torch.tensor([-2.0, -0.0, 0.0, 3.0])
AWAY_FROM_ZERO = torch.tensor([[-2.0, -0.5], [0.25, 3.0]], dtype=torch.float64)

both = pytest.mark.parametrize("function", [ReLU, ReLUMaskingNegatives])


@both
def test_values_are_those_of_relu_in_a_new_tensor(function):
    x = ROUND_ZERO.clone()
    assert torch.equal(function.apply(x), torch.relu(x))
    assert torch.equal(x, ROUND_ZERO)


@both
@pytest.mark.parametrize("check", [gradcheck, gradgradcheck])
def test_derivatives_away_from_zero(check, function):
    assert check(function.apply, AWAY_FROM_ZERO.clone().requires_grad_())


@pytest.mark.parametrize(("function", "at_zero"), [(ReLU, 0.0), (ReLUMaskingNegatives, 1.0)])
def test_slope_at_zero_is_zero_or_where_only_negatives_are_masked_one(function, at_zero):
    x = ROUND_ZERO.clone().requires_grad_()
    upstream = torch.tensor([5.0, 5.0, 5.0, 5.0])
    (gradient,) = torch.autograd.grad(function.apply(x), x, upstream)
    assert_close(gradient, upstream * torch.tensor([0.0, at_zero, at_zero, 1.0]))
    assert torch.equal(upstream, torch.full((4,), 5.0))


@both
def test_what_is_masked_stops_even_an_infinite_gradient(function):
    x = torch.tensor([-1.0], requires_grad=True)
    (gradient,) = torch.autograd.grad(function.apply(x), x, torch.tensor([torch.inf]))
    assert gradient.item() == 0.0
