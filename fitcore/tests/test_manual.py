import hypothesis.strategies as st
import numpy as np
import torch
from hypothesis import given
from hypothesis.extra.numpy import arrays
from torch.testing import assert_close

from fitcore.gradients import averaged_chain_rule, chain_rule, gradient, linear_derivatives, mse, mse_derivative
from fitcore.models import design_matrix, linear


def vectors(size):
    return arrays(np.float64, size, elements=st.floats(-100, 100)).map(torch.from_numpy)


samples = st.integers(1, 8).flatmap(lambda n: st.tuples(vectors(n), vectors(n)))


def test_mse_by_hand():
    assert mse(torch.tensor([1.0, 3.0]), torch.tensor([0.0, 1.0])) == 2.5


def test_mse_derivative_by_hand():
    assert mse_derivative(torch.tensor([1.0, 3.0]), torch.tensor([0.0, 1.0])).tolist() == [1.0, 2.0]


def test_linear_derivatives_do_not_depend_on_the_parameters():
    x = torch.tensor([1.0, 2.0])
    assert linear_derivatives(x) == (x, 1.0)


@given(params=vectors(2), sample=samples)
def test_chain_rule_returns_the_loss_and_its_gradient(params, sample):
    x, y = sample
    value, slope = chain_rule(params, x, y)
    assert_close(value, mse(linear(x, *params), y))
    assert_close(slope, gradient(lambda p: mse(linear(x, *p), y), params))


@given(params=vectors(2), sample=samples)
def test_averaged_chain_rule_is_an_nth_of_it(params, sample):
    value, slope = chain_rule(params, *sample)
    averaged_value, averaged_slope = averaged_chain_rule(params, *sample)
    assert averaged_value == value
    assert_close(averaged_slope * len(sample[0]), slope)


def test_design_matrix_predicts_what_the_line_does():
    x, params = torch.tensor([1.0, 2.0, 5.0]), torch.tensor([3.0, -1.0])
    assert_close(design_matrix(x) @ params, linear(x, *params))
