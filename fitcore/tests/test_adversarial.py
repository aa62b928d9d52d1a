import pytest
import torch
from torch import nn

from fitcore.evaluation.adversarial import fast_gradient_sign


def test_each_element_moves_by_epsilon_the_way_the_loss_grows():
    x = torch.tensor([[0.5, 0.5, 0.5]])
    weights = torch.tensor([2.0, -3.0, 0.0])
    moved = fast_gradient_sign(lambda inputs: inputs @ weights, x, 0.1)
    assert moved.tolist()[0] == pytest.approx([0.6, 0.4, 0.5])
    assert not moved.requires_grad
    assert not x.requires_grad
    assert x.tolist() == [[0.5, 0.5, 0.5]]


def test_elements_stay_within_their_range():
    x = torch.tensor([0.95, 0.05])
    assert fast_gradient_sign(lambda inputs: inputs[0] - inputs[1], x, 0.1).tolist() == [1, 0]
    wide = fast_gradient_sign(lambda inputs: inputs[0] - inputs[1], x, 0.1, low=-1, high=2)
    assert wide.tolist() == pytest.approx([1.05, -0.05])


def test_without_a_step_they_are_only_kept_in_their_range():
    x = torch.tensor([-0.5, 0.5, 1.5])
    assert fast_gradient_sign(torch.sum, x, 0).tolist() == [0.0, 0.5, 1.0]


def test_each_of_several_losses_moves_its_own_inputs():
    x, signs = torch.full((2, 3), 0.5), torch.tensor([[1.0], [-1.0]])
    moved = fast_gradient_sign(lambda inputs: (signs * inputs).sum(1), x, 0.1)
    assert torch.allclose(moved - x, 0.1 * signs.expand(2, 3))


def test_no_gradient_is_left_in_the_model():
    model = nn.Linear(3, 1)
    fast_gradient_sign(lambda inputs: model(inputs).sum(), torch.rand(4, 3), 0.1)
    assert model.weight.grad is None


def test_errors_name_the_argument():
    with pytest.raises(ValueError, match=r"epsilon must not be negative, got -0\.1"):
        fast_gradient_sign(torch.sum, torch.zeros(2), -0.1)
