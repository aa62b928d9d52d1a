"""Case 3: the house prices, and regressors that learned them under many seeds, trained once a session."""

from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import cache, partial

import pytest
import torch
from sklearn.datasets import load_diabetes, make_regression
from sklearn.model_selection import train_test_split
from sklearn.preprocessing import StandardScaler
from torch import Tensor, nn
from torch.optim import Adam, Optimizer

from fitcore.ensembles import Ensemble, fit, mean_squared_errors
from fitcore.models import MLP
from fitcore.testing.shared import Shared
from fitcore.training import EarlyStopping

COPIES = 48
Rows = tuple[Tensor, Tensor]


@dataclass(frozen=True)
class Prices:
    """How the data are made, by default as the document does; ``diabetes`` are scikit-learn's 442 real patients.

    Each feature is multiplied by a power of ten, evenly spread from -``magnitudes`` to ``magnitudes``.
    """

    random_state: int = 42
    samples: int = 1000
    noise: float = 0.0
    diabetes: bool = False
    magnitudes: float = 0.0
    scale_features: bool = True
    scale_target: bool = True
    validation_share: float = 0.1


@dataclass(frozen=True)
class Table:
    """Features (n, 10) and targets (n, 1) of each part; ``unit`` is one standard deviation of the target."""

    train: Rows
    remaining: Rows
    validation: Rows
    test: Rows
    unit: float


@cache
def table_of(prices: Prices) -> Table:
    """Split and standardise in the order of the listing."""
    if prices.diabetes:
        x, y = load_diabetes(return_X_y=True, scaled=False)
    else:
        x, y = make_regression(prices.samples, 10, noise=prices.noise, random_state=prices.random_state)
    x = x * torch.logspace(-prices.magnitudes, prices.magnitudes, 10, dtype=torch.float64).numpy()
    x_train, x_test, y_train, y_test = train_test_split(x, y.reshape(-1, 1), test_size=0.2, random_state=42)
    features, target = StandardScaler().fit(x_train), StandardScaler().fit(y_train)
    unit = 1.0 if prices.scale_target else float(target.scale_[0])
    if prices.scale_features:
        x_train, x_test = features.transform(x_train), features.transform(x_test)
    if prices.scale_target:
        y_train, y_test = target.transform(y_train), target.transform(y_test)
    parts = train_test_split(x_train, y_train, test_size=prices.validation_share, random_state=42)
    x_sub, x_validation, y_sub, y_validation = parts
    pairs = (x_train, y_train), (x_sub, y_sub), (x_validation, y_validation), (x_test, y_test)
    return Table(*((_float32(x), _float32(y)) for x, y in pairs), unit=unit)


def _float32(values) -> Tensor:
    return torch.tensor(values, dtype=torch.float32)


@dataclass(frozen=True)
class Setting:
    """How a regressor learns, by default the initial one; ``repaired`` takes the validation rows from the training.

    With ``own_data`` each copy learns data of its own.
    """

    hidden: tuple[int, ...] = (32,)
    batch_norm: bool = False
    weight_decay: float = 0.0
    optimizer: Callable[..., Optimizer] = Adam
    lr: float = 1e-3
    epochs: int = 50
    loss: Callable[[Tensor, Tensor], Tensor] = mean_squared_errors
    repaired: bool = False
    own_data: bool = False


class Watched:
    """A loss that in evaluation takes note of the errors of every part of the rows."""

    def __init__(self, loss: Callable[[Tensor, Tensor], Tensor], sizes: list[int], unit: float) -> None:
        self._loss, self._sizes, self._unit = loss, sizes, unit
        self.errors: list[tuple[Tensor, ...]] = []

    def __call__(self, outputs: Tensor, targets: Tensor) -> Tensor:
        """The losses to minimise, (S,)."""
        if outputs.shape[1] == sum(self._sizes) and not outputs.requires_grad:
            self.errors.append(((outputs - targets).squeeze(2) / self._unit).split(self._sizes, 1))
        return self._loss(outputs, targets)


@dataclass(frozen=True)
class Stopped:
    """Where early stopping ends each copy, (S,) each: epochs trained, and the best MAE and test errors of its epoch."""

    epochs: Tensor
    watched: Tensor
    test: Tensor
    test_mse: Tensor


@dataclass(frozen=True)
class Learned:
    """Regressors after each of E epochs, in units of the standardised target.

    Attributes:
        losses: training losses, (E, S).
        validation: MAE on the validation rows, (E, S); ``validation_mse`` likewise.
        rehearsed: MAE on as many rows that are surely among those trained on.
        test: MAE on the test rows; ``test_mse`` likewise.
        ensemble: the copies in the end.
        table: the data, where all copies share them.
    """

    losses: Tensor
    validation: Tensor
    validation_mse: Tensor
    rehearsed: Tensor
    test: Tensor
    test_mse: Tensor
    ensemble: Ensemble
    table: Table

    def stopped(
        self,
        patience: int = 5,
        watching: str = "validation",
        rule: type[EarlyStopping] = EarlyStopping,
        until: int | None = None,
    ) -> Stopped:
        """Stop by a MAE, as the listing does; until then a run that will be stopped is like any other."""
        watched = getattr(self, watching)[:until]
        stopping, epochs = rule(patience), torch.full(watched.shape[1:], len(watched))
        best = torch.zeros_like(epochs)
        for epoch, maes in enumerate(watched, 1):
            before = stopping.stopped
            epochs[stopping.update(maes) & ~before] = epoch
            best[stopping.improved] = epoch
        at_best = (curve.gather(0, best[None] - 1)[0] for curve in (watched, self.test, self.test_mse))
        return Stopped(epochs, *at_best)


def learned(seeds: tuple[int, ...], setting: Setting, prices: Prices) -> Learned:
    """Train a copy a seed, watching all its errors after each epoch."""
    states = seeds if setting.own_data else (prices.random_state,)
    tables = [table_of(Prices(**{**vars(prices), "random_state": state})) for state in states]
    ensemble = Ensemble(lambda: MLP([10, *setting.hidden, 1], nn.ReLU, setting.batch_norm), seeds)

    def rows(part: str, count: int | None = None) -> Rows:
        of_all = ([getattr(table, part)[index][:count] for table in tables] for index in (0, 1))
        x, y = (torch.stack(values) if setting.own_data else ensemble.share(values[0]) for values in of_all)
        return x, y

    held_out = len(tables[0].validation[0])
    watched_rows = rows("validation"), rows("remaining", held_out), rows("test")
    watched = Watched(setting.loss, [part[0].shape[1] for part in watched_rows], tables[0].unit)
    validation = torch.cat([x for x, _ in watched_rows], 1), torch.cat([y for _, y in watched_rows], 1)
    curves = fit(
        ensemble,
        rows("remaining" if setting.repaired else "train"),
        epochs=setting.epochs,
        optimizer=partial(setting.optimizer, lr=setting.lr, weight_decay=setting.weight_decay, fused=True),
        loss=watched,
        validation=validation,
        batch_size=32,
        chunk_size=len(seeds),
    )
    ensemble.eval()
    parts = [torch.stack(errors) for errors in zip(*watched.errors, strict=True)]
    (validation_mae, rehearsed_mae, test_mae) = (errors.abs().mean(2) for errors in parts)
    validation_mse, _, test_mse = (errors.square().mean(2) for errors in parts)
    losses = curves.losses / tables[0].unit ** 2
    return Learned(losses, validation_mae, validation_mse, rehearsed_mae, test_mae, test_mse, ensemble, tables[0])


@pytest.fixture(scope="session")
def prices() -> Callable[..., Table]:
    """``prices(**settings of Prices)``: the data."""
    return lambda **settings: table_of(Prices(**settings))


@pytest.fixture
def initial(shared: Shared) -> Callable[..., Learned]:
    """``initial(**settings of Setting or Prices)``: the initial regressors, by Adam at 0.001, after up to 50 epochs."""

    def train(copies: int = COPIES, **settings) -> Learned:
        of_data = {name: settings.pop(name) for name in settings.keys() & Prices.__annotations__.keys()}
        setting, of_prices = Setting(**settings), Prices(**of_data)
        if replace(setting, epochs=Setting.epochs) == Setting() and of_prices == Prices():
            setting = Setting()  # which many claims need: a shorter run is its beginning, to the bit
        return shared(learned, tuple(shared.seeds(copies).tolist()), setting, of_prices)

    return train


@pytest.fixture
def improved(initial) -> Callable[..., Learned]:
    """``improved(**settings)``: the improved regressors, validated on rows that they are trained on, as printed."""
    printed = {"hidden": (64, 32), "batch_norm": True, "weight_decay": 1e-5}
    return lambda **settings: initial(**{**printed, **settings})
