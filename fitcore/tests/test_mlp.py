import hypothesis.strategies as st
import pytest
import torch
from hypothesis import given
from torch import nn
from torch.testing import assert_close

from fitcore.models import MLP, Tanh


@given(widths=st.lists(st.integers(1, 6), min_size=2, max_size=5))
def test_maps_the_first_width_to_the_last_with_all_others_between(widths):
    model = MLP(widths)
    assert model(torch.ones(3, 2, widths[0])).shape == (3, 2, widths[-1])
    assert [layer.out_features for layer in model if isinstance(layer, nn.Linear)] == widths[1:]
    assert len(model) == 2 * len(widths) - 3


def test_two_widths_are_an_affine_map():
    assert [type(layer) for layer in MLP([3, 2])] == [nn.Linear]


def test_the_activation_stands_between_layers_and_not_after_the_last():
    assert [type(layer) for layer in MLP([1, 2, 1], nn.ReLU)] == [nn.Linear, nn.ReLU, nn.Linear]


def test_hidden_layers_are_normalised_before_the_activation_and_dropped_from_after_it():
    layers = [nn.Linear, nn.BatchNorm1d, nn.ReLU, nn.Dropout]
    assert [type(layer) for layer in MLP([1, 2, 3, 1], nn.ReLU, batch_norm=True, dropout=0.2)] == [
        *layers * 2,
        nn.Linear,
    ]
    assert [type(layer) for layer in MLP([1, 1], batch_norm=True, dropout=0.2)] == [nn.Linear]


@pytest.mark.parametrize("widths", [[], [3], [1, 0, 1]])
def test_widths_must_be_at_least_two_positive_integers(widths):
    with pytest.raises(ValueError, match="widths must be at least two positive integers, got"):
        MLP(widths)


@pytest.mark.parametrize(("dtype", "rounding"), [(torch.float32, 3e-7), (torch.float64, 5e-16)])
def test_tanh_and_its_gradient_are_those_of_torch_to_rounding(dtype, rounding):
    x = torch.linspace(-20, 20, 2_001, dtype=dtype, requires_grad=True)
    ours, theirs = Tanh()(x), torch.tanh(x)
    assert_close(ours, theirs, rtol=0, atol=rounding)
    (gradient,), (expected,) = (torch.autograd.grad(y.sum(), x) for y in (ours, theirs))
    assert_close(gradient, expected, rtol=0, atol=2 * rounding)


def test_a_slice_is_a_plain_sequence_of_the_same_layers():
    model = MLP([2, 5, 1])
    part = model[:-1]
    assert type(part) is nn.Sequential
    assert list(part) == list(model)[:-1]
    assert model[-1] is list(model)[-1]
