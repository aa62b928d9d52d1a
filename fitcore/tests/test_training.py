import pytest
import torch
from torch.testing import assert_close

from fitcore.gradients import averaged_chain_rule, chain_rule
from fitcore.training import Step, autograd_step, manual_step, optimizer_step, train
from fitcore.training.thermometer import fit_by_hand, fit_with_autograd, fit_with_sgd, thermometer_loss


def parabola(params):
    return (params**2).sum()


def parabola_by_hand(params):
    return parabola(params), 2 * params


def leaf():
    return torch.tensor([1.0, -2.0], requires_grad=True)


def by_hand(lr):
    return manual_step(parabola_by_hand, leaf().detach(), lr)


def with_autograd(lr):
    return autograd_step(parabola, leaf(), lr)


def with_sgd(lr):
    params = leaf()
    return optimizer_step(parabola, params, torch.optim.SGD([params], lr=lr))


every_way = pytest.mark.parametrize("step", [by_hand, with_autograd, with_sgd])


@every_way
def test_history_has_losses_before_and_parameters_after_each_update(step):
    history = train(step(0.25), 3)
    assert_close(history.trajectory, torch.tensor([1.0, 0.5, 0.25, 0.125])[:, None] * torch.tensor([1.0, -2.0]))
    assert_close(history.losses, torch.tensor([5.0, 1.25, 0.3125]))
    assert history.validation_losses is None
    assert torch.equal(history.params, history.trajectory[-1])
    assert not history.losses.requires_grad
    assert not history.trajectory.requires_grad


@every_way
def test_a_second_call_continues(step):
    halves, whole = step(0.25), step(0.25)
    train(halves, 2)
    assert_close(train(halves, 2).params, train(whole, 4).params)


@every_way
def test_validation_sees_the_parameters_of_the_loss_beside_it_without_a_graph(step):
    history = train(step(0.25), 3, validation=parabola)
    assert torch.equal(history.validation_losses, history.losses)
    assert not history.validation_losses.requires_grad


@every_way
def test_stops_where_an_update_changes_nothing(step):
    assert train(step(0.5), 10).losses.shape == (10,)
    history = train(step(0.5), 10, stop_when_fixed=True)
    assert history.losses.tolist() == [5.0, 0.0]
    assert history.params.tolist() == [0.0, 0.0]


def test_does_not_stop_while_any_parameter_moves():
    half_without_remainder = Step(lambda params: ((params / 2).floor(), params.sum()), torch.tensor([5.0, 1.0]))
    assert train(half_without_remainder, 10, stop_when_fixed=True).losses.tolist() == [6.0, 2.0, 1.0, 0.0]


def test_manual_step_takes_a_rate_for_each_parameter():
    history = train(manual_step(parabola_by_hand, torch.tensor([1.0, -2.0]), torch.tensor([0.5, 0.25])), 1)
    assert history.params.tolist() == [0.0, -1.0]


def test_epochs_must_be_positive():
    with pytest.raises(ValueError, match="epochs must be at least 1, got 0"):
        train(by_hand(0.1), 0)


def test_a_step_is_any_update():
    halve = Step(lambda params: (params / 2, params.sum()), torch.ones(2))
    assert train(halve, 2).losses.tolist() == [2.0, 1.0]


def test_thermometer_loss_at_the_start():
    assert_close(thermometer_loss()(torch.tensor([1.0, 0.0])), torch.tensor(1763.8848))


@pytest.mark.parametrize("fit", [fit_with_autograd, fit_with_sgd])
def test_the_fits_agree_where_the_gradient_is_the_same(fit):
    assert_close(fit(epochs=50).trajectory, fit_by_hand(epochs=50, rule=chain_rule).trajectory)


@pytest.mark.parametrize("fit", [fit_by_hand, fit_with_autograd, fit_with_sgd])
def test_the_fits_end_where_nothing_moves(fit):
    assert fit(lr=0.0, epochs=9).trajectory.tolist() == [[1.0, 0.0]] * 2


def test_the_averaged_rule_takes_an_eleventh_of_the_step():
    averaged = fit_by_hand(lr=1.1e-2, epochs=50, rule=averaged_chain_rule)
    assert_close(averaged.trajectory, fit_by_hand(lr=1e-3, epochs=50, rule=chain_rule).trajectory)
