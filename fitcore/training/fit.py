"""The training loop of a module."""

from collections.abc import Callable, Iterable, Iterator, Mapping
from copy import deepcopy
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path
from typing import Any, Literal, cast

import torch
from torch import Tensor, nn
from torch.optim import Optimizer
from torch.optim.lr_scheduler import LRScheduler, ReduceLROnPlateau
from tqdm import tqdm

from fitcore.seeding import random_state, set_random_state
from fitcore.training.checkpoint import load_checkpoint, load_weights, save_checkpoint
from fitcore.training.early_stopping import EarlyStopping
from fitcore.training.history import History

Batch = tuple[Tensor, Tensor]
Data = Batch | Iterable[Batch]
Measure = Callable[[Tensor, Tensor], Tensor]


def fit(
    model: nn.Module,
    training: Data,
    *,
    epochs: int,
    optimizer: Optimizer,
    loss: Measure,
    validation: Data | None = None,
    batch_size: int | None = None,
    metrics: Mapping[str, Measure] | None = None,
    scheduler: LRScheduler | ReduceLROnPlateau | None = None,
    schedule_every: Literal["epoch", "batch"] = "epoch",
    accumulate: int = 1,
    max_norm: float | None = None,
    early_stopping: EarlyStopping | None = None,
    checkpoint: Path | str | None = None,
    resume: bool = False,
    progress: bool = False,
) -> History:
    """Train a model in place, as the loop that everybody writes does; it is left in evaluation mode.

        optimizer = torch.optim.Adam(model.parameters(), lr=1e-3)
        history = fit(model, loader, epochs=5, optimizer=optimizer, loss=nn.functional.cross_entropy)

    Each epoch trains on every batch in training mode, then looks at the validation data in evaluation mode. Whatever is
    random draws from the global generators: `fitcore.seeding.seeded` makes a run repeatable.

    Args:
        model: any module; batches are moved to the device of its first parameter.
        training: inputs and targets, (n, ...) each, or batches of such pairs, a ``DataLoader`` say.
        epochs: number of passes over the data, those before a checkpoint included.
        optimizer: holds the parameters of ``model``.
        loss: the mean over a batch, a scalar, from outputs and targets.
        validation: held-out data, likewise.
        batch_size: where ``training`` is a pair of tensors, number of samples a batch, in an order drawn anew in every
            epoch; default all.
        metrics: further means over a batch, by name, from outputs and targets.
        scheduler: of ``optimizer``. ``ReduceLROnPlateau`` sees the validation loss, or without ``validation`` the
            training loss.
        schedule_every: whether the scheduler steps after each epoch or after each update.
        accumulate: number of batches an update, whose gradients are averaged with the weight of their samples: the
            gradient of one large batch, unless layers like BatchNorm couple samples. The last update of an epoch has
            what is left.
        max_norm: what the norm of the gradient is clipped to.
        early_stopping: when to stop, by the validation loss; the model is left as it was in its best epoch.
        checkpoint: file that holds all of the run after each epoch, replaced in one piece.
        resume: go on from the file ``checkpoint`` if there is one, to the bit where the run would have gone. (Worker
            processes that a ``DataLoader`` keeps over epochs have random states of their own, which are not saved.)
        progress: show a progress bar, if the error stream is a terminal.

    Raises:
        ValueError: settings that don't fit together, no batches, or a checkpoint of another model.

    """
    for name, value in (("epochs", epochs), ("accumulate", accumulate), ("batch_size", batch_size)):
        if value is not None and value < 1:
            raise ValueError(f"{name} must be at least 1, got {value}")
    if max_norm is not None and not max_norm > 0:
        raise ValueError(f"max_norm must be positive, got {max_norm}")
    if schedule_every not in ("epoch", "batch"):
        raise ValueError(f"schedule_every must be 'epoch' or 'batch', got {schedule_every!r}")
    if isinstance(scheduler, ReduceLROnPlateau) and schedule_every == "batch":
        raise ValueError("ReduceLROnPlateau sees a loss after each epoch: schedule_every must be 'epoch'")
    if early_stopping is not None and validation is None:
        raise ValueError("early_stopping needs validation data")
    if resume and checkpoint is None:
        raise ValueError("resume needs a checkpoint")
    path = None if checkpoint is None else Path(checkpoint)
    if metrics and "loss" in metrics:
        raise ValueError("metrics must have names other than 'loss'")
    run = _Run(
        model=model,
        training=_batches(training, batch_size),
        validation=None if validation is None else _batches(validation, None),
        optimizer=optimizer,
        measures={"loss": loss, **(metrics or {})},
        scheduler=scheduler,
        schedule_every=schedule_every,
        accumulate=accumulate,
        max_norm=max_norm,
        stopping=deepcopy(early_stopping),
    )
    if path is not None and resume and path.exists():
        run.load_state_dict(load_checkpoint(path))
    with tqdm(total=epochs, initial=len(run.epochs), disable=None if progress else True, unit="epoch") as bar:
        while len(run.epochs) < epochs and not run.stopped:
            run.epoch()
            if path is not None:
                save_checkpoint(path, run.state_dict())
            bar.set_postfix(loss=run.epochs[-1]["training"]["loss"])
            bar.update()
    return run.finish()


@dataclass
class _Run:
    """A run between two epochs."""

    model: nn.Module
    training: Iterable[Batch]
    validation: Iterable[Batch] | None
    optimizer: Optimizer
    measures: Mapping[str, Measure]
    scheduler: LRScheduler | ReduceLROnPlateau | None
    schedule_every: str
    accumulate: int
    max_norm: float | None
    stopping: EarlyStopping | None
    epochs: list[dict[str, Any]] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.device = next((parameter.device for parameter in self.model.parameters()), torch.device("cpu"))
        self.best = deepcopy(self.model.state_dict()) if self.stopping is not None else None
        self.best_epoch = 0

    @property
    def stopped(self) -> bool:
        return self.stopping is not None and bool(self.stopping.stopped)

    def epoch(self) -> None:
        """Train on every batch once, validate, and let the scheduler and early stopping see the result."""
        record: dict[str, Any] = {"learning_rate": self.optimizer.param_groups[0]["lr"], "gradient_norms": []}
        self.model.train()
        means = _Means(self.measures)
        for group in _groups(self.training, self.accumulate):
            norm = self.update(group, means)
            if norm is not None:
                record["gradient_norms"].append(norm)
            if self.scheduler is not None and self.schedule_every == "batch":
                self.scheduler.step()
        record["training"] = means.values()
        record["validation"] = self.validated()
        watched = (record["validation"] or record["training"])["loss"]
        if isinstance(self.scheduler, ReduceLROnPlateau):
            self.scheduler.step(watched)
        elif self.scheduler is not None and self.schedule_every == "epoch":
            self.scheduler.step()
        self.epochs.append(record)
        if self.stopping is not None:
            self.stopping.update(watched)
            if self.stopping.improved:
                self.best, self.best_epoch = deepcopy(self.model.state_dict()), len(self.epochs)

    def update(self, batches: list[Batch], means: "_Means") -> float | None:
        """Make one update from all the batches, and return the norm of the gradient if it is clipped."""
        self.optimizer.zero_grad()
        samples = sum(len(targets) for _, targets in batches)
        for inputs, targets in batches:
            inputs, targets = inputs.to(self.device), targets.to(self.device)  # noqa: PLW2901
            outputs = self.model(inputs)
            loss = means.add(outputs, targets)
            (loss * (len(targets) / samples)).backward()
        norm = None
        if self.max_norm is not None:
            norm = float(nn.utils.clip_grad_norm_(self.model.parameters(), self.max_norm))
        self.optimizer.step()
        return norm

    def validated(self) -> dict[str, float] | None:
        if self.validation is None:
            return None
        self.model.eval()
        means = _Means(self.measures)
        with torch.no_grad():
            for inputs, targets in self.validation:
                means.add(self.model(inputs.to(self.device)), targets.to(self.device))
        return means.values()

    def parts(self) -> dict[str, Any]:
        """Return what has a ``state_dict`` of its own, but for the model."""
        return {
            name: part
            for name, part in (
                ("optimizer", self.optimizer),
                ("scheduler", self.scheduler),
                ("early_stopping", self.stopping),
            )
            if part is not None
        }

    def what(self) -> dict[str, Any]:
        """Return what a checkpoint has to agree in, before anything of it is used."""
        return {
            "optimizer": type(self.optimizer).__name__,
            "scheduler": type(self.scheduler).__name__ if self.scheduler else None,
            "early_stopping": self.stopping is not None,
            "validation": self.validation is not None,
            "metrics": [name for name in self.measures if name != "loss"],
            "generators": len(self.generators()),
            "parameter groups of": [len(group["params"]) for group in self.optimizer.param_groups],
        }

    def state_dict(self) -> dict[str, Any]:
        return {
            "what": self.what(),
            "model": self.model.state_dict(),
            "parts": {name: part.state_dict() for name, part in self.parts().items()},
            "best": (self.best, self.best_epoch),
            "epochs": self.epochs,
            "random_state": random_state(),
            "order": [generator.get_state() for generator in self.generators()],
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        if missing := self.state_dict().keys() - state.keys():
            raise ValueError(f"the file is no checkpoint of fit: it has no {', '.join(sorted(missing))}")
        for name, wanted in self.what().items():
            if state["what"][name] != wanted:
                raise ValueError(f"the checkpoint is of a run with {name} {state['what'][name]}, this one has {wanted}")
        load_weights(self.model, state["model"])
        for name, part in self.parts().items():
            part.load_state_dict(state["parts"][name])
        self.best, self.best_epoch = state["best"]
        self.epochs = state["epochs"]
        set_random_state(state["random_state"])
        for generator, order in zip(self.generators(), state["order"], strict=True):
            generator.set_state(order)

    def generators(self) -> list[torch.Generator]:
        """Return the generators that loaders and their samplers have of their own."""
        owners = [
            getattr(batches, name, None) if name else batches
            for batches in (self.training, self.validation)
            for name in ("", "sampler", "batch_sampler")
        ]
        found = [getattr(owner, "generator", None) for owner in owners]
        return list({id(generator): generator for generator in found if generator is not None}.values())

    def finish(self) -> History:
        """Leave the model as it was in its best epoch, in evaluation mode, and say what was seen."""
        self.model.eval()
        if self.best is not None:
            self.model.load_state_dict(self.best)

        def curve(part: str, name: str) -> Tensor:
            return torch.tensor([record[part][name] for record in self.epochs], dtype=torch.float64)

        names = list(self.measures)[1:]
        held_out = self.validation is not None
        norms = [norm for record in self.epochs for norm in record["gradient_norms"]]
        return History(
            losses=curve("training", "loss"),
            validation_losses=curve("validation", "loss") if held_out else None,
            metrics={name: curve("training", name) for name in names},
            validation_metrics={name: curve("validation", name) for name in names} if held_out else {},
            learning_rates=torch.tensor([record["learning_rate"] for record in self.epochs], dtype=torch.float64),
            gradient_norms=None if self.max_norm is None else torch.tensor(norms, dtype=torch.float64),
            best_epoch=len(self.epochs) if self.stopping is None else self.best_epoch,
        )


class _Means:
    """Means over samples of measures that are taken batch by batch."""

    def __init__(self, measures: Mapping[str, Measure]) -> None:
        self._measures, self._sizes = measures, list[int]()
        self._values: dict[str, list[Tensor]] = {name: [] for name in measures}

    def add(self, outputs: Tensor, targets: Tensor) -> Tensor:
        """Take note of a batch, and return its loss."""
        values = {name: measure(outputs, targets) for name, measure in self._measures.items()}
        self._sizes.append(len(targets))
        for name, value in values.items():
            self._values[name].append(value.detach())
        return values["loss"]

    def values(self) -> dict[str, float]:
        if not self._sizes:
            raise ValueError("data must have at least one batch in every epoch: an iterator is used up by the first")
        return {name: self._mean(values) for name, values in self._values.items()}

    def _mean(self, values: list[Tensor]) -> float:
        of_batches = torch.stack(values).tolist()  # all at once: a GPU needn't be waited for after every batch
        return sum(value * size for value, size in zip(of_batches, self._sizes, strict=True)) / sum(self._sizes)


class _Shuffled:
    """Batches of a pair of tensors, in an order drawn anew each time."""

    def __init__(self, inputs: Tensor, targets: Tensor, size: int) -> None:
        self._inputs, self._targets, self._size = inputs, targets, size

    def __iter__(self) -> Iterator[Batch]:
        for chosen in torch.randperm(len(self._inputs)).split(self._size):
            yield self._inputs[chosen], self._targets[chosen]


def _batches(data: Data, size: int | None) -> Iterable[Batch]:
    if not (isinstance(data, tuple) and isinstance(data[0], Tensor)):
        if size is not None:
            raise ValueError("batch_size is for a pair of tensors; data given as batches have their own")
        return cast(Iterable[Batch], data)
    inputs, targets = cast(Batch, data)
    if len(inputs) != len(targets):
        raise ValueError(f"inputs and targets must be as many, got {len(inputs)} and {len(targets)}")
    return [(inputs, targets)] if size is None else _Shuffled(inputs, targets, size)


def _groups(batches: Iterable[Batch], size: int) -> Iterator[list[Batch]]:
    """``itertools.batched``, which Python 3.11 doesn't have."""
    rest = iter(batches)
    while group := list(islice(rest, size)):
        yield group
