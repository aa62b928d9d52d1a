"""What couples the copies of an ensemble, so that they would no longer be what they are alone."""

from collections.abc import Callable

import torch
from torch import Tensor
from torch.optim import ASGD, Optimizer, Rprop


def refuse_coupled_optimizer(
    make_optimizer: Callable[[list[Tensor]], Optimizer], device: torch.device | str = "cpu"
) -> None:
    """Let the optimizer move six numbers on ``device`` at once, and three by three.

    Raises:
        ValueError: it moves them differently, or can't move a vector at all.
    """
    start = torch.tensor([1.0, -2.0, 3.0, 100.0, -200.0, 300.0], dtype=torch.float64, device=device)
    try:
        together = _moved(make_optimizer, start)
        apart = torch.cat([_moved(make_optimizer, half) for half in start.chunk(2)])
    except (TypeError, ValueError, RuntimeError) as error:
        raise ValueError(
            f"optimizer must move one vector of all parameters in step() without a closure, but: {error}"
        ) from error
    if not torch.allclose(together, apart, rtol=1e-9, atol=0.0):
        name = type(make_optimizer([start])).__name__
        raise ValueError(
            f"optimizer must work elementwise, for it moves all copies at once; {name} moves a number differently when "
            "it moves others beside it"
        )


def refuse_unscalable_optimizer(optimizer: Optimizer) -> None:
    """Raise ValueError for an optimizer whose step isn't proportional to its learning rate."""
    if isinstance(optimizer, Rprop | ASGD):
        raise ValueError(
            f"ReduceLROnPlateau gives every copy a learning rate of its own, and {type(optimizer).__name__}'s step "
            "is not proportional to it"
        )


def _moved(make_optimizer: Callable[[list[Tensor]], Optimizer], start: Tensor) -> Tensor:
    vector = start.clone()
    optimizer = make_optimizer([vector])
    for step in range(3):
        vector.grad = (start * (step + 1)).sin() * start
        optimizer.step()
    return vector
