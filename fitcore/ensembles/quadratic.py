"""Exact dynamics of SGD, with momentum, weight decay and schedules, on losses quadratic in the parameters."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Self

import torch
from torch import Tensor

from fitcore.ensembles.momentum import LearningRate, ResidualPolynomials


@dataclass(frozen=True)
class QuadraticDynamics:
    """Full-batch ``torch.optim.SGD`` on a quadratic loss, step by step, without taking the steps.

    With Hessian H = V diag(λ) Vᵀ and minimiser w*, the loss is

        L(w) = L* + ½ (w - w*)ᵀ H (w - w*),

    so an update w ← w - η ∇L(w) multiplies w - w* by I - ηH, and after t updates

        w_t    = w* + V diag(a_t(λ)) Vᵀ (w_0 - w*),    a_t(λ) = (1 - ηλ)ᵗ
        L(w_t) = L* + ½ Σᵢ λᵢ a_t(λᵢ)² cᵢ²,            c = Vᵀ (w_0 - w*).

    Momentum and learning rates that change only put another polynomial a_t in its place (`ResidualPolynomials`).
    Directions with λ = 0 never move. All is float64; leading dimensions (...) are independent problems, which
    broadcast: problems that share their features share their eigenvectors.

    Weight decay: ``weight_decay=d`` adds d·w to the gradient, as the penalty ½d‖w‖² does, so it is l2 = d/2. The curve
    of the error without the penalty is `loss` of the undecayed dynamics along the decayed path, as that of held-out
    samples is `loss` of theirs:

        decayed = QuadraticDynamics.from_regression(features, targets, l2=weight_decay / 2)
        path = decayed.parameters(start, lr, range(1001), momentum=0.9)
        held_out = QuadraticDynamics.from_regression(new_features, new_targets).loss(path)

    Accuracy: the singular values of X are right to 1e-16 of the largest, hence λ to about 1e-16 √(λ λ_max). Against
    fifty digits, polynomials of degree 10 on [-5, 5] keep ten digits of loss and parameters even in raw powers, whose
    λ_max is 1e13 and whose condition number 1e14. There only lr < 2e-13 is stable, under which most directions
    hardly move; with lr = 0.01 every update multiplies the loss by some 1e22, until it leaves float64 at the 14th.
    Where c is zero but for rounding, a diverging run is one of rounding errors, here as step by step.

    Attributes:
        minimiser: w*, the one of least norm where several minimise the loss, shape (..., p).
        minimum: L*, shape (...).
        eigenvalues: λ in descending order, exact zeros beyond the rank, shape (..., p).
        eigenvectors: V, one eigenvector a column, shape (..., p, p).

    Source: G. Goh, "Why Momentum Really Works", Distill 2017.
    """

    minimiser: Tensor
    minimum: Tensor
    eigenvalues: Tensor
    eigenvectors: Tensor

    @classmethod
    def from_regression(cls, features: Tensor, targets: Tensor, l2: float | Tensor = 0.0) -> Self:
        """Linear regression, L(w) = 1/n ‖Xw - y‖² + l2 ‖w‖².

        Args:
            features: X, shape (..., n, p), or (n, p) where all problems share it; a bias is a column of ones.
            targets: y, shape (..., n).
            l2: weight of the squared norm of all parameters, a number or shape (...).

        Raises:
            ValueError: the shapes disagree, or l2 is negative.
        """
        if features.ndim < 2 or features.shape[:-1] not in (targets.shape, targets.shape[-1:]):
            raise ValueError(
                "features must have shape (..., n, p) or (n, p) and targets (..., n), "
                f"got {tuple(features.shape)} and {tuple(targets.shape)}"
            )
        penalty = torch.as_tensor(l2, dtype=torch.float64, device=features.device)[..., None]
        if (penalty < 0).any():
            raise ValueError(f"l2 must not be negative, got {l2}")
        n, p = features.shape[-2:]

        basis, triangle = torch.linalg.qr(features.double())
        left, singular, right = torch.linalg.svd(triangle, full_matrices=True)
        # Singular values of X, not eigenvalues of XᵀX: squaring first would lose half of the digits.
        floor = singular[..., :1] * max(n, p) * torch.finfo(torch.float64).eps
        singular = torch.where(singular > floor, singular, 0.0)
        rows = targets.double()[..., None, :]
        fitted = rows @ basis
        projected = (fitted @ left).squeeze(-2)

        curvature = singular.square() + n * penalty
        inverse = torch.where(curvature > 0, 1 / curvature, 0.0)
        rank = singular.shape[-1]
        minimiser = ((singular * projected * inverse)[..., None, :] @ right[..., :rank, :]).squeeze(-2)
        # What no parameters explain, and what the penalty or a lack of rank keeps from being explained.
        outside = (rows - fitted @ basis.mT).squeeze(-2).square().sum(-1)
        inside = (projected.square() * (1 - singular.square() * inverse)).sum(-1)
        eigenvalues = torch.cat([curvature, (n * penalty).expand(*curvature.shape[:-1], p - rank)], dim=-1)
        return cls(minimiser, (outside + inside) / n, 2 / n * eigenvalues, right.mT)

    @property
    def hessian(self) -> Tensor:
        """H = V diag(λ) Vᵀ, shape (..., p, p)."""
        return (self.eigenvectors * self.eigenvalues[..., None, :]) @ self.eigenvectors.mT

    @property
    def largest_stable_lr(self) -> Tensor:
        """2 / λ_max, shape (...): below it every run converges, above it almost every run diverges."""
        return self.stability_limit()

    def stability_limit(self, momentum: float | Tensor = 0.0, nesterov: bool = False) -> Tensor:
        """The largest stable learning rate with momentum μ in [0, 1), shape (...).

        It is 2(1 + μ) / λ_max, and with Nesterov's step 2(1 + μ) / ((1 + 2μ) λ_max): there a root of the characteristic
        polynomial of M leaves the unit circle at -1.
        """
        mu = torch.as_tensor(momentum, dtype=torch.float64)
        return 2 * (1 + mu) / ((1 + 2 * mu if nesterov else 1) * self.eigenvalues.amax(-1))

    def loss(self, parameters: Tensor) -> Tensor:
        """L(w) of any paths w of shape (..., T, p), such as those of other dynamics; shape (..., T)."""
        coordinates = (parameters - self.minimiser[..., None, :]) @ self.eigenvectors
        return self.minimum[..., None] + 0.5 * (self.eigenvalues[..., None, :] * coordinates.square()).sum(-1)

    def parameters(
        self,
        start: Tensor,
        lr: LearningRate,
        steps: Sequence[int] | Tensor,
        *,
        momentum: float | Tensor = 0.0,
        nesterov: bool = False,
    ) -> Tensor:
        """Parameters w_t after t updates from `start`, for each t in `steps`.

        Args:
            start: w_0, shape (..., p).
            lr: learning rate η, a number or shape (...), or any piecewise constant schedule as its pieces
                [(η, number of updates), ...]: StepLR(step_size=30, gamma=0.1) from η = 1 is [(1, 30), (0.1, 30), ...].
            steps: numbers of updates, shape (T,).
            momentum: μ, a number or shape (...).
            nesterov: as in ``torch.optim.SGD``.

        Returns:
            Shape (..., T, p), inf or NaN where a diverging run has left float64.

        Raises:
            ValueError: no steps, a negative one, or one beyond the end of the schedule.
        """
        factors = ResidualPolynomials(self.eigenvalues, lr, steps, momentum, nesterov).values()
        return self.minimiser[..., None, :] + (factors * self._distance(start)[..., None, :]) @ self.eigenvectors.mT

    def losses(
        self,
        start: Tensor,
        lr: LearningRate,
        steps: Sequence[int] | Tensor,
        *,
        momentum: float | Tensor = 0.0,
        nesterov: bool = False,
    ) -> Tensor:
        """Losses L(w_t) after t updates from `start`, shape (..., T), inf where that leaves float64.

        Arguments and errors are those of `parameters`.
        """
        polynomials = ResidualPolynomials(self.eigenvalues, lr, steps, momentum, nesterov)
        excess = 0.5 * self.eigenvalues * self._distance(start).square()
        return self.minimum[..., None] + polynomials.energies(excess)

    def _distance(self, start: Tensor) -> Tensor:
        """c = Vᵀ (w_0 - w*), shape (..., p)."""
        return ((start - self.minimiser)[..., None, :] @ self.eigenvectors).squeeze(-2)
