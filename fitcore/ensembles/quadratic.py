"""Exact gradient-descent dynamics of losses quadratic in the parameters."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Self

import torch
from torch import Tensor


@dataclass(frozen=True)
class QuadraticDynamics:
    """Gradient descent on a quadratic loss, step by step, without taking the steps.

    With Hessian H = V diag(λ) Vᵀ and minimiser w*, the loss is

        L(w) = L* + ½ (w - w*)ᵀ H (w - w*),

    so an update w ← w - η ∇L(w) multiplies w - w* by I - ηH, and after t updates

        w_t    = w* + V diag((1 - ηλ)ᵗ) Vᵀ (w_0 - w*)
        L(w_t) = L* + ½ Σᵢ λᵢ (1 - ηλᵢ)²ᵗ cᵢ²,    c = Vᵀ (w_0 - w*).

    Directions with λ = 0 never move. All is float64; leading dimensions (...) are independent problems.

    Attributes:
        minimiser: w*, the one of least norm where several minimise the loss, shape (..., p).
        minimum: L*, shape (...).
        eigenvalues: λ in descending order, exact zeros beyond the rank, shape (..., p).
        eigenvectors: V, one eigenvector a column, shape (..., p, p).

    Source: G. Goh, "Why Momentum Really Works", Distill 2017, section "First Steps: Gradient Descent".
    """

    minimiser: Tensor
    minimum: Tensor
    eigenvalues: Tensor
    eigenvectors: Tensor

    @classmethod
    def from_regression(cls, features: Tensor, targets: Tensor, l2: float = 0.0) -> Self:
        """Linear regression, L(w) = 1/n ‖Xw - y‖² + l2 ‖w‖².

        Args:
            features: X, shape (..., n, p); a bias is a column of ones.
            targets: y, shape (..., n).
            l2: weight of the squared norm of all parameters.

        Raises:
            ValueError: the shapes disagree, or l2 is negative.
        """
        if features.ndim < 2 or features.shape[:-1] != targets.shape:
            raise ValueError(
                "features must have shape (..., n, p) and targets (..., n), "
                f"got {tuple(features.shape)} and {tuple(targets.shape)}"
            )
        if l2 < 0:
            raise ValueError(f"l2 must not be negative, got {l2}")
        n, p = features.shape[-2:]

        # An orthogonal change of basis of the samples keeps every residual norm and at most p + 1 rows.
        samples = torch.cat([features, targets[..., None]], dim=-1).double()
        triangle = torch.linalg.qr(samples, mode="r").R
        left, singular, right = torch.linalg.svd(triangle[..., :p], full_matrices=True)
        # Singular values of X, not eigenvalues of XᵀX: squaring first would lose half of the digits.
        floor = singular[..., :1] * max(n, p) * torch.finfo(torch.float64).eps
        singular = torch.where(singular > floor, singular, 0.0)
        rank = singular.shape[-1]
        projected = (left[..., :rank].mT @ triangle[..., p:]).squeeze(-1)

        curvature = singular.square() + n * l2
        spectral = torch.where(curvature > 0, singular * projected / curvature, 0.0)
        minimiser = (right[..., :rank, :].mT @ spectral[..., None]).squeeze(-1)
        residuals = (triangle[..., :p] @ minimiser[..., None] - triangle[..., p:]).squeeze(-1)
        minimum = residuals.square().sum(-1) / n + l2 * minimiser.square().sum(-1)
        eigenvalues = minimiser.new_full(minimiser.shape, 2 * l2)
        eigenvalues[..., :rank] = 2 / n * curvature
        return cls(minimiser, minimum, eigenvalues, right.mT)

    @property
    def hessian(self) -> Tensor:
        """H = V diag(λ) Vᵀ, shape (..., p, p)."""
        return (self.eigenvectors * self.eigenvalues[..., None, :]) @ self.eigenvectors.mT

    @property
    def largest_stable_lr(self) -> Tensor:
        """2 / λ_max, shape (...): below it every run converges, above it almost every run diverges."""
        return 2 / self.eigenvalues.amax(-1)

    def parameters(self, start: Tensor, lr: float | Tensor, steps: Sequence[int] | Tensor) -> Tensor:
        """Parameters w_t after t updates from `start`, for each t in `steps`.

        Args:
            start: w_0, shape (..., p).
            lr: learning rate η, a number or shape (...).
            steps: numbers of updates, shape (T,).

        Returns:
            Shape (..., T, p). A diverging run overflows to inf or NaN where it leaves float64.
        """
        return self.minimiser[..., None, :] + self._coordinates(start, lr, steps) @ self.eigenvectors.mT

    def losses(self, start: Tensor, lr: float | Tensor, steps: Sequence[int] | Tensor) -> Tensor:
        """Losses L(w_t) after t updates from `start`, shape (..., T); arguments as for `parameters`."""
        coordinates = self._coordinates(start, lr, steps)
        excess = 0.5 * (self.eigenvalues[..., None, :] * coordinates.square()).sum(-1)
        return self.minimum[..., None] + excess

    def _coordinates(self, start: Tensor, lr: float | Tensor, steps: Sequence[int] | Tensor) -> Tensor:
        """Vᵀ (w_t - w*), shape (..., T, p)."""
        distance = (start.double() - self.minimiser)[..., None, :] @ self.eigenvectors
        rates = torch.as_tensor(lr, dtype=torch.float64)[..., None, None]
        exponents = torch.as_tensor(steps, dtype=torch.float64)[:, None]
        return (1 - rates * self.eigenvalues[..., None, :]) ** exponents * distance
