"""How strongly a loss bends at given parameters."""

from collections.abc import Callable

import torch
from torch import Tensor


def sharpness(losses: Callable[[Tensor], Tensor], parameters: Tensor, products: int = 20) -> Tensor:
    """λ_max, the largest eigenvalue of the Hessian of a loss, for C copies at once.

    By Lanczos's method: of the Hessian only ``products`` products with vectors are needed, not the matrix. The result
    is exact, but for rounding, where ``products`` reaches P; else it comes from below, and is soon close where λ_max
    stands apart. Near a minimum gradient descent converges with learning rates below 2/λ_max.

    Args:
        losses: (C,) of the parameters of C independent copies, (C, P), and twice differentiable.
        parameters: where to take the Hessian, (C, P).
        products: at least 1.

    Returns:
        (C,).

    Raises:
        ValueError: ``products`` is below 1, or a Hessian is not finite.

    Source: J. Cohen et al., "Gradient descent on neural networks typically occurs at the edge of stability", ICLR 2021.
    """
    if products < 1:
        raise ValueError(f"products must be at least 1, got {products}")
    point = parameters.detach().requires_grad_()
    (slopes,) = torch.autograd.grad(losses(point).sum(), point, create_graph=True)
    basis = _unit(torch.randn_like(point))[:, None]  # (C, vectors so far, P)
    images = basis[:, :0]
    for _ in range(min(products, point.shape[1])):
        (image,) = torch.autograd.grad(slopes, point, basis[:, -1], retain_graph=True)
        images = torch.cat([images, image[:, None]], dim=1)
        rest = _without(basis, image)
        # Where the directions that the Hessian leads to are exhausted, nothing is left, and any other goes on.
        rest = rest + torch.randn_like(rest) * torch.finfo(rest.dtype).eps ** 2
        # Again, for the rounding errors of the first time.
        basis = torch.cat([basis, _unit(_without(basis, rest))[:, None]], dim=1)
    projected = basis[:, :-1] @ images.mT
    if not projected.isfinite().all():
        raise ValueError("parameters must have a finite Hessian; some are where the loss is infinite, or NaN")
    return torch.linalg.eigvalsh((projected + projected.mT) / 2)[:, -1]


def _unit(vectors: Tensor) -> Tensor:
    return vectors / torch.linalg.vector_norm(vectors, dim=-1, keepdim=True)


def _without(basis: Tensor, vectors: Tensor) -> Tensor:
    """What is left of ``vectors`` (C, P) without their parts along an orthonormal ``basis`` (C, k, P)."""
    return vectors - ((basis @ vectors[..., None]).mT @ basis).squeeze(1)
