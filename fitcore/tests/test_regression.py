import pytest
import torch
from torch.testing import assert_close

from fitcore.data import noisy_sine
from fitcore.ensembles import Ensemble, QuadraticDynamics, fit_regression
from fitcore.models import MLP


def fit(**setting):
    torch.manual_seed(0)
    training, held_out = noisy_sine(8, sets=(2,)), noisy_sine(5, sets=(2,))
    ensemble = Ensemble(lambda: MLP([1, 1]), [0, 0])
    return training, fit_regression(ensemble, training, held_out, **{"epochs": 20, "lr": 0.1} | setting)


def test_curves_start_untrained_and_have_a_point_every_so_many_epochs():
    _, curves = fit(epochs=20, every=5)
    assert curves.epochs.tolist() == [0, 5, 10, 15, 20]
    assert curves.training.shape == curves.validation.shape == (5, 2)
    assert (curves.training[-1] < curves.training[0]).all()


def test_a_straight_line_ends_at_the_penalised_least_squares():
    (x, y), curves = fit(epochs=1_000, penalty=torch.tensor([0.0, 0.5]))
    line = torch.cat([x, torch.ones_like(x)], dim=-1)
    for copy, penalty in enumerate([0.0, 0.5]):
        exact = QuadraticDynamics.from_regression(line[copy], y[copy, :, 0], l2=penalty)
        assert_close(curves.ensemble.parameters[copy].detach().double(), exact.minimiser, rtol=1e-3, atol=1e-3)


def test_input_noise_is_that_of_each_copy():
    torch.manual_seed(1)
    _, curves = fit(input_noise=torch.tensor([0.0, 3.0]))
    _, clean = fit()
    assert_close(curves.training[:, 0], clean.training[:, 0])
    assert (curves.training[1:, 1] != clean.training[1:, 1]).all()


@pytest.mark.parametrize("epochs", [0, 15])
def test_epochs_must_be_a_multiple_of_every(epochs):
    with pytest.raises(ValueError, match=f"multiple of every=10, got {epochs}"):
        fit(epochs=epochs)
