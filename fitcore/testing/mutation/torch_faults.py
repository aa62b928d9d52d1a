"""Functions of torch that don't do what they are known for: would a claim notice?

A fault stands where code looks the function up when it calls it (``torch.nn.functional.dropout``); who imported it by
name before keeps the sound one.
"""

import functools
import pkgutil
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any
from unittest.mock import patch

import torch

_clip_grad_norm_ = torch.nn.utils.clip_grad_norm_
_expand, _view = torch.Tensor.expand, torch.Tensor.view
_dropout, _batch_norm = torch.nn.functional.dropout, torch.nn.functional.batch_norm
_cross_entropy, _mse_loss = torch.nn.functional.cross_entropy, torch.nn.functional.mse_loss
_sgd: Callable[..., None] = torch.optim.SGD.__init__
_adamw: Callable[..., None] = torch.optim.AdamW.__init__
_step = torch.optim.lr_scheduler.LRScheduler.step


@dataclass(frozen=True)
class Fault:
    """A function of torch, broken.

    Attributes:
        where: dotted path of the function.
        before: what it is known for.
        after: what it does instead.
        by: what does that.

    """

    where: str
    before: str
    after: str
    by: Callable[..., Any]

    @property
    def statement(self) -> str:
        """What tests have to reach: a call of the function."""
        return self.where

    def apply(self) -> None:
        """Patch it for the rest of this process."""
        patch(self.where, self.by).start()


def watch(reached: Any) -> None:
    """Let the functions ``add`` themselves to what was reached, for the rest of this process."""
    for where in {fault.where for fault in FAULTS}:
        patch(where, _noting(pkgutil.resolve_name(where), where, reached)).start()


def _noting(function: Callable[..., Any], where: str, reached: Any) -> Callable[..., Any]:
    @functools.wraps(function)
    def noting(*args: Any, **kwargs: Any) -> Any:
        reached.add(where)
        return function(*args, **kwargs)

    return noting


def _nothing(*args: Any, **kwargs: Any) -> None:
    """Do nothing."""


def _itself(self: Any, *args: Any, **kwargs: Any) -> Any:
    return self


def _norm_alone(parameters: Any, max_norm: float, *args: Any, **kwargs: Any) -> Any:
    return _clip_grad_norm_(parameters, float("inf"), *args, **kwargs)


def _recording(self: Any) -> None:
    self.prev = torch.is_grad_enabled()


def _without(setting: str, initialise: Callable[..., None]) -> Callable[..., None]:
    @functools.wraps(initialise)
    def ignorant(self: Any, params: Any, *args: Any, **settings: Any) -> None:
        initialise(self, params, *args, **{**settings, setting: 0.0} if setting in settings else settings)

    return ignorant


def _first_step_alone(self: Any, epoch: int | None = None) -> None:
    if self.last_epoch < 0:
        _step(self, epoch)


def _unscaled(x: Any, p: float = 0.5, training: bool = True, inplace: bool = False) -> Any:
    return _dropout(x, p, training, inplace) * (1 - p if training else 1)


def _dropping_always(x: Any, p: float = 0.5, training: bool = True, inplace: bool = False) -> Any:
    return _dropout(x, p, True, inplace)


def _batch_statistics(x: Any, mean: Any, variance: Any, *settings: Any, **named: Any) -> Any:
    weight, bias, _, *others = settings  # as torch.nn.BatchNorm1d gives them
    return _batch_norm(x, None, None, weight, bias, True, *others, **named)


def _summed(loss: Callable[..., Any]) -> Callable[..., Any]:
    def summed(*args: Any, reduction: str = "mean", **named: Any) -> Any:
        return loss(*args, reduction="sum" if reduction == "mean" else reduction, **named)

    return summed


FAULTS = [
    Fault("torch.nn.utils.clip_grad_norm_", "clips gradients", "returns their norm alone", _norm_alone),
    Fault("torch.nn.utils.clip_grad_value_", "clips gradients", "does nothing", _nothing),
    Fault("torch.no_grad.__enter__", "stops recording", "goes on recording", _recording),
    Fault("torch.Tensor.detach", "leaves the graph", "returns the tensor itself", _itself),
    Fault("torch.Tensor.clone", "copies", "returns the tensor itself", _itself),
    Fault("torch.Tensor.contiguous", "copies if it must", "returns the tensor itself", _itself),
    Fault("torch.Tensor.expand", "shares memory", "copies", lambda self, *a, **k: _expand(self, *a, **k).clone()),
    Fault("torch.Tensor.view", "shares memory", "copies", lambda self, *a, **k: _view(self, *a, **k).clone()),
    Fault("torch.Tensor.retain_grad", "keeps a gradient", "does nothing", _nothing),
    Fault("torch.optim.SGD.step", "moves parameters", "does nothing", _nothing),
    Fault("torch.optim.Adam.step", "moves parameters", "does nothing", _nothing),
    Fault("torch.optim.Optimizer.zero_grad", "clears gradients", "does nothing", _nothing),
    Fault("torch.nn.Module.zero_grad", "clears gradients", "does nothing", _nothing),
    Fault("torch.optim.SGD.__init__", "decays weights", "ignores it", _without("weight_decay", _sgd)),
    Fault("torch.optim.SGD.__init__", "has momentum", "ignores it", _without("momentum", _sgd)),
    Fault("torch.optim.AdamW.__init__", "decays weights", "ignores it", _without("weight_decay", _adamw)),
    Fault("torch.optim.lr_scheduler.LRScheduler.step", "sets the rate", "stays at the first", _first_step_alone),
    Fault("torch.optim.lr_scheduler.ReduceLROnPlateau.step", "lowers the rate", "does nothing", _nothing),
    Fault("torch.nn.functional.dropout", "drops in training", "drops nothing", _itself),
    Fault("torch.nn.functional.dropout", "scales by 1 / (1 - p)", "doesn't scale", _unscaled),
    Fault("torch.nn.functional.dropout", "is off in evaluation", "drops always", _dropping_always),
    Fault("torch.nn.functional.batch_norm", "evaluates with running statistics", "uses the batch's", _batch_statistics),
    Fault("torch.nn.functional.cross_entropy", "averages", "sums", _summed(_cross_entropy)),
    Fault("torch.nn.functional.mse_loss", "averages", "sums", _summed(_mse_loss)),
    Fault("torch.nn.Module.eval", "switches to evaluation", "stays in training", _itself),
    Fault("torch.nn.Module.load_state_dict", "loads parameters", "does nothing", _nothing),
    Fault("torch.manual_seed", "seeds", "does nothing", _nothing),
    Fault("torch.utils.data.RandomSampler.__iter__", "shuffles", "keeps the order", lambda s: iter(range(len(s)))),
]
