"""Whatever `fit` does to an ensemble is held against a plain loop over its copies, one after the other."""

from functools import partial

import pytest
import torch
from torch import nn, optim
from torch.optim import lr_scheduler
from torch.testing import assert_close

from fitcore.ensembles import Ensemble, LearningCurves, fit, mean_squared_errors
from fitcore.models import MLP
from fitcore.tests.plain_loop import (
    EPOCHS,
    OPTIMIZERS,
    SEEDS,
    SGD,
    assert_equals_the_loop,
    classifier,
    convolutional,
    data,
    exactly,
    frozen_bias,
    frozen_weight,
    nested,
    network,
    normalised,
    normalised_graph,
    of_images,
    repeated_activation,
    tied,
    without_bias,
)
from fitcore.training import EarlyStopping

elementwise = pytest.mark.parametrize("optimizer", OPTIMIZERS.values(), ids=OPTIMIZERS)


proportional = pytest.mark.parametrize(
    "optimizer",
    [optimizer for optimizer in OPTIMIZERS.values() if optimizer.func not in (optim.Rprop, optim.ASGD)],
    ids=[name for name in OPTIMIZERS if name not in ("Rprop", "ASGD")],
)


@elementwise
def test_equals_the_loop_under_every_elementwise_optimizer(optimizer):
    assert_equals_the_loop(data(), optimizer=optimizer)


@pytest.mark.parametrize("batch_size", [None, 1, 3, 4, 20])
@pytest.mark.parametrize("shared", [False, True], ids=["own data", "shared data"])
def test_equals_the_loop_on_batches(batch_size, shared):
    x, y = data()
    training = (x[:1].expand(3, -1, -1), y[:1].expand(3, -1, -1)) if shared else (x, y)
    assert_equals_the_loop(training, batch_size=batch_size)


@pytest.mark.parametrize("batch_size", [None, 4])
@pytest.mark.parametrize(
    "make_model",
    [normalised, normalised_graph, frozen_weight, frozen_bias, repeated_activation, tied, without_bias, nested],
)
def test_equals_the_loop_for_every_kind_of_module(make_model, batch_size):
    assert_equals_the_loop(data(n=8), make_model, batch_size=batch_size, validation=data(n=5, seed=1))


@pytest.mark.parametrize("make_model", [classifier, convolutional])
@pytest.mark.parametrize("batch_size", [None, 4])
def test_equals_the_loop_on_cross_entropy(make_model, batch_size):
    x, scores = data(2, 3, n=9)
    labels = (scores[..., 0] * 100).long() % 4
    training, validation = (x, labels), (x.flip(1), labels)
    assert_equals_the_loop(
        training, make_model, loss=nn.functional.cross_entropy, batch_size=batch_size, validation=validation
    )


@pytest.mark.parametrize("chunk_size", [None, 1])
def test_equals_the_loop_on_images(chunk_size):
    assert_equals_the_loop(data(2, 3, 3), of_images, chunk_size=chunk_size, validation=data(2, 3, 3, n=5, seed=1))


def test_equals_the_loop_where_a_sample_has_several_rows():
    x, _ = data(4, 2)
    assert_equals_the_loop((x, x.prod(-1, keepdim=True)), network, epochs=1)


def test_targets_may_be_of_a_wider_dtype_and_any_loss_will_do():
    (x, y), ensembles = data(), [Ensemble(lambda: MLP([2, 5, 1]), SEEDS) for _ in range(2)]
    fit(ensembles[0], (x.float(), y), optimizer=SGD, epochs=5)
    curves = fit(
        ensembles[1],
        (x.float(), y),
        optimizer=SGD,
        epochs=5,
        loss=lambda predictions, targets: 1.0 * mean_squared_errors(predictions, targets),
    )
    assert_close(ensembles[0].flat, ensembles[1].flat)
    assert not curves.losses.requires_grad


SCHEDULERS = {
    "StepLR": partial(lr_scheduler.StepLR, step_size=3, gamma=0.5),
    "cosine": partial(lr_scheduler.CosineAnnealingLR, T_max=EPOCHS),
    "exponential": partial(lr_scheduler.ExponentialLR, gamma=0.9),
}


@pytest.mark.parametrize("scheduler", SCHEDULERS.values(), ids=SCHEDULERS)
def test_equals_the_loop_under_a_scheduler(scheduler):
    assert_equals_the_loop(data(), scheduler=scheduler, batch_size=3)


@pytest.mark.parametrize("optimizer", [OPTIMIZERS["momentum"], OPTIMIZERS["AdamW"]], ids=["SGD", "AdamW"])
def test_equals_the_loop_with_one_cycle_of_all_batches(optimizer):
    one_cycle = partial(lr_scheduler.OneCycleLR, max_lr=0.2, total_steps=EPOCHS * 3)
    assert_equals_the_loop(data(), optimizer=optimizer, scheduler=one_cycle, schedule_every="batch", batch_size=3)


@proportional
def test_every_copy_has_a_plateau_of_its_own(optimizer):
    plateau = partial(lr_scheduler.ReduceLROnPlateau, factor=0.3, patience=1, threshold=0.05, cooldown=1, min_lr=1e-5)
    assert_equals_the_loop(data(), optimizer=optimizer, scheduler=plateau, validation=data(seed=1), epochs=9)


def test_plateaus_see_the_training_loss_where_there_is_no_validation():
    assert_equals_the_loop(data(), scheduler=partial(lr_scheduler.ReduceLROnPlateau, factor=0.3, patience=0))


@pytest.mark.parametrize("optimizer", [SGD, OPTIMIZERS["Adam"]], ids=["SGD", "Adam"])
@pytest.mark.parametrize("penalty", [0.1, torch.tensor([0.0, 0.1, 0.3])], ids=["one", "one a copy"])
@pytest.mark.parametrize("name", ["l1", "l2"])
def test_equals_the_loop_with_a_penalty(name, penalty, optimizer):
    assert_equals_the_loop(data(), optimizer=optimizer, **{name: penalty})


@pytest.mark.parametrize("optimizer", [SGD, OPTIMIZERS["Adam"]], ids=["SGD", "Adam"])
@pytest.mark.parametrize("max_norm", [0.1, 1.0])
def test_every_copy_is_clipped_by_its_own_norm(max_norm, optimizer):
    x, y = data()
    scale = torch.tensor([1.0, 0.01, 10.0], dtype=torch.float64)[:, None, None]
    assert_equals_the_loop((x, y * scale), optimizer=optimizer, max_norm=max_norm, l1=0.01, l2=0.01)


@elementwise
def test_every_copy_stops_by_its_own_patience(optimizer):
    assert_equals_the_loop(data(), optimizer=optimizer, epochs=9, patience=2, validation=data(seed=1))


@pytest.mark.parametrize("batch_size", [None, 3])
@pytest.mark.parametrize("make_model", [network, normalised])
@pytest.mark.parametrize("optimizer", [SGD, OPTIMIZERS["Adam"]], ids=["SGD", "Adam"])
def test_every_copy_keeps_its_best(optimizer, make_model, batch_size):
    curves = assert_equals_the_loop(
        data(), make_model, optimizer, epochs=14, patience=2, validation=data(seed=1), batch_size=batch_size
    )
    trained = curves.losses.isfinite()
    assert torch.equal(trained.sum(0), curves.epochs)
    assert torch.equal(curves.validation_losses.isfinite(), trained)
    best = curves.validation_losses.nan_to_num(torch.inf).argmin(0) + 1
    assert torch.equal(curves.best_epochs, best)


def test_early_stopping_with_all_else():
    curves = assert_equals_the_loop(
        data(),
        normalised,
        OPTIMIZERS["momentum"],
        epochs=25,
        patience=3,
        validation=data(seed=1),
        batch_size=3,
        scheduler=partial(lr_scheduler.ReduceLROnPlateau, factor=0.5, patience=0),
        max_norm=0.5,
        l1=torch.tensor([0.0, 0.01, 0.1]),
        l2=0.01,
        chunk_size=2,
    )
    assert curves.epochs.unique().numel() > 1


def test_what_is_left_has_the_validation_loss_of_the_best_epoch():
    ensemble, validation = Ensemble(normalised, SEEDS), data(seed=1)
    stopping = EarlyStopping(patience=2)
    curves = fit(
        ensemble,
        data(),
        optimizer=OPTIMIZERS["Adam"],
        epochs=30,
        validation=validation,
        early_stopping=stopping,
        validate_every=3,
    )
    left = mean_squared_errors(ensemble.eval()(validation[0]), validation[1])
    exactly(left, curves.validation_losses.nan_to_num(torch.inf).amin(0))
    assert curves.validation_losses[torch.arange(1, 31) % 3 > 0].isnan().all()
    assert curves.validation_losses[2].isfinite().all()
    assert (curves.best_epochs % 3 == 0).all()
    assert stopping.best == torch.inf, "the caller's early stopping is a pattern"


def test_learning_curves_say_what_was_trained():
    ensemble, (x, y) = Ensemble(network, SEEDS), data()
    before = mean_squared_errors(ensemble(x), y).detach()
    curves = fit(ensemble, (x, y), optimizer=SGD, epochs=4, l1=0.1, l2=0.1)
    assert isinstance(curves, LearningCurves)
    assert curves.losses.shape == (4, 3)
    exactly(curves.losses[0], before)
    assert curves.validation_losses is None
    assert curves.epochs.tolist() == curves.best_epochs.tolist() == [4, 4, 4]
    assert not curves.diverged.any()


@pytest.mark.parametrize("make_model", [network, normalised, nested])
def test_a_second_fit_trains_on(make_model):
    once, twice = Ensemble(make_model, SEEDS), Ensemble(make_model, SEEDS)
    fit(once, data(), optimizer=SGD, epochs=8)
    first, second = (fit(twice, data(), optimizer=SGD, epochs=4) for _ in range(2))
    assert (second.losses[0] < first.losses[0]).all()
    exactly(twice.flat, once.flat)
    exactly(twice.buffers, once.buffers)


@pytest.mark.parametrize("settings", [{}, {"max_norm": 1.0}, {"batch_size": 3}, {"l1": 0.1, "l2": 0.1}], ids=str)
@pytest.mark.parametrize(
    ("make_model", "optimizer"), [(network, OPTIMIZERS["Adam"]), (normalised, SGD)], ids=["MLP, Adam", "BatchNorm, SGD"]
)
def test_a_copy_that_diverges_leaves_every_bit_of_the_others(make_model, settings, optimizer):
    (x, y), wild = data(), torch.tensor([1.0, 1e200, 1.0], dtype=torch.float64)[:, None, None]
    calm, stormy = Ensemble(make_model, SEEDS), Ensemble(make_model, SEEDS)
    of_calm = fit(calm, (x, y), optimizer=optimizer, epochs=10, **settings)
    of_stormy = fit(stormy, (x, y * wild), optimizer=optimizer, epochs=10, **settings)
    assert of_calm.diverged.tolist() == [False] * 3
    assert of_stormy.diverged.tolist() == [False, True, False]
    assert torch.equal(stormy.rows()[::2], calm.rows()[::2])
    assert torch.equal(of_stormy.losses[:, ::2], of_calm.losses[:, ::2])


def test_a_copy_diverges_with_its_first_infinite_parameter():
    def zero():
        model = nn.Linear(2, 1).double()
        nn.init.zeros_(model.weight)
        return model

    x = torch.tensor([1.0, 1.0], dtype=torch.float64).expand(2, 1, 2).clone()
    x[1, 0, 0] = 1e200
    ensemble = Ensemble(zero, [0, 0])
    curves = fit(ensemble, (x, torch.full((2, 1, 1), 1e150, dtype=torch.float64)), optimizer=SGD, epochs=1)
    assert curves.losses.isfinite().all()
    assert ensemble.rows().isfinite().sum(1).tolist() == [3, 2]
    assert curves.diverged.tolist() == [False, True]


def test_a_copy_that_never_improves_is_left_as_it_was():
    x, y = data()
    y[1] = torch.inf
    ensemble = Ensemble(network, SEEDS)
    before = ensemble.rows()[1].clone()
    curves = fit(ensemble, (x, y), optimizer=SGD, epochs=9, validation=(x, y), early_stopping=EarlyStopping(patience=2))
    assert torch.equal(ensemble.rows()[1], before)
    assert (curves.epochs[1], curves.best_epochs[1], curves.diverged[1]) == (2, 0, True)
    assert curves.diverged.tolist() == [False, True, False]


@pytest.mark.gpu
@pytest.mark.parametrize("batch_size", [None, 3])
@pytest.mark.parametrize(
    "optimizer",
    [SGD, OPTIMIZERS["Nesterov"], partial(optim.Adam, lr=0.01, capturable=True), OPTIMIZERS["Adagrad"]],
    ids=["SGD", "Nesterov", "Adam, captured", "Adagrad"],
)
@pytest.mark.parametrize("make_model", [network, normalised])
def test_a_gpu_trains_as_the_cpu_does(make_model, optimizer, batch_size):
    on_cpu, on_gpu = Ensemble(make_model, SEEDS), Ensemble(make_model, SEEDS).to("cuda")
    (x, y), settings = data(), {name: value for name, value in optimizer.keywords.items() if name != "capturable"}
    curves = fit(on_cpu, (x, y), optimizer=partial(optimizer.func, **settings), epochs=EPOCHS, batch_size=batch_size)
    of_gpu = fit(on_gpu, (x.cuda(), y.cuda()), optimizer=optimizer, epochs=EPOCHS, batch_size=batch_size)
    # A capturable Adam counts its steps in float32, so that its bias corrections have no more digits.
    close = partial(torch.testing.assert_close, atol=1e-5, rtol=1e-5) if "capturable" in optimizer.keywords else exactly
    close(on_gpu.flat.cpu(), on_cpu.flat)
    close({name: buffer.cpu() for name, buffer in on_gpu.buffers.items()}, on_cpu.buffers)
    close(of_gpu.losses.cpu(), curves.losses)
