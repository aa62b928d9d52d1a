"""Regression with every copy of an ensemble at once, and the curves that show fitting and overfitting."""

from dataclasses import dataclass

import torch
from torch import Tensor

from fitcore.ensembles.ensemble import Ensemble, mean_squared_errors
from fitcore.training import optimizer_step


@dataclass(frozen=True)
class LearningCurves:
    """Mean squared errors of S copies after ``epochs`` (T,) updates, each (T, S), and the ensemble as it ended."""

    epochs: Tensor
    training: Tensor
    validation: Tensor
    ensemble: Ensemble


def fit_regression(
    ensemble: Ensemble,
    training: tuple[Tensor, Tensor],
    validation: tuple[Tensor, Tensor],
    *,
    epochs: int,
    lr: float,
    penalty: float | Tensor = 0.0,
    input_noise: float | Tensor = 0.0,
    every: int = 10,
) -> LearningCurves:
    """Minimise mean((f(x + input_noise · ε) - y)²) + penalty · ‖w‖² over each copy's parameters w, full batch, by Adam.

    The input noise ε is standard normal and fresh in every epoch (Bishop, "Training with noise is equivalent to
    Tikhonov regularization", 1995). The curves are those of the plain error on clean inputs.

    Args:
        ensemble: S copies; their parameters are trained in place.
        training: inputs and targets of each copy, (S, n, ...).
        validation: held-out inputs and targets of each copy, (S, m, ...).
        epochs: number of updates, a multiple of ``every``.
        lr: Adam's learning rate.
        penalty: weight of the squared norm of all parameters, one number or one a copy, (S,).
        input_noise: standard deviation of the noise added to the training inputs, likewise.
        every: number of updates between two points of the curves, whose first is the untrained ensemble.

    Raises:
        ValueError: ``epochs`` is no positive multiple of ``every``.

    """
    if epochs < 1 or epochs % every:
        raise ValueError(f"epochs must be a positive multiple of every={every}, got {epochs}")
    inputs, targets = training
    scale = torch.as_tensor(input_noise).reshape(-1, *[1] * (inputs.ndim - 1))

    def objectives(params: Tensor) -> Tensor:
        noisy = inputs + scale * torch.randn_like(inputs)
        return mean_squared_errors(ensemble(noisy, params), targets) + penalty * params.square().sum(1)

    @torch.no_grad()
    def errors() -> tuple[Tensor, Tensor]:
        held_out, held_out_targets = validation
        return (
            mean_squared_errors(ensemble(inputs), targets),
            mean_squared_errors(ensemble(held_out), held_out_targets),
        )

    step = optimizer_step(objectives, ensemble.parameters, torch.optim.Adam([ensemble.parameters], lr=lr))
    points = [errors()]
    for _ in range(epochs // every):
        for _ in range(every):
            step()
        points.append(errors())
    training_errors, validation_errors = map(torch.stack, zip(*points, strict=True))
    return LearningCurves(torch.arange(0, epochs + 1, every), training_errors, validation_errors, ensemble)
