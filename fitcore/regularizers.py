"""What keeps parameters small or sparse: penalties, norms, the proximal step of the L1 norm, clipping by norm."""

from collections.abc import Callable, Iterable
from typing import Any

import torch
from torch import Tensor, nn
from torch.optim import SGD

Tensors = nn.Module | Iterable[Tensor]
"""A module, for its parameters, or tensors."""


def l1_penalty(parameters: Tensors) -> Tensor:
    """Σ|w| over all numbers of all parameters, biases included; its gradient is sign(w)."""
    return torch.stack([parameter.abs().sum() for parameter in _tensors(parameters)]).sum()


def l2_penalty(parameters: Tensors) -> Tensor:
    """Σw², the squared norm; its gradient is 2w, so that half of it times λ is the ``weight_decay=λ`` of torch's SGD.

    Source: https://docs.pytorch.org/docs/stable/generated/torch.optim.SGD.html
    """
    return torch.stack([parameter.square().sum() for parameter in _tensors(parameters)]).sum()


def elastic_net(parameters: Tensors, l1: float, l2: float) -> Tensor:
    """l1 · Σ|w| + l2 · Σw².

    Source: H. Zou, T. Hastie, "Regularization and variable selection via the elastic net", JRSS B 67, 2005.
    """
    tensors = _tensors(parameters)
    return l1 * l1_penalty(tensors) + l2 * l2_penalty(tensors)


def norms(parameters: Tensors) -> Tensor:
    """Euclidean norm of each parameter, (k,)."""
    return torch.stack([torch.linalg.vector_norm(parameter) for parameter in _tensors(parameters)])


def total_norm(parameters: Tensors) -> Tensor:
    """Euclidean norm of all parameters as one vector, which is that of their norms.

    The sum of the norms of k parameters lies between it and √k times it.
    """
    return torch.linalg.vector_norm(norms(parameters))


def sparsity(parameters: Tensors, threshold: float = 0.0) -> float:
    """Share of the numbers w with |w| <= ``threshold``; by default of the exact zeros."""
    tensors = _tensors(parameters)
    small = sum(int((parameter.abs() <= threshold).sum()) for parameter in tensors)
    return small / sum(parameter.numel() for parameter in tensors)


def soft_threshold(values: Tensor, threshold: float | Tensor) -> Tensor:
    """argmin_w ½ (w - v)² + t |w| = sign(v) · max(|v| - t, 0): everything t nearer to zero, which nothing passes.

    Source: N. Parikh, S. Boyd, "Proximal algorithms", 2014, section 6.5.2.
    """
    return values.sign() * (values.abs() - threshold).clamp(min=0.0)


class ProximalSGD(SGD):
    """A step of SGD down the loss alone, then `soft_threshold` by lr · ``l1``: descends the loss + l1 · Σ|w|.

    A gradient step on the penalty itself moves a weight by lr · l1 across zero and back; this one stops it there.

    Source: I. Daubechies, M. Defrise, C. De Mol, "An iterative thresholding algorithm ...", CPAM 57, 2004.
    """

    def __init__(self, params: Any, lr: float, l1: float, **options: Any) -> None:
        """Take ``params`` and ``options`` as ``torch.optim.SGD`` does.

        Raises:
            ValueError: ``l1`` is negative.
        """
        if l1 < 0:
            raise ValueError(f"l1 must not be negative, got {l1}")
        super().__init__(params, lr=lr, **options)
        self.l1 = l1

    @torch.no_grad()
    def step(self, closure: Callable[[], float] | None = None) -> float | None:  # type: ignore[override]
        """Make one step, and return what ``closure`` did."""
        loss = super().step(closure)
        for group in self.param_groups:
            for parameter in group["params"]:
                if parameter.grad is not None:
                    parameter.copy_(soft_threshold(parameter, group["lr"] * self.l1))
        return loss


def clip_by_norm(tensors: Tensors, max_norm: float) -> list[Tensor]:
    """The tensors g as one vector, projected on the ball of radius c: g · min(1, c / ‖g‖).

    ``torch.nn.utils.clip_grad_norm_`` does so to gradients in place, but for 1e-6 that it adds to ‖g‖.

    Raises:
        ValueError: ``max_norm`` isn't positive.

    Source: R. Pascanu, T. Mikolov, Y. Bengio, "On the difficulty of training recurrent neural networks", ICML 2013.
    """
    if not max_norm > 0:
        raise ValueError(f"max_norm must be positive, got {max_norm}")
    unclipped = _tensors(tensors)
    scale = (max_norm / total_norm(unclipped)).clamp(max=1.0)
    return [tensor * scale for tensor in unclipped]


def _tensors(parameters: Tensors) -> list[Tensor]:
    return list(parameters.parameters() if isinstance(parameters, nn.Module) else parameters)
