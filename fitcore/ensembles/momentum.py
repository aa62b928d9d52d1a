"""What SGD with momentum leaves of the distance from a minimum, after any number of updates."""

from collections.abc import Sequence

import torch
from torch import Tensor

LearningRate = float | Tensor | Sequence[tuple[float | Tensor, int]]


class ResidualPolynomials:
    """a_t(λ), the factor by which t updates of SGD multiply the distance along a direction of curvature λ.

    With learning rate η and momentum μ, the distance c and the buffer b of ``torch.optim.SGD`` follow

        b ← μ b + λ c
        c ← c - η b    or with Nesterov's step    c ← c - η (λ c + μ b), where b is the new buffer,

    from b = 0, so that the first buffer is the first gradient, as torch has it. In β = b / λ that is one matrix,

        (c, β) ← M (c, β),    M = [[1 - ηλ, -ηλμ], [1, μ]]    or    M = [[1 - ηλ(1 + μ), -ηλμ²], [1, μ]],

    hence c_t = a_t(λ) c_0, where a_t is the first entry of Mᵗ; without momentum a_t(λ) = (1 - ηλ)ᵗ. Since
    Mᵗ = (Mᴮ)^q Mʳ for t = qB + r, some 2√T "baby steps" Mʳ (1, 0) and "giant steps" (1 0) (Mᴮ)^q give all of
    a_0, ..., a_T. Where a schedule changes the learning rate, c and β carry over.

    Args:
        curvatures: λ, shape (..., p).
        lr: η, a number or shape (...), or a schedule of such: [(η, number of updates), ...].
        steps: numbers of updates t, shape (T,), in any order.
        momentum: μ, a number or shape (...).
        nesterov: whether to take Nesterov's step.

    Raises:
        ValueError: no steps, a negative one, or one beyond the end of the schedule.

    Sources: G. Goh, "Why Momentum Really Works", Distill 2017; B. Fischer, "Polynomial Based Iteration Methods for
    Symmetric Linear Systems", 1996; D. Shanks, "Class number, a theory of factorization, and genera", 1971.
    """

    def __init__(
        self,
        curvatures: Tensor,
        lr: LearningRate,
        steps: Sequence[int] | Tensor,
        momentum: float | Tensor,
        nesterov: bool,
    ) -> None:
        times = torch.as_tensor(steps, device=curvatures.device)
        if len(times) == 0 or times.min() < 0:
            raise ValueError(f"steps must name at least one number of updates, none negative, got {times.tolist()}")
        last = int(times.max())
        rates, updates = zip(*lr, strict=True) if isinstance(lr, Sequence) else ((lr,), (last,))
        if last > sum(updates):
            raise ValueError(f"steps must stay within the {sum(updates)} updates of the schedule, got {last}")

        matrices = torch.broadcast_tensors(*(_matrix(curvatures, rate, momentum, nesterov) for rate in rates))
        self._factors: list[tuple[Tensor, Tensor, Tensor]] = []
        begin, state = 0, _unit_vector(matrices[0])
        remaining, order = times.long().sort()
        for matrix, count in zip(matrices, updates, strict=True):
            inside, remaining = remaining.tensor_split([int((remaining <= begin + count).sum())])
            if len(inside):
                self._factors.append(_factorise(matrix, state, inside - begin))
            if len(remaining) == 0:
                break
            state, begin = _advance(matrix, state, count), begin + count
        self._order = order.argsort()

    def values(self) -> Tensor:
        """a_t(λ), shape (..., T, p)."""
        values = [
            (giants.index_select(1, places // babies.shape[1]) * babies.index_select(1, places % babies.shape[1])).sum(
                0
            )
            for giants, babies, places in self._factors
        ]
        return torch.cat(values).index_select(0, self._order).movedim(0, -2)

    def energies(self, weights: Tensor) -> Tensor:
        """Σ weights a_t(λ)² over λ, shape (..., T), inf where it leaves float64.

        Args:
            weights: finite and none negative, shape (..., p).
        """
        # (g₀b₀ + g₁b₁)² = g₀² b₀² + 2g₀g₁ b₀b₁ + g₁² b₁², so these terms and λ are summed by one matrix product.
        energies = [
            torch.einsum(
                "...p,q...p,r...p->...qr",
                torch.cat([weights, 2 * weights, weights], dim=-1),
                torch.cat([g0 * g0, g0 * g1, g1 * g1], dim=-1),
                torch.cat([b0 * b0, b0 * b1, b1 * b1], dim=-1),
            )
            .flatten(-2)
            .index_select(-1, places)
            for (g0, g1), (b0, b1), places in self._factors
        ]
        ordered = torch.cat(energies, dim=-1).index_select(-1, self._order)
        return ordered.nan_to_num_(nan=torch.inf, posinf=torch.inf, neginf=torch.inf).clamp_(min=0)


def _matrix(curvatures: Tensor, lr: float | Tensor, momentum: float | Tensor, nesterov: bool) -> Tensor:
    """M, shape (2, 2, ..., p)."""
    rate, mu = (
        torch.as_tensor(setting, dtype=curvatures.dtype, device=curvatures.device)[..., None]
        for setting in (lr, momentum)
    )
    step = rate * curvatures
    distance = (1 - step * (1 + mu), -step * mu.square()) if nesterov else (1 - step, -step * mu)
    return torch.stack(torch.broadcast_tensors(*distance, torch.ones_like(mu), mu)).unflatten(0, (2, 2))


def _factorise(matrix: Tensor, state: Tensor, times: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """The giant steps (2, Q, ..., p) and baby steps (2, R, ..., p) of sorted ``times``, and their places in Q × R."""
    block = 1 << (int(times[-1]).bit_length() + 1) // 2
    quotients, rows = (times // block).unique(return_inverse=True)
    remainders, columns = (times % block).unique(return_inverse=True)
    babies, leap = _orbit(matrix, state, block)
    giants, _ = _orbit(leap.transpose(0, 1), _unit_vector(matrix), int(quotients[-1]) + 1)
    return (
        giants.index_select(1, quotients),
        babies.index_select(1, remainders),
        rows * len(remainders) + columns,
    )


def _unit_vector(matrix: Tensor) -> Tensor:
    """(1, 0) as a column, shape (2, 1, ..., p)."""
    return torch.stack([torch.ones_like(matrix[0, :1]), torch.zeros_like(matrix[0, :1])])


def _product(left: Tensor, right: Tensor) -> Tensor:
    """Matrix product along the first two dimensions."""
    return left[:, 0, None] * right[0] + left[:, 1, None] * right[1]


def _orbit(matrix: Tensor, start: Tensor, length: int) -> tuple[Tensor, Tensor]:
    """``start``, M start, M² start, ... as columns, at least ``length``, and the power of M that comes next."""
    orbit, power = start, matrix
    while orbit.shape[1] < length:
        orbit, power = torch.cat([orbit, _product(power, orbit)], dim=1), _product(power, power)
    return orbit, power


def _advance(matrix: Tensor, state: Tensor, count: int) -> Tensor:
    """M^count state, by repeated squaring."""
    while count:
        if count % 2:
            state = _product(matrix, state)
        matrix, count = _product(matrix, matrix), count // 2
    return state
