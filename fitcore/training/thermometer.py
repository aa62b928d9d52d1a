"""The eleven thermometer readings fitted by a straight line, with the update written three ways.

Each fit starts at w = 1, b = 0, works in float32 and ends early where rounding has frozen the parameters.
"""

from collections.abc import Callable

import torch
from torch import Tensor

from fitcore.data.celsius import thermometer_readings
from fitcore.gradients.manual import averaged_chain_rule, mse
from fitcore.models.linear import linear
from fitcore.training.descent import Descent
from fitcore.training.loop import train
from fitcore.training.steps import Step, autograd_step, manual_step, optimizer_step


def fit_by_hand(
    epochs: int,
    scale: float = 0.1,
    lr: float = 1e-2,
    rule: Callable[[Tensor, Tensor, Tensor], tuple[Tensor, Tensor]] = averaged_chain_rule,
) -> Descent:
    """Fit w (scale · t_u) + b to t_c, with the gradient that ``rule(params, x, y)`` returns beside the loss."""
    t_u, t_c = thermometer_readings()
    x = scale * t_u
    return _fit(manual_step(lambda params: rule(params, x, t_c), torch.tensor([1.0, 0.0]), lr), epochs)


def fit_with_autograd(scale: float = 0.1, lr: float = 1e-2, epochs: int = 10_000) -> Descent:
    """Fit w (scale · t_u) + b to t_c, with the gradient of autograd and the update in place."""
    params = torch.tensor([1.0, 0.0], requires_grad=True)
    return _fit(autograd_step(thermometer_loss(scale), params, lr), epochs)


def fit_with_sgd(scale: float = 0.1, lr: float = 1e-2, epochs: int = 10_000) -> Descent:
    """Fit w (scale · t_u) + b to t_c with ``torch.optim.SGD``."""
    params = torch.tensor([1.0, 0.0], requires_grad=True)
    return _fit(optimizer_step(thermometer_loss(scale), params, torch.optim.SGD([params], lr=lr)), epochs)


def thermometer_loss(scale: float = 1.0, dtype: torch.dtype = torch.float32) -> Callable[[Tensor], Tensor]:
    """L(w, b) = mean((w (scale · t_u) + b - t_c)²) as a function of params (2,)."""
    t_u, t_c = thermometer_readings(dtype)
    x = scale * t_u

    def loss(params: Tensor) -> Tensor:
        return mse(linear(x, *params), t_c)

    return loss


def _fit(step: Step, epochs: int) -> Descent:
    return train(step, epochs, stop_when_fixed=True)
