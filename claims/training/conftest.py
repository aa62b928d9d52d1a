"""Section 5.4.1's complete training run, as one function of its settings, trained once a session."""

from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.optim import Adam, Optimizer
from torch.optim.lr_scheduler import LRScheduler, StepLR
from torch.utils.data import DataLoader, TensorDataset

from fitcore.models import MLP
from fitcore.seeding import seeded
from fitcore.testing.shared import Shared
from fitcore.training import History, fit

CLASSES = 10
HALVED_EVERY_TEN = partial(StepLR, step_size=10, gamma=0.5)
FUSED_ADAM = partial(Adam, fused=True)  # a quarter of the run is saved


def labelled(x: Tensor, informative: bool) -> tuple[Tensor, Tensor]:
    """Samples with the document's random labels, or with informative ones: which of ten features is largest."""
    return x, x[:, :CLASSES].argmax(1) if informative else torch.randint(0, CLASSES, (len(x),))


def create_sample_data(
    seed: int | None = 42,
    samples: int = 1000,
    scale: float = 1.0,
    informative: bool = False,
) -> tuple[Tensor, Tensor]:
    """Samples and labels; as in the document, this is what seeds the global generator, unless told not to."""
    if seed is not None:
        torch.manual_seed(seed)
    return labelled(scale * torch.randn(samples, 784), informative)


@dataclass(frozen=True)
class Setting:
    """What the listing fixes, by default as it does; ``before`` seeds the random state that it finds."""

    seed: int | None = 42
    samples: int = 1000
    scale: float = 1.0
    informative: bool = False
    batch_size: int = 32
    p: float = 0.3
    optimizer: Callable[..., Optimizer] = FUSED_ADAM
    lr: float = 1e-3
    scheduler: Callable[..., LRScheduler] = HALVED_EVERY_TEN
    max_norm: float = 1.0
    epochs: int = 5
    before: int = 0


class BatchLosses:
    """Cross-entropy that remembers its value for each batch of the training."""

    def __init__(self) -> None:
        self.values: list[float] = []

    def __call__(self, outputs: Tensor, labels: Tensor) -> Tensor:
        """The mean loss of a batch."""
        loss = nn.functional.cross_entropy(outputs, labels)
        if outputs.requires_grad:
            self.values.append(loss.item())
        return loss


def accuracy(outputs: Tensor, labels: Tensor) -> Tensor:
    """Share of the samples whose largest output is that of their label."""
    return (outputs.max(1).indices == labels).double().mean()


@dataclass
class Prepared:
    """What the listing has made when its loop begins."""

    setting: Setting
    x: Tensor
    y: Tensor
    loader: DataLoader[Any]
    model: nn.Module
    optimizer: Optimizer
    scheduler: LRScheduler
    loss: BatchLosses = field(default_factory=BatchLosses)

    def train(self, epochs: int, **options: Any) -> History:
        """The listing's loop; beside what it prints, the model is looked at on the same data after each epoch."""
        return fit(
            self.model,
            self.loader,
            epochs=epochs,
            optimizer=self.optimizer,
            loss=self.loss,
            validation=(self.x, self.y),
            metrics={"accuracy": accuracy},
            scheduler=self.scheduler,
            max_norm=self.setting.max_norm,
            **options,
        )


def prepare_listing(setting: Setting) -> Prepared:
    """Make the data, the model and what trains it, in the listing's order."""
    x, y = create_sample_data(setting.seed, setting.samples, setting.scale, setting.informative)
    loader = DataLoader(TensorDataset(x, y), batch_size=setting.batch_size, shuffle=True)
    model = MLP([784, 256, 128, CLASSES], nn.ReLU, dropout=setting.p)
    optimizer = setting.optimizer(model.parameters(), lr=setting.lr)
    return Prepared(setting, x, y, loader, model, optimizer, setting.scheduler(optimizer))


@dataclass(frozen=True)
class Run:
    """A finished run.

    Attributes:
        x: the samples, (n, 784).
        y: their labels, (n,).
        model: as it is in the end, in evaluation mode.
        history: what `fit` saw.
        batch_losses: (epochs, batches), before each update.
    """

    x: Tensor
    y: Tensor
    model: nn.Module
    history: History
    batch_losses: Tensor

    @property
    def printed_losses(self) -> Tensor:
        """What the listing prints for a loss after each epoch, (epochs,)."""
        return self.batch_losses.mean(1)

    @property
    def printed_accuracies(self) -> Tensor:
        """What it prints for an accuracy, (epochs,), as shares."""
        return self.history.metrics["accuracy"]

    @property
    def accuracies(self) -> Tensor:
        """Those of the model after each epoch, in evaluation mode, on the samples that it was trained on, (epochs,)."""
        return self.history.validation_metrics["accuracy"]

    def reports(self, every: int = 50) -> list[list[str]]:
        """Each epoch's reports from within: after every batch whose number, from 0, is a multiple of ``every``."""
        return [
            [f"Epoch {epoch}, batch {batch}: {loss:.4f}" for batch, loss in enumerate(losses) if batch % every == 0]
            for epoch, losses in enumerate(self.batch_losses.tolist(), 1)
        ]

    @property
    def log(self) -> list[str]:
        """All lines that it prints."""
        epochs = zip(self.reports(), self.printed_losses, self.printed_accuracies, strict=True)
        return [
            line
            for epoch, (reports, loss, share) in enumerate(epochs, 1)
            for line in (*reports, f"Epoch {epoch}: loss {loss:.4f}, accuracy {100 * share:.2f} %")
        ]


def run_listing(setting: Setting) -> Run:
    """Run it from the first line to the last."""
    with seeded(setting.before):
        made = prepare_listing(setting)
        history = made.train(setting.epochs)
    losses = torch.tensor(made.loss.values, dtype=torch.float64).view(setting.epochs, -1)
    return Run(made.x, made.y, made.model.eval(), history, losses)


@pytest.fixture(scope="session")
def sample_data() -> Callable[..., tuple[Tensor, Tensor]]:
    """The document's create_sample_data."""
    return create_sample_data


@pytest.fixture(scope="session")
def prepared() -> Callable[..., Prepared]:
    """``prepared(**settings)``: the listing up to its loop. Call it where the global generator is seeded."""
    return lambda **settings: prepare_listing(Setting(**settings))


@pytest.fixture(scope="session")
def listing(shared: Shared) -> Callable[..., Run]:
    """``listing(**settings)``: the whole run, once a session."""
    return lambda **settings: shared(run_listing, Setting(**settings))


@pytest.fixture(scope="session")
def listings(shared: Shared, listing: Callable[..., Run]) -> Callable[..., list[Run]]:
    """``listings(count, **settings)``: runs with data, weights and orders of their own."""
    return lambda count, **settings: [listing(seed=seed, **settings) for seed in shared.seeds(count).tolist()]
