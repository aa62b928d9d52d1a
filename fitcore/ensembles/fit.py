"""Training of ensembles."""

from collections.abc import Callable
from copy import deepcopy
from dataclasses import dataclass, fields, replace
from threading import Lock
from typing import Any, Literal

import torch
from torch import Tensor
from torch.optim import Optimizer
from torch.optim.lr_scheduler import LRScheduler, ReduceLROnPlateau

from fitcore.ensembles.batches import Batches
from fitcore.ensembles.chunks import chunks, spread
from fitcore.ensembles.coupling import refuse_coupled_optimizer, refuse_unscalable_optimizer
from fitcore.ensembles.cuda_graph import CapturedStep, Step, is_capturable
from fitcore.ensembles.ensemble import Ensemble
from fitcore.ensembles.gradients import Data, Loss, gradients_of
from fitcore.ensembles.losses import mean_squared_errors
from fitcore.ensembles.per_copy import Plateaus, Rates, clip_gradient_norms
from fitcore.seeding import seeded
from fitcore.training.early_stopping import EarlyStopping

MakeOptimizer = Callable[[list[Tensor]], Optimizer]
MakeScheduler = Callable[[Optimizer], LRScheduler | ReduceLROnPlateau]


@dataclass(frozen=True)
class LearningCurves:
    """What `fit` saw, for each of S copies and E epochs.

    Attributes:
        losses: (E, S), mean over each epoch's batches of the loss before the update, without penalties; NaN in epochs
            that a copy, having stopped, did not train.
        validation_losses: (E, S), after each epoch, in evaluation; NaN where not taken. None without validation data.
        epochs: (S,), the number of epochs that each copy trained.
        best_epochs: (S,), the number of epochs after which its parameters were what they are left at: where early
            stopping is used that of the lowest validation loss, else ``epochs``.
        diverged: (S,), whether its last loss or a parameter is infinite or NaN.
    """

    losses: Tensor
    validation_losses: Tensor | None
    epochs: Tensor
    best_epochs: Tensor
    diverged: Tensor


@dataclass(frozen=True)
class _Recipe:
    """What `fit` was told, but for the data. Penalties are (S,)."""

    epochs: int
    optimizer: MakeOptimizer
    loss: Loss
    batch_size: int | None
    scheduler: MakeScheduler | None
    schedule_every: str
    l1: Tensor
    l2: Tensor
    max_norm: float | None
    early_stopping: EarlyStopping | None
    validate_every: int
    draws: bool

    def of(self, copies: slice) -> "_Recipe":
        return replace(self, l1=self.l1[copies], l2=self.l2[copies])


def fit(
    ensemble: Ensemble,
    training: Data,
    *,
    epochs: int,
    optimizer: MakeOptimizer,
    loss: Loss = mean_squared_errors,
    validation: Data | None = None,
    batch_size: int | None = None,
    scheduler: MakeScheduler | None = None,
    schedule_every: Literal["epoch", "batch"] = "epoch",
    l1: float | Tensor = 0.0,
    l2: float | Tensor = 0.0,
    max_norm: float | None = None,
    early_stopping: EarlyStopping | None = None,
    validate_every: int = 1,
    chunk_size: int | None = None,
) -> LearningCurves:
    """Train every copy in place exactly as a loop over the copies would, one after the other.

        curves = fit(ensemble, (x, y), epochs=500, optimizer=partial(torch.optim.Adam, lr=0.01))

    Copies share no state: one that diverges, stops or is clipped leaves the others as they are. Dropout masks and noise
    are drawn for each copy, though not those that a loop would draw. Chunks of copies run on the workers of
    ``joblib.parallel_config``, by default one after the other: the results don't depend on it.
    Where modules draw from torch's global generator, which threads share, chunks on threads take turns.

    Args:
        ensemble: S copies.
        training: inputs and targets of each copy, (S, n, ...); for the same data in all, `Ensemble.share` them.
        epochs: number of passes over the data.
        optimizer: makes the optimizer from a list of tensors, as ``partial(torch.optim.SGD, lr=0.1)`` does. It must
            work elementwise, for it moves many copies at once.
        loss: losses (S,) from outputs and targets (S, n, ...): `mean_squared_errors`, `cross_entropies` or your own.
        validation: held-out inputs and targets of each copy, (S, m, ...).
        batch_size: number of samples a step, drawn for each copy in its own order (see `Batches`); default all.
        scheduler: makes the scheduler from an optimizer. With ``ReduceLROnPlateau`` each copy has its own, which sees
            its validation loss, or without ``validation`` its training loss.
        schedule_every: whether the scheduler steps after each epoch or after each batch.
        l1: weight of Σ|w| in what is minimised, over all parameters of a copy; one number or one for each copy, (S,).
        l2: weight of Σw², likewise. The ``weight_decay`` of torch's SGD is twice that.
        max_norm: what each copy's gradient norm is clipped to.
        early_stopping: when each copy stops, by its validation loss; the parameters of its best epoch are kept.
        validate_every: number of epochs between two validations.
        chunk_size: number of copies trained at once; by default so many as fit the cache. 1 also trains modules
            that ``torch.vmap`` can't.

    Raises:
        ValueError: settings or shapes that don't fit together; an optimizer that couples the copies.
    """
    if epochs < 1 or validate_every < 1 or (batch_size is not None and batch_size < 1):
        raise ValueError(
            f"epochs, validate_every and batch_size must be at least 1, got {epochs}, {validate_every} and {batch_size}"
        )
    if schedule_every not in ("epoch", "batch"):
        raise ValueError(f"schedule_every must be 'epoch' or 'batch', got {schedule_every!r}")
    if max_norm is not None and not max_norm > 0:
        raise ValueError(f"max_norm must be positive, got {max_norm}")
    _check_data(ensemble, training, loss, "training")
    if validation is not None:
        _check_data(ensemble, validation, loss, "validation")
    if validation is None and early_stopping is not None:
        raise ValueError("early_stopping needs validation data")
    refuse_coupled_optimizer(optimizer, ensemble.flat.device)
    penalty_1, penalty_2 = (_one_a_copy(ensemble, weight, name) for weight, name in ((l1, "l1"), (l2, "l2")))
    recipe = _Recipe(
        epochs=epochs,
        optimizer=optimizer,
        loss=loss,
        batch_size=batch_size,
        scheduler=scheduler,
        schedule_every=schedule_every,
        l1=penalty_1,
        l2=penalty_2,
        max_norm=max_norm,
        early_stopping=early_stopping,
        validate_every=validate_every,
        draws=_draws(ensemble, training[0]),
    )
    n = training[0].shape[1]
    slices = chunks(ensemble, training[0], min(batch_size or n, n), chunk_size)
    parts = spread(
        _trained,
        (
            (ensemble[copies], _of(training, copies), validation and _of(validation, copies), recipe.of(copies))
            for copies in slices
        ),
    )
    for copies, (part, _) in zip(slices, parts, strict=True):
        ensemble[copies] = part
    return _side_by_side([curves for _, curves in parts])


_GLOBAL_GENERATOR = Lock()
"""Held by a chunk that draws from torch's global generator: on threads such chunks take turns."""


class _Run:
    """The training of one chunk."""

    def __init__(self, ensemble: Ensemble, training: Data, validation: Data | None, recipe: _Recipe) -> None:
        self.ensemble, self.recipe = ensemble, recipe
        self.gradients = gradients_of(ensemble, recipe.loss, training[0])
        self.batches = Batches(training, ensemble.seeds, recipe.batch_size, self.gradients.arrange)
        self.validation = self.gradients.arrange(*validation) if validation is not None else None
        self.optimizer = recipe.optimizer([ensemble.flat])
        self.scheduler = recipe.scheduler(self.optimizer) if recipe.scheduler else None
        self.plateaus = None
        if isinstance(self.scheduler, ReduceLROnPlateau):
            refuse_unscalable_optimizer(self.optimizer)
            if recipe.schedule_every == "batch":
                raise ValueError("ReduceLROnPlateau sees a loss after each epoch: schedule_every must be 'epoch'")
            self.plateaus, self.scheduler = Plateaus(self.scheduler, len(ensemble)), None
        self.stopping = deepcopy(recipe.early_stopping)
        self.rates = Rates(ensemble)
        self.l1 = ensemble.per_parameter(recipe.l1) if recipe.l1.any() else None
        self.twice_l2 = ensemble.per_parameter(2 * recipe.l2) if recipe.l2.any() else None
        # A graph repeats the very same step: no rate may change, and masks drawn by hand would not be drawn anew.
        changing = (self.scheduler, self.plateaus, self.stopping, self.gradients.draws_alone or None)
        self.static = all(part is None for part in changing) and is_capturable(self.optimizer)

    def step(self, inputs: Tensor, targets: Tensor) -> Tensor:
        """Update every copy once, and return the losses before, (S,)."""
        losses = self.gradients(inputs, targets)
        with torch.no_grad():
            flat, gradient = self.ensemble.flat, self.ensemble.flat.grad
            assert gradient is not None
            if self.l1 is not None:
                gradient.addcmul_(self.l1, flat.sign())
            if self.twice_l2 is not None:
                gradient.addcmul_(self.twice_l2, flat)
            if self.recipe.max_norm is not None:
                clip_gradient_norms(self.ensemble, self.recipe.max_norm)
        self.rates.step(self.optimizer)
        return losses

    def epoch(self, step: Step) -> Tensor:
        """Train on every batch once, and return the mean losses, (S,)."""
        losses = []
        for inputs, targets, share in self.batches.epoch():
            losses.append(step(inputs, targets) if share == 1 else step(inputs, targets) * share)
            if self.scheduler is not None and self.recipe.schedule_every == "batch":
                self.scheduler.step()
        if self.scheduler is not None and self.recipe.schedule_every == "epoch":
            self.scheduler.step()
        return losses[0] if len(losses) == 1 else torch.stack(losses).sum(0)

    def curves(self) -> LearningCurves:
        """Train to the end."""
        flat, copies, planned = self.ensemble.flat.detach(), len(self.ensemble), self.recipe.epochs
        losses = flat.new_full((planned, copies), torch.nan)
        validation_losses = losses.clone()
        epochs = torch.full((copies,), planned, device=flat.device)
        best, best_epochs = self.ensemble[:] if self.stopping else self.ensemble, torch.zeros_like(epochs)
        step = CapturedStep(self.step) if self.static else self.step
        for epoch in range(planned):
            losses[epoch] = self.epoch(step)
            validate = (epoch + 1) % self.recipe.validate_every == 0
            if self.validation is not None and validate:
                validation_losses[epoch] = self.gradients.losses(*self.validation)
            watched = losses[epoch] if self.validation is None else validation_losses[epoch]
            if self.plateaus is not None and validate:
                self.rates.set(self.plateaus.step(watched))
            if self.stopping is not None and validate:
                stopped_before = self.stopping.stopped
                stopped = self.stopping.update(watched)
                best.take(self.ensemble, self.stopping.improved)
                best_epochs[self.stopping.improved] = epoch + 1
                epochs[stopped & ~stopped_before] = epoch + 1
                if stopped.all():
                    break
        never_trained = torch.arange(planned, device=flat.device)[:, None] >= epochs
        if self.stopping is not None:
            self.ensemble[:] = best
        last = losses.gather(0, epochs[None] - 1)[0]
        diverged = ~(last.isfinite() & self.ensemble.rows(flat).isfinite().all(1))
        return LearningCurves(
            losses.masked_fill(never_trained, torch.nan),
            None if self.validation is None else validation_losses.masked_fill(never_trained, torch.nan),
            epochs,
            epochs if self.stopping is None else best_epochs,
            diverged,
        )


def _trained(
    ensemble: Ensemble, training: Data, validation: Data | None, recipe: _Recipe
) -> tuple[Ensemble, LearningCurves]:
    run = _Run(ensemble, training, validation, recipe)
    if run.gradients.draws_alone or not recipe.draws:
        return ensemble, run.curves()
    with _GLOBAL_GENERATOR, seeded(ensemble.seeds[0]):
        return ensemble, run.curves()


def _check_data(ensemble: Ensemble, data: Data, loss: Loss, name: str) -> None:
    """Raise ValueError unless ``data`` are (S, n, ...) each and ``loss`` makes one number a copy of them."""
    inputs, targets = data
    if min(inputs.ndim, targets.ndim) < 2 or not len(inputs) == len(targets) == len(ensemble):
        raise ValueError(
            f"{name} inputs and targets must have a first dimension of the {len(ensemble)} copies and a second of the "
            f"samples, got {tuple(inputs.shape)} and {tuple(targets.shape)}; `Ensemble.share` gives all copies the same"
        )
    if inputs.shape[1] != targets.shape[1]:
        raise ValueError(f"{name} inputs and targets must be as many, got {inputs.shape[1]} and {targets.shape[1]}")
    with torch.no_grad():
        losses = loss(ensemble[:1].eval()(inputs[:1, :2]), targets[:1, :2])
    if losses.shape != (1,):
        raise ValueError(f"loss must return one number a copy, (S,), got {tuple(losses.shape)} for one copy")


def _one_a_copy(ensemble: Ensemble, weight: float | Tensor, name: str) -> Tensor:
    """``weight`` as (S,)."""
    weights = torch.as_tensor(weight, dtype=ensemble.flat.dtype, device=ensemble.flat.device)
    if weights.shape not in ((), (len(ensemble),)):
        raise ValueError(
            f"{name} must be one number or one for each of the {len(ensemble)} copies, got shape {tuple(weights.shape)}"
        )
    return weights.expand(len(ensemble))


def _draws(ensemble: Ensemble, inputs: Tensor) -> bool:
    """Whether training draws random numbers: not every layer that does can be told by its type."""
    on_gpu = inputs.is_cuda
    state = torch.cuda.get_rng_state if on_gpu else torch.get_rng_state
    with torch.random.fork_rng([inputs.device] if on_gpu else []), torch.no_grad():
        before = state()
        ensemble[:1].train()(inputs[:1, :2])
        return not torch.equal(before, state())


def _of(data: Data, copies: slice) -> Data:
    """The data of some copies; unless all share them, in their own memory, so that a process is sent no others."""
    inputs, targets = (values[copies] if values.stride(0) == 0 else values[copies].clone() for values in data)
    return inputs, targets


def _side_by_side(parts: list[LearningCurves]) -> LearningCurves:
    """The curves of all chunks: the copies are the last dimension of everything."""

    def joined(name: str) -> Any:
        columns = [getattr(part, name) for part in parts]
        return None if columns[0] is None else torch.cat(columns, dim=-1)

    return LearningCurves(**{field.name: joined(field.name) for field in fields(LearningCurves)})
