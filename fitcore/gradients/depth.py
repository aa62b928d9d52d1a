"""How gradients fare through deep networks: norms by layer, and what mean-field theory predicts of them.

Source: S. S. Schoenholz, J. Gilmer, S. Ganguli, J. Sohl-Dickstein, "Deep Information Propagation", ICLR 2017.
"""

from collections.abc import Callable, Iterable
from itertools import accumulate

import torch
from torch import Tensor, nn

from fitcore.gradients.autograd import gradient

Activation = Callable[[Tensor], Tensor]


def gradient_norms_by_layer(
    layers: Iterable[nn.Module],
    inputs: Tensor,
    loss: Callable[[Tensor], Tensor] | None = None,
    *,
    groups: int | None = None,
) -> Tensor:
    """‖∂L/∂h_k‖ for k = 0 ... n, where h_0 are the inputs and h_k is what the k-th of the layers makes of h_(k-1).

    Backpropagation goes from the last entry to the first: the k-th layer multiplies the norm by ``norms[k - 1] /
    norms[k]``. No ``grad`` is touched.

    Args:
        layers: n modules, one after the other; an ``nn.Sequential``, say. A module may be a whole block.
        inputs: of the first.
        loss: maps h_n to L. By default L = ⟨h_n, G⟩, with G standard normal from the global generator: a gradient of
            random direction.
        groups: how many independent networks stand side by side, each with its share of dimension 1, as the groups of a
            convolution do; the loss has to be a sum over them.

    Returns:
        (n + 1,) norms over all elements; with ``groups`` one row for each, (groups, n + 1). In float64, in which the
        square of a small float32 is not zero.
    """
    first = inputs.detach().requires_grad_()
    signals = list(accumulate(layers, lambda signal, layer: layer(signal), initial=first))
    output = signals[-1]
    scalar = (output * torch.randn_like(output)).sum() if loss is None else loss(output)
    gradients = torch.autograd.grad(scalar, signals)
    if groups is None:
        return torch.stack([_norms(g.flatten()) for g in gradients])
    return torch.stack([_norms(g.unflatten(1, (groups, -1)).transpose(0, 1).flatten(1)) for g in gradients], dim=1)


def _norms(rows: Tensor) -> Tensor:
    norms: Tensor = torch.linalg.vector_norm(rows, dim=-1, dtype=torch.float64)
    return norms


def mean_field_gradient_factors(
    activation: Activation,
    weight_variance: float,
    bias_variance: float = 0.0,
    *,
    input_mean_square: float = 1.0,
    layers: int = 1,
) -> Tensor:
    """Factors by which wide layers h = φ(W h + b) multiply the norm of the gradient on its way back.

    q_k = σ_w² E[φ(√q_(k-1) z)²] + σ_b², and the factor is √χ_k with χ_k = σ_w² E[φ'(√q_k z)²], for z standard normal
    and weights of variance σ_w² / width. Below 1 gradients vanish with depth, above 1 they explode.

    Args:
        activation: φ, elementwise.
        weight_variance: σ_w²; 1/3 is torch's default, 1 is Xavier's for square layers, 2 is Kaiming's.
        bias_variance: σ_b².
        input_mean_square: of what the first layer takes; q_1 is σ_w² times that, plus σ_b².
        layers: how many.

    Returns:
        (layers,) in float64, the layer nearest to the inputs first.
    """
    nodes = torch.linspace(-10, 10, 20_001, dtype=torch.float64)  # the trapezoidal rule: no kink or step is too sharp
    weights = torch.exp(-nodes.square() / 2)
    weights = weights / weights.sum()
    factors, mean_square = [], torch.tensor(input_mean_square, dtype=torch.float64)
    for _ in range(layers):
        z = (weight_variance * mean_square + bias_variance).sqrt() * nodes
        slopes = gradient(lambda x: activation(x).sum(), z)
        factors.append((weight_variance * (weights @ slopes.square())).sqrt())
        mean_square = weights @ activation(z).square()
    return torch.stack(factors)
