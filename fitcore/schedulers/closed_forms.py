"""The learning rate η(t) of epoch t = 0, 1, 2, ... as a formula, where torch's schedulers go from one to the next.

Each function returns η, which takes the epoch; where the schedule is one of time, fractions of an epoch too.
"""

import math
from bisect import bisect_left, bisect_right
from collections.abc import Callable, Iterable, Sequence
from itertools import pairwise
from typing import Literal

Schedule = Callable[[float], float]


def step_decay(lr: float, step_size: int, gamma: float = 0.1) -> Schedule:
    """η(t) = lr · gamma^⌊t / step_size⌋, as ``StepLR`` has it."""
    return lambda epoch: lr * gamma ** (epoch // step_size)


def multi_step_decay(lr: float, milestones: Sequence[int], gamma: float = 0.1) -> Schedule:
    """η(t) = lr · gamma^(number of milestones ≤ t), as ``MultiStepLR`` has it: a milestone given twice counts twice."""
    reached = sorted(milestones)
    return lambda epoch: lr * gamma ** bisect_right(reached, epoch)


def exponential_decay(lr: float, gamma: float) -> Schedule:
    """η(t) = lr · gammaᵗ, as ``ExponentialLR`` has it."""
    return lambda epoch: lr * gamma**epoch


def cosine_annealing(lr: float, t_max: float, eta_min: float = 0.0) -> Schedule:
    """η(t) = eta_min + ½ (lr - eta_min)(1 + cos(πt / t_max)), as ``CosineAnnealingLR`` has it.

    It has the period 2 · t_max: past t_max it rises again.

    Source: Loshchilov and Hutter, "SGDR: Stochastic Gradient Descent with Warm Restarts", ICLR 2017, equation 5.
    """
    return lambda epoch: _cosine(lr, eta_min, epoch / t_max)


def cosine_warm_restarts(lr: float, t_0: int, t_mult: int = 1, eta_min: float = 0.0) -> Schedule:
    """Cosine annealing in cycles of t_0, t_0 · t_mult, t_0 · t_mult², ... epochs, as ``CosineAnnealingWarmRestarts``.

    Source: as of `cosine_annealing`.
    """

    def rate(epoch: float) -> float:
        length = t_0
        while epoch >= length:
            epoch, length = epoch - length, length * t_mult
        return _cosine(lr, eta_min, epoch / length)

    return rate


def cyclic(
    base_lr: float,
    max_lr: float,
    up: int = 2000,
    *,
    down: int | None = None,
    mode: Literal["triangular", "triangular2", "exp_range"] = "triangular",
    gamma: float = 1.0,
) -> Schedule:
    """Lines from base_lr up to max_lr in ``up`` steps and back in ``down``, again and again, as ``CyclicLR`` has it.

    The height above base_lr is halved with each cycle in mode triangular2, and multiplied by gammaᵗ in exp_range.

    Source: Smith, "Cyclical Learning Rates for Training Neural Networks", WACV 2017.
    """
    back = up if down is None else down

    def rate(step: float) -> float:
        cycle, position = divmod(step, up + back)
        height = position / up if position <= up else (up + back - position) / back
        scale = {"triangular": 1.0, "triangular2": 0.5**cycle, "exp_range": gamma**step}[mode]
        return base_lr + (max_lr - base_lr) * height * scale

    return rate


def one_cycle(
    max_lr: float,
    total_steps: int,
    *,
    pct_start: float = 0.3,
    anneal_strategy: Literal["cos", "linear"] = "cos",
    div_factor: float = 25.0,
    final_div_factor: float = 1e4,
    three_phase: bool = False,
) -> Schedule:
    """From max_lr / div_factor up to max_lr and down to a final_div_factor-th of where it began, as ``OneCycleLR``.

    The peak is step pct_start · total_steps - 1, the end step total_steps - 1. With three phases the way down first
    mirrors the way up. Past the end the last curve goes on: a cosine rises again, a line falls below zero.

    Source: Smith and Topin, "Super-Convergence", 2018.
    """
    first, peak = max_lr / div_factor, pct_start * total_steps - 1
    mirrored = [(2 * peak, first)] if three_phase else []
    knots = [(0.0, first), (peak, max_lr), *mirrored, (total_steps - 1.0, first / final_div_factor)]
    curve = {"cos": _cosine, "linear": _line}[anneal_strategy]

    def rate(step: float) -> float:
        piece = bisect_left([end for end, _ in knots[1:-1]], step)
        (start, high), (end, low) = list(pairwise(knots))[piece]
        return curve(high, low, (step - start) / (end - start))

    return rate


def polynomial_decay(lr: float, total_epochs: float, power: float = 1.0, min_lr: float = 0.0) -> Schedule:
    """η(t) = min_lr + (lr - min_lr)(1 - t / total_epochs)^power, and min_lr ever after.

    With min_lr = 0 it is what ``PolynomialLR`` has.

    Source: Chen et al., "DeepLab", 2017, where power = 0.9 is the "poly" policy.
    """
    return lambda epoch: min_lr + (lr - min_lr) * (1 - min(epoch / total_epochs, 1.0)) ** power


def warmup_cosine(
    lr: float, warmup_epochs: float, total_epochs: float, min_lr: float = 0.0, start_lr: float = 0.0
) -> Schedule:
    """A line from start_lr to lr in warmup_epochs, from there a cosine to min_lr in total_epochs, min_lr ever after.

    Source: Goyal et al., "Accurate, Large Minibatch SGD", 2017, for the warm-up; as of `cosine_annealing`.
    """

    def rate(epoch: float) -> float:
        if epoch < warmup_epochs:
            return _line(start_lr, lr, epoch / warmup_epochs)
        return _cosine(lr, min_lr, min((epoch - warmup_epochs) / (total_epochs - warmup_epochs), 1.0))

    return rate


def reduce_on_plateau(
    lr: float,
    losses: Iterable[float],
    *,
    factor: float = 0.1,
    patience: int = 10,
    threshold: float = 1e-4,
    threshold_mode: Literal["rel", "abs"] = "rel",
    cooldown: int = 0,
    min_lr: float = 0.0,
    eps: float = 1e-8,
) -> list[float]:
    """The rate of each epoch if ``ReduceLROnPlateau`` sees ``losses`` after each, one rate more than losses.

    The rate is multiplied by ``factor`` once more than ``patience`` epochs in a row, not counting ``cooldown`` epochs
    after the last reduction, have been without a loss below best · (1 - threshold), or below best - threshold in mode
    abs. Of a negative best the former is *above* the best. A change by ``eps`` or less is left out.
    """
    rates, best, waited, resting = [lr], math.inf, 0, 0
    for loss in losses:
        enough = best * (1 - threshold) if threshold_mode == "rel" else best - threshold
        best, waited = (loss, 0) if loss < enough else (best, waited + 1)
        if resting > 0:
            resting, waited = resting - 1, 0
        reduced = rates[-1]
        if waited > patience:
            reduced, waited, resting = max(rates[-1] * factor, min_lr), 0, cooldown
        rates.append(reduced if rates[-1] - reduced > eps else rates[-1])
    return rates


def _cosine(start: float, end: float, progress: float) -> float:
    return end + (start - end) * (1 + math.cos(math.pi * progress)) / 2


def _line(start: float, end: float, progress: float) -> float:
    return start + (end - start) * progress
