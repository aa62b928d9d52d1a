from functools import partial

import pytest
import torch
from torch import nn
from torch.testing import assert_close

from fitcore.ensembles import Ensemble, mean_squared_errors
from fitcore.models import MLP
from fitcore.training import optimizer_step, train

SEEDS, EPOCHS = [3, 1, 4], 50


def network():
    return MLP([2, 5, 1]).double()


def data():
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(len(SEEDS), 7, 2, generator=generator, dtype=torch.float64)
    return x, torch.randn(len(SEEDS), 7, 1, generator=generator, dtype=torch.float64)


def loop(seed, x, y, make_optimizer, penalty):
    """Losses and final parameters of one ordinary module, trained the ordinary way."""
    torch.manual_seed(seed)
    model, losses = network(), []
    optimizer = make_optimizer(model.parameters())
    for _ in range(EPOCHS):
        loss = (model(x) - y).square().mean()
        losses.append(loss.item())
        optimizer.zero_grad()
        (loss + penalty * sum(p.square().sum() for p in model.parameters())).backward()
        optimizer.step()
    return losses, nn.utils.parameters_to_vector(model.parameters()).detach()


@pytest.mark.parametrize("penalty", [0.0, 0.1])
@pytest.mark.parametrize(
    "make_optimizer",
    [
        partial(torch.optim.SGD, lr=0.1),
        partial(torch.optim.SGD, lr=0.05, momentum=0.9, nesterov=True),
        partial(torch.optim.SGD, lr=0.1, weight_decay=0.1),
        partial(torch.optim.Adam, lr=0.01),
        partial(torch.optim.AdamW, lr=0.01, weight_decay=0.1),
        partial(torch.optim.RMSprop, lr=0.01),
        partial(torch.optim.Adagrad, lr=0.1),
    ],
    ids=["SGD", "Nesterov", "weight decay", "Adam", "AdamW", "RMSprop", "Adagrad"],
)
def test_equals_the_plain_loop_copy_by_copy(make_optimizer, penalty):
    (x, y), ensemble, losses = data(), Ensemble(network, SEEDS), []

    def objectives(params):
        errors = mean_squared_errors(ensemble(x, params), y)
        losses.append(errors.detach())
        return errors + penalty * params.square().sum(1)

    train(optimizer_step(objectives, ensemble.parameters, make_optimizer([ensemble.parameters])), EPOCHS)
    plain = [loop(seed, *sample, make_optimizer, penalty) for seed, *sample in zip(SEEDS, x, y, strict=True)]
    assert_close(
        torch.stack(losses, 1), torch.tensor([of for of, _ in plain], dtype=torch.float64), rtol=1e-10, atol=1e-10
    )
    assert_close(ensemble.parameters.detach(), torch.stack([end for _, end in plain]), rtol=1e-10, atol=1e-10)


def test_history_has_one_loss_an_epoch_and_copy():
    (x, y), ensemble = data(), Ensemble(network, SEEDS)
    step = optimizer_step(
        lambda params: mean_squared_errors(ensemble(x, params), y),
        ensemble.parameters,
        torch.optim.SGD([ensemble.parameters], lr=0.1),
    )
    history = train(step, 4, validation=lambda params: mean_squared_errors(ensemble(x, params), y))
    assert history.losses.shape == (4, 3)
    assert_close(history.losses, history.validation_losses)


def test_copies_are_those_of_separate_seeds_and_the_global_state_stays():
    state = torch.get_rng_state()
    ensemble = Ensemble(network, SEEDS)
    assert torch.equal(torch.get_rng_state(), state)
    torch.manual_seed(SEEDS[1])
    for name, tensor in network().named_parameters():
        assert torch.equal(ensemble.named_parameters()[name][1], tensor)


def test_repeated_seeds_start_alike_and_train_apart():
    (x, y), ensemble = data(), Ensemble(network, [7, 7, 7])
    assert torch.equal(ensemble.parameters[0], ensemble.parameters[1])
    sgd = torch.optim.SGD([ensemble.parameters], lr=0.1)
    train(optimizer_step(lambda params: mean_squared_errors(ensemble(x, params), y), ensemble.parameters, sgd), 1)
    assert not torch.equal(ensemble.parameters[0], ensemble.parameters[1])


def test_dropout_draws_for_each_copy():
    ensemble = Ensemble(lambda: nn.Sequential(nn.Identity(), nn.Dropout(0.5), nn.Linear(50, 1)), [0, 0])
    first, second = ensemble(torch.ones(2, 1, 50))
    assert not torch.equal(first, second)


def test_len_is_the_number_of_copies():
    assert len(Ensemble(network, SEEDS)) == 3


def test_no_seeds():
    with pytest.raises(ValueError, match="seeds must name at least one copy"):
        Ensemble(network, [])


def test_buffers_are_refused():
    with pytest.raises(ValueError, match=r"without buffers, got .*running_mean"):
        Ensemble(lambda: nn.BatchNorm1d(2), SEEDS)


def test_errors_of_different_shapes_are_refused():
    with pytest.raises(ValueError, match=r"predictions \(2, 3, 1\), got \(2, 3\)"):
        mean_squared_errors(torch.ones(2, 3, 1), torch.ones(2, 3))
