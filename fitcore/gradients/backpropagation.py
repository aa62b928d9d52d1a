"""Backpropagation written out: each layer's formula stands beside its gradient, for C copies of a network at once.

Activations are (C, features, n), a sample a column, so that a layer reads Y = W X + b as on the blackboard. G is the
gradient of the loss with respect to a layer's output; ``backward`` takes it and returns that of its input. To save
memory traffic, layers write into buffers of their own, elementwise ones over their argument: what ``forward`` and
``backward`` return is good until the next call.
"""

from typing import Protocol

import torch
from torch import Tensor, nn

from fitcore.models.layers import GaussianNoise
from fitcore.models.mlp import Tanh as SigmoidTanh


class Layer(Protocol):
    """One step of a network."""

    def forward(self, x: Tensor) -> Tensor:
        """Output (C, features, n) in training, from the input (C, features, n)."""

    def evaluate(self, x: Tensor) -> Tensor:
        """Output in evaluation."""

    def backward(self, g: Tensor) -> Tensor:
        """Gradient with respect to the input of the last ``forward``, from that with respect to its output."""


class Affine:
    """Y = W X + b: ∂L/∂W = G Xᵀ, ∂L/∂b = G 1, ∂L/∂X = Wᵀ G.

    Weights are (C, out, in), biases (C, out); ``backward`` writes their gradients into the tensors that it was given.
    ``first`` says that no layer before needs ∂L/∂X: it is left out.
    """

    def __init__(
        self, weight: Tensor, bias: Tensor | None, weight_gradient: Tensor, bias_gradient: Tensor | None, first: bool
    ) -> None:
        self.weight, self.bias = weight, bias
        self.weight_gradient, self.bias_gradient = weight_gradient, bias_gradient
        self.first = first
        self._outputs, self._input_gradients = _Buffers(), _Buffers()

    def forward(self, x: Tensor) -> Tensor:
        self.x = x
        output = self._outputs.shaped((len(x), self.weight.shape[1], x.shape[2]), x)
        if self.bias is not None and x.shape[1] > 1 and not _is_shared(x):
            return torch.baddbmm(self.bias[..., None], self.weight, x, out=output)
        _product(self.weight, x, output)
        return output if self.bias is None else output.add_(self.bias[..., None])

    evaluate = forward

    def backward(self, g: Tensor) -> Tensor:
        if _is_shared(self.x):
            torch.mm(g.flatten(0, 1), self.x[0].mT, out=self.weight_gradient.flatten(0, 1))
        else:
            torch.bmm(g, self.x.mT, out=self.weight_gradient)
        if self.bias_gradient is not None:
            torch.sum(g, 2, out=self.bias_gradient)
        if self.first:
            return g
        return _product(self.weight.mT, g, self._input_gradients.shaped(self.x.shape, g))


class Tanh:
    """Y = tanh X = 2σ(2X) - 1: ∂L/∂X = G (1 - Y²). By way of σ, which torch vectorises better."""

    def forward(self, x: Tensor) -> Tensor:
        self.y = torch.add(_MINUS_ONE, x.add_(x).sigmoid_(), alpha=2, out=x)
        return self.y

    evaluate = forward

    def backward(self, g: Tensor) -> Tensor:
        return torch.ops.aten.tanh_backward.grad_input(g, self.y, grad_input=g)


class Sigmoid:
    """Y = σ(X) = 1 / (1 + e⁻ˣ): ∂L/∂X = G Y (1 - Y)."""

    def forward(self, x: Tensor) -> Tensor:
        self.y = x.sigmoid_()
        return self.y

    evaluate = forward

    def backward(self, g: Tensor) -> Tensor:
        return torch.ops.aten.sigmoid_backward.grad_input(g, self.y, grad_input=g)


class ReLU:
    """Y = max(X, 0): ∂L/∂X = G where Y > 0, else 0."""

    def forward(self, x: Tensor) -> Tensor:
        self.y = x.relu_()
        return self.y

    evaluate = forward

    def backward(self, g: Tensor) -> Tensor:
        return torch.ops.aten.threshold_backward.grad_input(g, self.y, 0, grad_input=g)


class BatchNorm:
    """Y = γ X̂ + β, X̂ = (X - μ) / s, where μ is each feature's mean over n samples and s² their variance, plus ε.

    ∂L/∂γ = Σ G X̂, ∂L/∂β = Σ G and ∂L/∂X = γ / s · (G - X̂ ∂L/∂γ / n - ∂L/∂β / n), sums being over the samples.
    γ and β are (C, features); running statistics likewise, which ``forward`` moves and ``evaluate`` takes for μ and s².

    Source: S. Ioffe, C. Szegedy, "Batch Normalization", ICML 2015.
    """

    def __init__(
        self,
        module: nn.BatchNorm1d,
        parameters: tuple[Tensor, Tensor],
        gradients: tuple[Tensor, Tensor],
        running: tuple[Tensor, Tensor, Tensor],
    ) -> None:
        self.eps, self.momentum = module.eps, module.momentum or 0.0
        (self.weight, self.bias), (self.weight_gradient, self.bias_gradient) = parameters, gradients
        self.running_mean, self.running_variance, self.batches = running
        self._normalised, self._outputs = _Buffers(), _Buffers()

    def forward(self, x: Tensor) -> Tensor:
        n = x.shape[2]
        if n == 1:
            raise ValueError(f"Expected more than 1 value per channel when training, got input size {(n, x.shape[1])}")
        mean = x.mean(2)
        centred = torch.sub(x, mean[..., None], out=self._normalised.shaped(x.shape, x))
        variance = torch.linalg.vecdot(centred, centred).div_(n)
        self.running_mean.lerp_(mean, self.momentum)
        self.running_variance.lerp_(variance * (n / (n - 1)), self.momentum)
        self.batches.add_(1)
        self.inverse = variance.add_(self.eps).rsqrt_()
        self.normalised = centred.mul_(self.inverse[..., None])
        output = torch.mul(self.normalised, self.weight[..., None], out=self._outputs.shaped(x.shape, x))
        return output.add_(self.bias[..., None])

    def evaluate(self, x: Tensor) -> Tensor:
        scale = self.weight / (self.running_variance + self.eps).sqrt()
        output = torch.mul(x, scale[..., None], out=self._outputs.shaped(x.shape, x))
        return output.add_((self.bias - scale * self.running_mean)[..., None])

    def backward(self, g: Tensor) -> Tensor:
        n = g.shape[2]
        torch.sum(g, 2, out=self.bias_gradient)
        torch.linalg.vecdot(g, self.normalised, out=self.weight_gradient)
        g.addcmul_(self.normalised, self.weight_gradient[..., None], value=-1 / n)
        g.sub_((self.bias_gradient / n)[..., None])
        return g.mul_((self.weight * self.inverse)[..., None])


class Dropout:
    """Y = M X / (1 - p), with every element of M drawn anew, 0 with probability p, else 1: ∂L/∂X = M G / (1 - p)."""

    def __init__(self, p: float, generator: torch.Generator) -> None:
        self.p, self.generator = p, generator
        self._scaled_masks, self._outputs = _Buffers(), _Buffers()

    def forward(self, x: Tensor) -> Tensor:
        self._scaled_mask = self._scaled_masks.shaped(x.shape, x)
        self._scaled_mask.uniform_(generator=self.generator).ge_(self.p)  # twice as fast as bernoulli_
        if self.p < 1:  # else all is dropped, and 0 stays 0
            self._scaled_mask.div_(1 - self.p)
        return torch.mul(x, self._scaled_mask, out=self._outputs.shaped(x.shape, x))

    def evaluate(self, x: Tensor) -> Tensor:
        return x

    def backward(self, g: Tensor) -> Tensor:
        return g.mul_(self._scaled_mask)


class Noise:
    """Y = X + σ ε, with every element of ε standard normal and drawn anew: ∂L/∂X = G."""

    def __init__(self, std: float, generator: torch.Generator) -> None:
        self.std, self.generator = std, generator
        self._outputs = _Buffers()

    def forward(self, x: Tensor) -> Tensor:
        return self._outputs.shaped(x.shape, x).normal_(std=self.std, generator=self.generator).add_(x)

    def evaluate(self, x: Tensor) -> Tensor:
        return x

    def backward(self, g: Tensor) -> Tensor:
        return g


def layers_of(
    module: nn.Module,
    parameters: dict[str, Tensor],
    gradients: dict[str, Tensor],
    buffers: dict[str, Tensor],
    generator: torch.Generator,
) -> list[Layer] | None:
    """Layers that train C copies of ``module`` at once, or None where one of its layers is not among those above.

    Args:
        module: an ``nn.Sequential`` of ``nn.Linear``, ``nn.BatchNorm1d``, ``nn.Dropout`` and `GaussianNoise`, with
            tanh, sigmoid or ReLU after the first two; an ``nn.Flatten`` may come first, for the caller to flatten.
        parameters: those of the copies by the module's names, each (C, *shape) and contiguous.
        gradients: shaped like them; ``backward`` fills them.
        buffers: running statistics likewise, which training moves.
        generator: of masks and noise.
    """
    nodes = list(module.named_modules(remove_duplicate=False))  # a module may stand in several places
    if not _is_sequence(module) or any(node._forward_hooks or node._forward_pre_hooks for _, node in nodes):
        return None
    layers: list[Layer] = []
    for position, (name, child) in enumerate((name, node) for name, node in nodes if not _is_sequence(node)):
        kind = type(child)
        overwritable = bool(layers) and isinstance(layers[-1], Affine | BatchNorm)
        weight, bias = f"{name}.weight", f"{name}.bias"
        if kind is nn.Linear and weight in parameters and (child.bias is None or bias in parameters):
            layers.append(
                Affine(parameters[weight], parameters.get(bias), gradients[weight], gradients.get(bias), not layers)
            )
        elif kind in _ACTIVATIONS and overwritable:  # the layer before needs its output no more
            layers.append(_ACTIVATIONS[kind]())
        elif kind is nn.BatchNorm1d and layers and _is_usual(child) and {weight, bias} <= parameters.keys():
            names = (f"{name}.running_mean", f"{name}.running_var", f"{name}.num_batches_tracked")
            mean, variance, batches = (buffers[key] for key in names)
            of_layer = (parameters[weight], parameters[bias]), (gradients[weight], gradients[bias])
            layers.append(BatchNorm(child, *of_layer, (mean, variance, batches)))
        elif isinstance(child, nn.Dropout) and not child.inplace:
            layers.append(Dropout(child.p, generator))
        elif isinstance(child, GaussianNoise):
            layers.append(Noise(child.std, generator))
        elif kind is nn.Flatten and (position, child.start_dim, child.end_dim) == (0, 1, -1):
            continue
        elif kind is not nn.Identity:
            return None
    return layers


def _is_usual(module: nn.BatchNorm1d) -> bool:
    """Whether it scales and shifts, and keeps running statistics as exponential averages."""
    return module.affine and module.track_running_stats and module.momentum is not None


def _is_sequence(module: nn.Module) -> bool:
    """Whether it only calls its children, one after the other."""
    return type(module).forward is nn.Sequential.forward


_ACTIVATIONS: dict[type[nn.Module], type[Layer]] = {
    nn.ReLU: ReLU,
    nn.Sigmoid: Sigmoid,
    nn.Tanh: Tanh,
    SigmoidTanh: Tanh,
}


def mean_squared_errors_derivative(predictions: Tensor, targets: Tensor) -> tuple[Tensor, Tensor]:
    """L = 1/m Σ (pᵢ - yᵢ)² of every copy, (C,), and ∂L/∂pᵢ = 2 (pᵢ - yᵢ) / m, for (C, ...) of m elements a copy."""
    residuals = predictions - targets
    m = residuals[0].numel()
    losses = torch.linalg.vecdot(residuals.flatten(1), residuals.flatten(1)).div_(m)
    return losses, residuals.mul_(2 / m)


def cross_entropies_derivative(logits: Tensor, labels: Tensor) -> tuple[Tensor, Tensor]:
    """L = -1/n Σ log softmax(zᵢ)[yᵢ] of every copy, (C,), and ∂L/∂zᵢ = (softmax(zᵢ) - onehot(yᵢ)) / n.

    Logits are (C, n, classes), labels (C, n) integers.
    """
    # With the classes first: a softmax over the last dimension takes several times as long where it is short.
    log_probabilities = logits.mT.log_softmax(1)
    n, where = labels.shape[1], labels[:, None]
    losses = -log_probabilities.gather(1, where).mean((1, 2))
    gradient = log_probabilities.exp_()
    gradient.scatter_add_(1, where, gradient.new_full((), -1.0).expand(where.shape))
    return losses, gradient.div_(n).mT


def _product(a: Tensor, b: Tensor, out: Tensor) -> Tensor:
    """A B for every copy, (C, p, n), from (C, p, q) and (C, q, n), in the way that is fastest for their shapes."""
    if b.shape[1] == 1:  # an outer product, for which BLAS is not made
        return torch.mul(a, b, out=out)
    if _is_shared(b):  # one product of the rows of all copies
        torch.mm(a.flatten(0, 1), b[0], out=out.flatten(0, 1))
        return out
    return torch.bmm(a, b, out=out)


def _is_shared(x: Tensor) -> bool:
    """Whether all copies have the same data, in the memory of one."""
    return x.stride(0) == 0


class _Buffers:
    """Memory that is kept for every shape that was asked for.

    None is given back, so that neither validation nor a last, smaller batch has it made anew in every epoch, and that a
    CUDA graph finds all where it was.
    """

    def __init__(self) -> None:
        self._of_shape: dict[tuple[int, ...], Tensor] = {}

    def shaped(self, shape: tuple[int, ...], like: Tensor) -> Tensor:
        """The buffer of this shape, with the dtype and on the device of ``like``; what it held is overwritten."""
        if shape not in self._of_shape:
            self._of_shape[shape] = like.new_empty(shape)
        return self._of_shape[shape]


_MINUS_ONE = torch.tensor(-1.0)
