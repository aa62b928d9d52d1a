"""Whatever `fit` does to an ensemble is held against a plain loop over its copies, one after the other."""

from copy import deepcopy
from functools import partial

import hypothesis.strategies as st
import joblib
import pytest
import torch
from hypothesis import given, settings
from torch import nn, optim
from torch.optim import lr_scheduler
from torch.testing import assert_close

from fitcore.ensembles import Ensemble, LearningCurves, cross_entropies, fit, mean_squared_errors
from fitcore.ensembles.chunks import chunks, spread
from fitcore.models import MLP, GaussianNoise
from fitcore.training import EarlyStopping

SEEDS, EPOCHS = [3, 1, 4], 6
SGD = partial(optim.SGD, lr=0.1)
exactly = partial(assert_close, rtol=1e-10, atol=1e-10, equal_nan=True)


def network():
    return MLP([2, 5, 1]).double()


def classifier():
    return nn.Sequential(nn.Flatten(), nn.Linear(6, 5), nn.ReLU(), nn.Linear(5, 4)).double()


def convolutional():
    return nn.Sequential(nn.Conv1d(2, 3, 2), nn.ReLU(), nn.Flatten(), nn.Linear(6, 4)).double()


def normalised():
    # With a bias before it, whose gradient is rounding alone, Adam would make steps of that.
    return nn.Sequential(nn.Linear(2, 4, bias=False), nn.BatchNorm1d(4), nn.ReLU(), nn.Linear(4, 1)).double()


def frozen_weight():
    model = network()
    model[0].weight.requires_grad_(False)
    return model


def frozen_bias():
    model = network()
    model[0].bias.requires_grad_(False)
    return model


def repeated_activation():
    activation = nn.Sigmoid()
    return nn.Sequential(nn.Linear(2, 4), activation, nn.Linear(4, 4), activation, nn.Linear(4, 1)).double()


def tied():
    layer = nn.Linear(2, 2)
    return nn.Sequential(layer, nn.Tanh(), layer, nn.Tanh(), nn.Linear(2, 1)).double()


def without_bias():
    return nn.Sequential(nn.Linear(2, 3, bias=False), nn.Identity(), nn.Tanh(), nn.Linear(3, 1)).double()


def nested():
    return nn.Sequential(nn.Sequential(nn.Linear(2, 3), nn.Tanh()), nn.Linear(3, 1)).double()


def data(*features, n=8, seed=0, copies=3):
    generator = torch.Generator().manual_seed(seed)
    x = torch.randn(copies, n, *(features or (2,)), generator=generator, dtype=torch.float64)
    return x, torch.randn(copies, n, 1, generator=generator, dtype=torch.float64)


def loop(
    seed,
    training,
    make_model,
    optimizer,
    epochs,
    *,
    loss=nn.functional.mse_loss,
    batch_size=None,
    scheduler=None,
    schedule_every="epoch",
    l1=0.0,
    l2=0.0,
    max_norm=None,
    validation=None,
    patience=None,
):
    """Losses, validation losses and state of one ordinary module, trained the ordinary way."""
    torch.manual_seed(seed)
    (x, y), model, order = training, make_model(), torch.Generator().manual_seed(seed)
    params = [p for p in model.parameters() if p.requires_grad]
    optimizer = optimizer(params)
    scheduler = scheduler(optimizer) if scheduler else None
    losses, validation_losses = torch.full((2, epochs), torch.nan, dtype=torch.float64)
    best, waited = (torch.inf, model.state_dict()), 0
    for epoch in range(epochs):
        model.train()
        losses[epoch] = 0
        for batch in torch.randperm(len(x), generator=order).split(batch_size) if batch_size else [slice(None)]:
            optimizer.zero_grad()
            error = loss(model(x[batch]), y[batch])
            (error + l1 * sum(p.abs().sum() for p in params) + l2 * sum(p.square().sum() for p in params)).backward()
            if max_norm:
                nn.utils.clip_grad_norm_(params, max_norm)
            optimizer.step()
            losses[epoch] += error.detach() * len(x[batch]) / len(x)
            if scheduler and schedule_every == "batch":
                scheduler.step()
        model.eval()
        with torch.no_grad():
            validation_losses[epoch] = loss(model(validation[0]), validation[1]) if validation else torch.nan
        if isinstance(scheduler, lr_scheduler.ReduceLROnPlateau):
            scheduler.step(validation_losses[epoch] if validation else losses[epoch])
        elif scheduler and schedule_every == "epoch":
            scheduler.step()
        if patience:
            waited += 1
            if validation_losses[epoch] < best[0]:
                best, waited = (validation_losses[epoch].item(), deepcopy(model.state_dict())), 0
            if waited == patience:
                break
    return losses, validation_losses, best[1] if patience else model.state_dict()


def _of(weight, copy):
    return float(weight[copy]) if isinstance(weight, torch.Tensor) else weight


def assert_equals_the_loop(
    training,
    make_model=network,
    optimizer=SGD,
    *,
    epochs=EPOCHS,
    validation=None,
    l1=0.0,
    l2=0.0,
    loss=None,
    **settings,
):
    ensemble = Ensemble(make_model, SEEDS)
    patience, chunk_size = settings.pop("patience", None), settings.pop("chunk_size", None)
    curves = fit(
        ensemble,
        training,
        optimizer=optimizer,
        epochs=epochs,
        validation=validation,
        l1=l1,
        l2=l2,
        loss=cross_entropies if loss else mean_squared_errors,
        early_stopping=EarlyStopping(patience) if patience else None,
        chunk_size=chunk_size,
        **settings,
    )
    settings |= {"loss": loss} if loss else {}
    for copy, seed in enumerate(SEEDS):
        losses, validation_losses, state = loop(
            seed,
            (training[0][copy], training[1][copy]),
            make_model,
            optimizer,
            epochs,
            validation=validation and (validation[0][copy], validation[1][copy]),
            l1=_of(l1, copy),
            l2=_of(l2, copy),
            patience=patience,
            **settings,
        )
        exactly(curves.losses[:, copy], losses)
        exactly(ensemble.module(copy).state_dict(), state)
        if validation is not None:
            exactly(curves.validation_losses[:, copy], validation_losses)
    return curves


OPTIMIZERS = {
    "SGD": SGD,
    "momentum": partial(optim.SGD, lr=0.05, momentum=0.9, dampening=0.1),
    "Nesterov": partial(optim.SGD, lr=0.05, momentum=0.9, nesterov=True),
    "SGD, weight decay": partial(optim.SGD, lr=0.1, weight_decay=0.1),
    "Adam": partial(optim.Adam, lr=0.01),
    "Adam, fused": partial(optim.Adam, lr=0.01, fused=True),
    "Adam, foreach": partial(optim.Adam, lr=0.01, foreach=True),
    "AMSGrad": partial(optim.Adam, lr=0.01, amsgrad=True, weight_decay=0.1),
    "AdamW": partial(optim.AdamW, lr=0.01, weight_decay=0.1),
    "RMSprop": partial(optim.RMSprop, lr=0.01),
    "RMSprop, centred": partial(optim.RMSprop, lr=0.01, momentum=0.9, centered=True),
    "Adagrad": partial(optim.Adagrad, lr=0.1, lr_decay=0.1),
    "Adadelta": partial(optim.Adadelta, lr=1.0),
    "Adamax": partial(optim.Adamax, lr=0.01),
    "NAdam": partial(optim.NAdam, lr=0.01),
    "RAdam": partial(optim.RAdam, lr=0.01),
    "Rprop": partial(optim.Rprop, lr=0.01),
    "ASGD": partial(optim.ASGD, lr=0.1),
}
elementwise = pytest.mark.parametrize("optimizer", OPTIMIZERS.values(), ids=OPTIMIZERS)
proportional = pytest.mark.parametrize(
    "optimizer",
    [optimizer for optimizer in OPTIMIZERS.values() if optimizer.func not in (optim.Rprop, optim.ASGD)],
    ids=[name for name in OPTIMIZERS if name not in ("Rprop", "ASGD")],
)


@elementwise
def test_equals_the_loop_under_every_elementwise_optimizer(optimizer):
    assert_equals_the_loop(data(), optimizer=optimizer)


@pytest.mark.parametrize("batch_size", [None, 3, 4, 20])
@pytest.mark.parametrize("shared", [False, True], ids=["own data", "shared data"])
def test_equals_the_loop_on_batches(batch_size, shared):
    x, y = data()
    training = (x[:1].expand(3, -1, -1), y[:1].expand(3, -1, -1)) if shared else (x, y)
    assert_equals_the_loop(training, batch_size=batch_size)


@pytest.mark.parametrize("batch_size", [None, 4])
@pytest.mark.parametrize(
    "make_model",
    [normalised, frozen_weight, frozen_bias, repeated_activation, tied, without_bias, nested],
)
def test_equals_the_loop_for_every_kind_of_module(make_model, batch_size):
    assert_equals_the_loop(data(n=8), make_model, batch_size=batch_size, validation=data(n=5, seed=1))


@pytest.mark.parametrize("make_model", [classifier, convolutional])
@pytest.mark.parametrize("batch_size", [None, 4])
def test_equals_the_loop_on_cross_entropy(make_model, batch_size):
    x, scores = data(2, 3, n=9)
    labels = (scores[..., 0] * 100).long() % 4
    assert_equals_the_loop((x, labels), make_model, loss=nn.functional.cross_entropy, batch_size=batch_size)


def test_targets_may_be_of_a_wider_dtype_and_any_loss_will_do():
    (x, y), ensembles = data(), [Ensemble(lambda: MLP([2, 5, 1]), SEEDS) for _ in range(2)]
    fit(ensembles[0], (x.float(), y), optimizer=SGD, epochs=5)
    fit(
        ensembles[1],
        (x.float(), y),
        optimizer=SGD,
        epochs=5,
        loss=lambda predictions, targets: 1.0 * mean_squared_errors(predictions, targets),
    )
    assert_close(ensembles[0].flat, ensembles[1].flat)


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
        validate_every=2,
    )
    left = mean_squared_errors(ensemble.eval()(validation[0]), validation[1])
    exactly(left, curves.validation_losses.nan_to_num(torch.inf).amin(0))
    assert (curves.validation_losses[::2].isnan()).all()
    assert (curves.best_epochs % 2 == 0).all()
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


def test_a_copy_that_never_improves_is_left_as_it_was():
    x, y = data()
    y[1] = torch.inf
    ensemble = Ensemble(network, SEEDS)
    before = ensemble.rows()[1].clone()
    curves = fit(ensemble, (x, y), optimizer=SGD, epochs=9, validation=(x, y), early_stopping=EarlyStopping(patience=2))
    assert torch.equal(ensemble.rows()[1], before)
    assert (curves.epochs[1], curves.best_epochs[1], curves.diverged[1]) == (2, 0, True)
    assert curves.diverged.tolist() == [False, True, False]


@settings(max_examples=8)
@given(
    chunk_size=st.integers(1, 6),
    copies=st.integers(1, 5),
    make_model=st.sampled_from([network, normalised]),
    batch_size=st.sampled_from([None, 3]),
    shared=st.booleans(),
)
def test_chunks_change_nothing(chunk_size, copies, make_model, batch_size, shared):
    x, y = data(copies=copies)
    training = (x[:1].expand(x.shape), y[:1].expand(y.shape)) if shared else (x, y)
    whole, chunked = Ensemble(make_model, range(copies)), Ensemble(make_model, range(copies))
    settings = {"optimizer": SGD, "epochs": 3, "batch_size": batch_size, "max_norm": 1.0}
    curves = fit(whole, training, **settings, chunk_size=copies)
    of_chunked = fit(chunked, training, **settings, chunk_size=chunk_size)
    exactly(chunked.flat, whole.flat)
    exactly(chunked.buffers, whole.buffers)
    exactly(of_chunked.losses, curves.losses)


@given(copies=st.integers(1, 60), n=st.integers(1, 3_000), size=st.none() | st.integers(1, 70))
@settings(max_examples=15)
def test_chunks_cover_every_copy_once_and_are_no_larger_than_asked(copies, n, size):
    ensemble = Ensemble(lambda: nn.Linear(2, 1), [0] * copies)
    slices = chunks(ensemble, torch.zeros(1, 1, 2).expand(copies, n, 2), batch=n, size=size)
    assert [copy for part in slices for copy in range(part.start, part.stop)] == list(range(copies))
    sizes = [part.stop - part.start for part in slices]
    assert min(sizes) >= 1
    assert max(sizes) <= (size or copies)
    assert max(sizes) - min(sizes) <= 1


def test_larger_steps_make_smaller_chunks():
    ensemble = Ensemble(network, range(100))
    x = torch.zeros(1, 1, 2, dtype=torch.float64).expand(100, 10_000, 2)
    assert len(chunks(ensemble, x, batch=10)) < len(chunks(ensemble, x, batch=1_000)) < 100
    assert len(chunks(ensemble, x, batch=10_000_000)) == 100


@pytest.mark.parametrize("wrap", [nn.Sequential, lambda *layers: nn.Sequential(nn.Sequential(*layers))])
@pytest.mark.parametrize("p", [0.0, 0.3, 1.0])
def test_dropout_draws_for_every_copy_and_epoch(p, wrap):
    seen = []

    def loss(outputs, targets):
        seen.append(outputs.detach().clone())
        return outputs.flatten(1).mean(1)

    def make_model():
        return wrap(nn.Linear(1, 200), nn.Dropout(p))

    ensemble, x = Ensemble(make_model, [5, 5]), torch.ones(2, 50, 1)
    fit(ensemble, (x, x), optimizer=partial(optim.SGD, lr=0.0), epochs=2, loss=loss)
    masks = torch.stack(seen[1:]) / ensemble.eval()(x).detach()  # the first call checks the shapes
    assert_close(masks[masks != 0], torch.full_like(masks[masks != 0], 1 / (1 - p or 1)))
    kept = (masks != 0).double().reshape(4, -1)
    standard_error = (p * (1 - p) / kept.shape[1]) ** 0.5
    assert ((kept.mean(1) - (1 - p)).abs() <= 6 * standard_error).all()
    if 0 < p < 1:
        correlations = torch.corrcoef(kept) - torch.eye(4)
        assert correlations.abs().max() < 6 / kept.shape[1] ** 0.5


def noisy():
    return nn.Sequential(GaussianNoise(0.1), nn.Linear(2, 5), nn.ReLU(), nn.Dropout(0.5), nn.Linear(5, 1)).double()


def noisy_graph():
    return nn.Sequential(noisy(), nn.GELU()).double()


@pytest.mark.parametrize("make_model", [noisy, noisy_graph])
def test_masks_and_noise_are_reproducible_whatever_the_global_state(make_model):
    first, second = Ensemble(make_model, range(4)), Ensemble(make_model, range(4))
    torch.manual_seed(1)
    curves = fit(first, data(copies=4), optimizer=SGD, epochs=5, chunk_size=2)
    state = torch.manual_seed(2).get_state()
    again = fit(second, data(copies=4), optimizer=SGD, epochs=5, chunk_size=2)
    assert torch.equal(torch.get_rng_state(), state)
    assert torch.equal(first.flat, second.flat)
    assert torch.equal(curves.losses, again.losses)


def test_noise_on_the_inputs_has_its_standard_deviation():
    seen = []

    def loss(outputs, targets):
        seen.append(outputs.detach().clone())
        return outputs.flatten(1).mean(1)

    ensemble = Ensemble(lambda: nn.Sequential(nn.Linear(1, 100), GaussianNoise(0.5)), [5, 5])
    x = torch.ones(2, 50, 1)
    fit(ensemble, (x, x), optimizer=partial(optim.SGD, lr=0.0), epochs=2, loss=loss)
    noise = (torch.stack(seen[1:]) - ensemble.eval()(x).detach()).reshape(4, -1)
    assert_close(noise.std(1), torch.full((4,), 0.5), rtol=0.05, atol=0.0)
    assert_close(torch.corrcoef(noise), torch.eye(4), rtol=0.0, atol=0.09)


def test_validation_draws_no_masks():
    ensemble, (x, y) = Ensemble(noisy, SEEDS), data()
    curves = fit(ensemble, (x, y), optimizer=SGD, epochs=3, validation=(x, y))
    exactly(curves.validation_losses[-1], mean_squared_errors(ensemble.eval()(x), y))


@pytest.fixture(scope="module")
def dask_cluster():
    distributed = pytest.importorskip("distributed", reason="needs the extra dask")
    with (
        distributed.LocalCluster(n_workers=2, threads_per_worker=1, processes=True, dashboard_address=None) as cluster,
        distributed.Client(cluster),
    ):
        yield cluster


def assert_equals_one_after_the_other(make_model, **settings):
    ensembles = [Ensemble(make_model, range(4)) for _ in range(2)]
    settings |= {
        "optimizer": OPTIMIZERS["Adam"],
        "epochs": 4,
        "batch_size": 4,
        "validation": data(copies=4, seed=1),
        "early_stopping": EarlyStopping(patience=2),
        "l1": torch.tensor([0.0, 0.1, 0.2, 0.3]),
        "chunk_size": 2,
    }
    with joblib.parallel_config(n_jobs=1):
        alone = fit(ensembles[0], data(copies=4), **settings)
    spread_out = fit(ensembles[1], data(copies=4), **settings)
    assert torch.equal(ensembles[0].flat, ensembles[1].flat)
    assert_close(ensembles[1].buffers, ensembles[0].buffers, rtol=0, atol=0)
    assert_close(vars(spread_out), vars(alone), rtol=0, atol=0, equal_nan=True)


@pytest.mark.parametrize("make_model", [noisy, noisy_graph, normalised])
@pytest.mark.parametrize("jobs", [1, 2])
def test_threads_change_nothing(make_model, jobs):
    with joblib.parallel_config(backend="threading", n_jobs=jobs):
        assert_equals_one_after_the_other(make_model)


def test_threads_leave_the_global_state_as_it_was():
    state = torch.get_rng_state()
    with joblib.parallel_config(backend="threading", n_jobs=2):
        fit(Ensemble(noisy_graph, range(8)), data(copies=8), optimizer=SGD, epochs=3, chunk_size=1)
    assert torch.equal(torch.get_rng_state(), state)


@pytest.mark.parametrize("make_model", [noisy, noisy_graph, normalised])
def test_processes_change_nothing(make_model):
    with joblib.parallel_config(backend="loky", n_jobs=2):
        assert_equals_one_after_the_other(make_model)


@pytest.mark.parametrize("make_model", [noisy, noisy_graph, normalised])
def test_a_dask_cluster_changes_nothing(make_model, dask_cluster):
    with joblib.parallel_config(backend="dask"):
        assert_equals_one_after_the_other(make_model)


def test_spread_keeps_the_order_and_gives_every_worker_one_thread():
    threads = torch.get_num_threads()
    torch.set_num_threads(2)
    try:
        with joblib.parallel_config(n_jobs=1):
            assert spread(lambda i: (i, torch.get_num_threads()), [(i,) for i in range(3)]) == [(0, 2), (1, 2), (2, 2)]
        with joblib.parallel_config(backend="threading", n_jobs=2):
            assert spread(lambda i: (i, torch.get_num_threads()), [(i,) for i in range(3)]) == [(0, 1), (1, 1), (2, 1)]
        assert torch.get_num_threads() == 2
    finally:
        torch.set_num_threads(threads)


@pytest.mark.parametrize(
    ("optimizer", "says"),
    [
        (optim.LBFGS, "without a closure, but: .*closure"),
        (optim.Muon, "one vector of all parameters .* 2D parameters"),
        (optim.Adafactor, "elementwise.*; Adafactor moves a number differently"),
        (partial(optim.SGD, lr=-1.0), "Invalid learning rate"),
    ],
)
def test_optimizers_that_couple_the_copies_are_refused(optimizer, says):
    with pytest.raises(ValueError, match=says):
        fit(Ensemble(network, SEEDS), data(), optimizer=optimizer, epochs=1)


@pytest.mark.parametrize("optimizer", [optim.Rprop, optim.ASGD])
def test_plateaus_of_optimizers_whose_step_is_not_proportional_are_refused(optimizer):
    with pytest.raises(ValueError, match=f"{optimizer.__name__}'s step is not proportional"):
        fit(
            Ensemble(network, SEEDS),
            data(),
            optimizer=optimizer,
            epochs=1,
            scheduler=lr_scheduler.ReduceLROnPlateau,
            validation=data(),
        )


@pytest.mark.parametrize(
    ("settings", "says"),
    [
        ({"epochs": 0}, "epochs, validate_every and batch_size must be at least 1, got 0, 1 and None"),
        ({"batch_size": 0}, "must be at least 1, got 1, 1 and 0"),
        ({"validate_every": 0}, "must be at least 1, got 1, 0 and None"),
        ({"max_norm": 0.0}, "max_norm must be positive, got 0.0"),
        ({"max_norm": torch.nan}, "max_norm must be positive, got nan"),
        ({"chunk_size": 0}, "chunk_size must be at least 1, got 0"),
        ({"schedule_every": "step"}, "schedule_every must be 'epoch' or 'batch', got 'step'"),
        ({"early_stopping": EarlyStopping(1)}, "early_stopping needs validation data"),
        ({"l1": torch.ones(2)}, r"l1 must be one number or one for each of the 3 copies, got shape \(2,\)"),
        ({"l2": torch.ones(3, 1)}, r"l2 must be one number or one for each of the 3 copies, got shape \(3, 1\)"),
        ({"loss": nn.functional.mse_loss}, r"loss must return one number a copy, \(S,\), got \(\) for one copy"),
        ({"validation": data(copies=2)}, r"validation inputs and targets must have a first dimension of the 3 copies"),
    ],
)
def test_settings_that_make_no_sense_are_refused(settings, says):
    ensemble = Ensemble(network, SEEDS)
    before = ensemble.flat.clone()
    with pytest.raises(ValueError, match=says):
        fit(ensemble, data(), **{"optimizer": SGD, "epochs": 1} | settings)
    assert torch.equal(ensemble.flat, before)


@pytest.mark.parametrize(
    ("inputs", "targets", "says"),
    [
        ((2, 7, 2), (2, 7, 1), r"first dimension of the 3 copies .* got \(2, 7, 2\) and \(2, 7, 1\); `Ensemble.share`"),
        ((7, 2), (7, 1), r"first dimension of the 3 copies"),
        ((3, 7, 2), (3,), r"got \(3, 7, 2\) and \(3,\)"),
        ((3, 7, 2), (3, 6, 1), "inputs and targets must be as many, got 7 and 6"),
        ((3, 7, 2), (3, 7), r"targets must have the shape of predictions \(1, 2, 1\), got \(1, 2\)"),
    ],
)
def test_data_that_do_not_fit_are_refused(inputs, targets, says):
    with pytest.raises(ValueError, match=says):
        fit(
            Ensemble(network, SEEDS),
            (torch.ones(inputs).double(), torch.ones(targets).double()),
            optimizer=SGD,
            epochs=1,
        )


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
    exactly(on_gpu.flat.cpu(), on_cpu.flat)
    exactly({name: buffer.cpu() for name, buffer in on_gpu.buffers.items()}, on_cpu.buffers)
    exactly(of_gpu.losses.cpu(), curves.losses)
