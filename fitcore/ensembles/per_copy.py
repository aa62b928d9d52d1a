"""What an optimizer or a scheduler would do to all copies together, done to each by itself."""

import torch
from torch import Tensor
from torch.optim import SGD
from torch.optim.lr_scheduler import ReduceLROnPlateau

from fitcore.ensembles.ensemble import Ensemble


def gradient_norms(ensemble: Ensemble) -> Tensor:
    """Euclidean norm of every copy's gradient, (S,)."""
    stacks = ensemble.stacks(ensemble.flat.grad).values()
    return torch.stack([stack.flatten(1).square().sum(1) for stack in stacks]).sum(0).sqrt()


def clip_gradient_norms(ensemble: Ensemble, max_norm: float) -> None:
    """Scale the gradient of every copy whose norm exceeds ``max_norm`` down to it.

    As ``torch.nn.utils.clip_grad_norm_`` does for one module.
    """
    scales = (max_norm / (gradient_norms(ensemble) + 1e-6)).clamp(max=1.0)
    ensemble.flat.grad.mul_(ensemble.per_parameter(scales))  # type: ignore[union-attr]


class Rates:
    """Moves every copy at its own multiple of the optimizer's learning rate.

    An optimizer's step is proportional to its rate, so the step of a copy is scaled after it was taken.
    """

    def __init__(self, ensemble: Ensemble) -> None:
        """Begin with the optimizer's own rate for every copy."""
        self._ensemble = ensemble
        self._multiples: Tensor | None = None

    def set(self, multiples: Tensor) -> None:
        """Use these multiples, (S,), from now on."""
        self._multiples = None if (multiples == 1).all() else self._ensemble.per_parameter(multiples)

    @torch.no_grad()
    def step(self, optimizer: torch.optim.Optimizer) -> None:
        """Let ``optimizer`` make its step, and scale it."""
        if self._multiples is None:
            optimizer.step()
            return
        flat = self._ensemble.flat
        before = flat.clone()
        optimizer.step()
        flat.copy_(torch.lerp(before, flat, self._multiples))


class Plateaus:
    """One ``ReduceLROnPlateau`` for each copy, as it would be alone."""

    def __init__(self, like: ReduceLROnPlateau, copies: int) -> None:
        """Make copies of ``like``, which has seen nothing yet."""
        self._start = like.optimizer.param_groups[0]["lr"]
        self._schedulers = [_with_optimizer_of_its_own(like, self._start) for _ in range(copies)]

    def step(self, losses: Tensor) -> Tensor:
        """Show every scheduler its copy's loss, (S,), and return the learning rates as multiples of the first, (S,)."""
        for scheduler, loss in zip(self._schedulers, losses.tolist(), strict=True):
            scheduler.step(loss)
        rates = [scheduler.optimizer.param_groups[0]["lr"] for scheduler in self._schedulers]
        return torch.tensor(rates, dtype=losses.dtype, device=losses.device) / self._start


def _with_optimizer_of_its_own(like: ReduceLROnPlateau, lr: float) -> ReduceLROnPlateau:
    alone = ReduceLROnPlateau(SGD([torch.zeros(1)], lr=lr))
    settings = {name: value for name, value in like.state_dict().items() if name != "_last_lr"}
    alone.load_state_dict(settings)
    return alone
