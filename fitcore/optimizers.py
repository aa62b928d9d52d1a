"""The update rules of gradient descent, each in the formulas of its paper and step by step equal to ``torch.optim``'s
in float64.

A rule is its settings, and a pure function of what it is given: ``params, state = rule(params, gradient, state)``. All
is elementwise. So one descent may hold many runs side by side, each with a learning rate and momentum of its own:

    rates = torch.logspace(-3, 0, 50)
    paths = descend(Adam(lr=rates), torch.full((50,), 5.0), gradient=lambda x, t: 2 * x, steps=100)
"""

from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass, fields

import torch
from torch import Tensor

State = tuple[Tensor, ...]
Gradient = Callable[[Tensor, int], Tensor]

_FRACTIONS = ("momentum", "alpha", "rho", "betas")


@dataclass(frozen=True, kw_only=True, eq=False)
class UpdateRule(ABC):
    """How a gradient g moves parameters w, given the learning rate η and what is left of the gradients before.

    Attributes:
        lr: η, a number or a tensor that broadcasts with the parameters.
        weight_decay: λ, of which λ w is added to the gradient: that of a penalty ½ λ ‖w‖² (`AdamW` differs).

    Raises:
        ValueError: a setting is negative, or one that is a share (of the average to keep, say) isn't below 1.
    """

    lr: float | Tensor
    weight_decay: float = 0.0

    def __post_init__(self) -> None:
        for field in fields(self):
            value = torch.as_tensor(getattr(self, field.name))
            if field.name in _FRACTIONS and not ((value >= 0) & (value < 1)).all():
                raise ValueError(f"{field.name} must be in [0, 1), got {getattr(self, field.name)}")
            if not (value >= 0).all():
                raise ValueError(f"{field.name} must not be negative, got {getattr(self, field.name)}")

    def __call__(self, params: Tensor, gradient: Tensor, state: State = ()) -> tuple[Tensor, State]:
        """Parameters and state after a step; before the first one the state is empty."""
        return self.update(params, gradient + self.weight_decay * params, state)

    @abstractmethod
    def update(self, w: Tensor, g: Tensor, state: State) -> tuple[Tensor, State]:
        """The formulas, after weight decay."""


@dataclass(frozen=True, kw_only=True, eq=False)
class SGD(UpdateRule):
    """w ← w - η g (H. Robbins, S. Monro, "A Stochastic Approximation Method", 1951)."""

    def update(self, w: Tensor, g: Tensor, state: State) -> tuple[Tensor, State]:
        """Move against the gradient."""
        return w - self.lr * g, ()


@dataclass(frozen=True, kw_only=True, eq=False)
class Momentum(UpdateRule):
    """v ← μ v + g, w ← w - η v: the velocity v is a sum of gradients that fade away.

    Source: B. T. Polyak, "Some methods of speeding up the convergence of iteration methods", 1964.
    """

    momentum: float | Tensor = 0.9

    def update(self, w: Tensor, g: Tensor, state: State) -> tuple[Tensor, State]:
        """Move with the velocity."""
        (v,) = state or _zeros(1, w)
        v = self.momentum * v + g
        return w - self.lr * v, (v,)


@dataclass(frozen=True, kw_only=True, eq=False)
class Nesterov(UpdateRule):
    """v ← μ v + g, w ← w - η (g + μ v), where w is what Nesterov's method looks ahead to.

    Sources: Y. Nesterov, "A method of solving a convex programming problem with convergence rate O(1/k²)", 1983;
    I. Sutskever et al., "On the importance of initialization and momentum in deep learning", 2013.
    """

    momentum: float | Tensor = 0.9

    def update(self, w: Tensor, g: Tensor, state: State) -> tuple[Tensor, State]:
        """Move with the gradient and where the velocity leads next."""
        (v,) = state or _zeros(1, w)
        v = self.momentum * v + g
        return w - self.lr * (g + self.momentum * v), (v,)


@dataclass(frozen=True, kw_only=True, eq=False)
class Adagrad(UpdateRule):
    """s ← s + g², w ← w - η g / (√s + ε).

    Source: J. Duchi, E. Hazan, Y. Singer, "Adaptive Subgradient Methods for Online Learning and Stochastic
    Optimization", 2011.
    """

    eps: float = 1e-10

    def update(self, w: Tensor, g: Tensor, state: State) -> tuple[Tensor, State]:
        """Divide by the root of the sum of all squares."""
        (s,) = state or _zeros(1, w)
        s = s + g.square()
        return w - self.lr * g / (s.sqrt() + self.eps), (s,)


@dataclass(frozen=True, kw_only=True, eq=False)
class RMSprop(UpdateRule):
    """s ← α s + (1 - α) g², v ← μ v + g / (√s + ε), w ← w - η v, as a rule without momentum: μ = 0.

    Source: T. Tieleman, G. Hinton, "Lecture 6.5: rmsprop", Coursera 2012.
    """

    alpha: float = 0.99
    eps: float = 1e-8
    momentum: float | Tensor = 0.0

    def update(self, w: Tensor, g: Tensor, state: State) -> tuple[Tensor, State]:
        """Divide by the root of an average of squares."""
        s, v = state or _zeros(2, w)
        s = self.alpha * s + (1 - self.alpha) * g.square()
        v = self.momentum * v + g / (s.sqrt() + self.eps)
        return w - self.lr * v, (s, v)


@dataclass(frozen=True, kw_only=True, eq=False)
class Adadelta(UpdateRule):
    """s ← ρ s + (1 - ρ) g², Δ = g √(u + ε) / √(s + ε), u ← ρ u + (1 - ρ) Δ², w ← w - η Δ.

    Source: M. D. Zeiler, "ADADELTA: An Adaptive Learning Rate Method", 2012, which has no η: it is 1.
    """

    lr: float | Tensor = 1.0
    rho: float = 0.9
    eps: float = 1e-6

    def update(self, w: Tensor, g: Tensor, state: State) -> tuple[Tensor, State]:
        """Divide by the root of an average of squares, and multiply by that of the moves before."""
        s, u = state or _zeros(2, w)
        s = self.rho * s + (1 - self.rho) * g.square()
        move = g * (u + self.eps).sqrt() / (s + self.eps).sqrt()
        u = self.rho * u + (1 - self.rho) * move.square()
        return w - self.lr * move, (s, u)


@dataclass(frozen=True, kw_only=True, eq=False)
class Adam(UpdateRule):
    """m ← β₁ m + (1 - β₁) g, v ← β₂ v + (1 - β₂) g², w ← w - η m̂ / (√v̂ + ε), where m̂ = m / (1 - β₁ᵗ), likewise v̂.

    Source: D. P. Kingma, J. Ba, "Adam: A Method for Stochastic Optimization", 2015.
    """

    betas: tuple[float, float] = (0.9, 0.999)
    eps: float = 1e-8

    def update(self, w: Tensor, g: Tensor, state: State) -> tuple[Tensor, State]:
        """Divide an average of gradients by the root of one of squares, both unbiased."""
        beta1, beta2 = self.betas
        t, m, v = state or (w.new_zeros(()), *_zeros(2, w))
        t = t + 1
        m = beta1 * m + (1 - beta1) * g
        v = beta2 * v + (1 - beta2) * g.square()
        direction, size = unbiased(m, beta1, t), unbiased(v, beta2, t).sqrt()
        return w - self.lr * direction / (size + self.eps), (t, m, v)


@dataclass(frozen=True, kw_only=True, eq=False)
class AdamW(Adam):
    """w ← w - η λ w, and then Adam's step, whose averages know nothing of the decay.

    Source: I. Loshchilov, F. Hutter, "Decoupled Weight Decay Regularization", 2019.
    """

    weight_decay: float = 0.01

    def __call__(self, params: Tensor, gradient: Tensor, state: State = ()) -> tuple[Tensor, State]:
        """Parameters and state after a step; before the first one the state is empty."""
        return self.update(params - self.lr * self.weight_decay * params, gradient, state)


def unbiased(average: Tensor, beta: float, t: Tensor) -> Tensor:
    """x̂ = x / (1 - βᵗ): an exponential average that started at 0, as a mean with weights that add up to 1."""
    return average / (1 - beta**t)


def descend(rule: UpdateRule, start: Tensor, gradient: Gradient, steps: int) -> Tensor:
    """Parameters after 0, 1, ..., ``steps`` updates by ``rule``, shape (steps + 1, ...).

    ``gradient(params, t)`` is that of update t = 0, 1, ..., shaped like ``start``.
    """
    path: list[Tensor] = [start]
    state: State = ()
    for t in range(steps):
        params, state = rule(path[-1], gradient(path[-1], t), state)
        path.append(params)
    return torch.stack(path)


@torch.no_grad()
def descend_with(
    optimizer: Callable[[list[Tensor]], torch.optim.Optimizer], start: Tensor, gradient: Gradient, steps: int
) -> Tensor:
    """As `descend`, by an optimizer of ``torch.optim``, which ``optimizer`` makes of a list of parameters."""
    params = start.clone().requires_grad_()
    used, path = optimizer([params]), [start]
    for t in range(steps):
        params.grad = gradient(params.detach(), t).clone()
        used.step()
        path.append(params.detach().clone())
    return torch.stack(path)


def _zeros(count: int, like: Tensor) -> State:
    return tuple(torch.zeros_like(like) for _ in range(count))
