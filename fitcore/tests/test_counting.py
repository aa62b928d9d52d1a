from torch import nn

from fitcore.models import number_of_parameters


def test_weights_and_biases_of_all_modules_count_and_buffers_do_not():
    assert number_of_parameters(nn.Linear(3, 2), nn.BatchNorm1d(2)) == 8 + 4
    assert number_of_parameters(nn.ReLU()) == number_of_parameters() == 0


def test_what_is_frozen_is_not_trainable():
    model = nn.Sequential(nn.Linear(3, 2).requires_grad_(False), nn.Linear(2, 1))
    assert number_of_parameters(model) == 8 + 3
    assert number_of_parameters(model, trainable=True) == 3


def test_a_tied_parameter_counts_once():
    layer = nn.Linear(2, 2)
    assert number_of_parameters(nn.Sequential(layer, layer)) == 6
