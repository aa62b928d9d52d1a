"""A plain loop over the copies of an ensemble, against which its `fit` is held."""

from copy import deepcopy
from functools import partial

import torch
from torch import nn, optim
from torch.optim import lr_scheduler
from torch.testing import assert_close

from fitcore.ensembles import Ensemble, cross_entropies, fit, mean_squared_errors
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


def noisy():
    return nn.Sequential(GaussianNoise(0.1), nn.Linear(2, 5), nn.ReLU(), nn.Dropout(0.5), nn.Linear(5, 1)).double()


def noisy_graph():
    return nn.Sequential(noisy(), nn.GELU()).double()


def normalised_graph():
    return nn.Sequential(normalised(), nn.GELU()).double()


def of_images():
    return nn.Sequential(nn.Conv2d(2, 3, 2), nn.ReLU(), nn.MaxPool2d(2), nn.Flatten(), nn.Linear(3, 1)).double()


def data(*features, n=8, seed=0, copies=3):
    generator = torch.Generator().manual_seed(seed)
    x = torch.randn(copies, n, *(features or (2,)), generator=generator, dtype=torch.float64)
    return x, torch.randn(copies, n, 1, generator=generator, dtype=torch.float64)


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
    loss=None,
    **settings,
):
    ensemble = Ensemble(make_model, SEEDS)
    penalties = {name: settings.pop(name) for name in ("l1", "l2") if name in settings}
    patience, chunk_size = settings.pop("patience", None), settings.pop("chunk_size", None)
    curves = fit(
        ensemble,
        training,
        optimizer=optimizer,
        epochs=epochs,
        validation=validation,
        loss=cross_entropies if loss else mean_squared_errors,
        early_stopping=EarlyStopping(patience) if patience else None,
        chunk_size=chunk_size,
        **penalties,
        **settings,
    )
    assert not curves.losses.requires_grad
    settings |= {"loss": loss} if loss else {}
    for copy, seed in enumerate(SEEDS):
        losses, validation_losses, state = loop(
            seed,
            (training[0][copy], training[1][copy]),
            make_model,
            optimizer,
            epochs,
            validation=validation and (validation[0][copy], validation[1][copy]),
            patience=patience,
            **{name: _of(weight, copy) for name, weight in penalties.items()},
            **settings,
        )
        exactly(curves.losses[:, copy], losses)
        exactly(ensemble.module(copy).state_dict(), state)
        if validation is not None:
            exactly(curves.validation_losses[:, copy], validation_losses)
    return curves
