"""Backpropagation in textbook form: each function returns its output and its pullback, formula beside gradient.

A pullback takes G = ∂L/∂Y, shaped like the output Y, and returns the gradient of the loss with respect to each
argument, the input X first: the vector-Jacobian products of which reverse mode is a chain. `backpropagation` is that
chain for a network of layers. It is plain tensor arithmetic, in which autograd has no part; for many copies of a
network at once, and fast, see `fitcore.gradients.backpropagation`.

Source: D. E. Rumelhart, G. E. Hinton, R. J. Williams, "Learning representations by back-propagating errors", Nature
323, 1986.
"""

from collections.abc import Callable, Sequence

import torch
from torch import Tensor, nn
from torch.nn.functional import fold, unfold

from fitcore.models import CNN, Tanh, convolution_size

Gradients = tuple[Tensor, ...]
Pullback = Callable[[Tensor], Gradients]
Pair = tuple[int, ...]


def affine(x: Tensor, weight: Tensor, bias: Tensor) -> tuple[Tensor, Pullback]:
    """Y = X Wᵀ + b: ∂L/∂X = G W, ∂L/∂W = Gᵀ X, ∂L/∂b = Σₙ Gₙ, for X (n, in), W (out, in) and b (out,)."""
    return x @ weight.mT + bias, lambda g: (g @ weight, g.mT @ x, g.sum(0))


def relu(x: Tensor) -> tuple[Tensor, Pullback]:
    """Y = max(X, 0): ∂L/∂X = G where X > 0, else 0."""
    return x.clamp(min=0), lambda g: (g * (x > 0),)


def tanh(x: Tensor) -> tuple[Tensor, Pullback]:
    """Y = tanh X: ∂L/∂X = G (1 - Y²)."""
    y = x.tanh()
    return y, lambda g: (g * (1 - y**2),)


def sigmoid(x: Tensor) -> tuple[Tensor, Pullback]:
    """Y = 1 / (1 + e⁻ˣ): ∂L/∂X = G Y (1 - Y)."""
    y = x.sigmoid()
    return y, lambda g: (g * y * (1 - y),)


def flatten(x: Tensor) -> tuple[Tensor, Pullback]:
    """Y is X in the shape (n, features), and ∂L/∂X is G in the shape of X."""
    return x.flatten(1), lambda g: (g.reshape(x.shape),)


def convolution(
    x: Tensor, weight: Tensor, bias: Tensor, stride: Pair = (1, 1), padding: Pair = (0, 0)
) -> tuple[Tensor, Pullback]:
    """Y = W U(X) + b, where a column of U(X) is what the kernel sees in one place.

    ∂L/∂X = Uᵀ(Wᵀ G), which adds up what each pixel did in all places that saw it; ∂L/∂W = Σₙ Gₙ U(Xₙ)ᵀ, and ∂L/∂b sums
    G over samples and places. X is (n, in, height, width), W (out, in, *kernel) and b (out,).
    """
    size, kernel = x.shape[2:], weight.shape[2:]
    kernels, columns = weight.flatten(1), unfold(x, kernel, padding=padding, stride=stride)
    sides = [convolution_size(size[i], kernel[i], stride=stride[i], padding=padding[i]) for i in (0, 1)]

    def pullback(g: Tensor) -> Gradients:
        g = g.flatten(2)
        of_x = fold(kernels.mT @ g, size, kernel, padding=padding, stride=stride)
        return of_x, (g @ columns.mT).sum(0).view_as(weight), g.sum((0, 2))

    return (kernels @ columns + bias[:, None]).unflatten(2, sides), pullback


def max_pooling(x: Tensor, size: int) -> tuple[Tensor, Pullback]:
    """Y is the largest of every ``size`` by ``size`` pixels, where ∂L/∂X has G, and 0 elsewhere.

    The first of equals gets it, and what is left over at the edges of X (n, channels, height, width) nothing.
    """
    height, width = (side // size for side in x.shape[2:])
    windows = x[..., : height * size, : width * size].unflatten(3, (width, size)).unflatten(2, (height, size))
    pixels = windows.movedim(3, 4).flatten(4)  # (n, channels, height, width, size²)
    where = pixels.argmax(4, keepdim=True)

    def pullback(g: Tensor) -> Gradients:
        of_pixels = torch.zeros_like(pixels).scatter(4, where, g[..., None])
        of_x = torch.zeros_like(x)
        of_x[..., : height * size, : width * size] = (
            of_pixels.unflatten(4, (size, size)).movedim(4, 3).flatten(4).flatten(2, 3)
        )
        return (of_x,)

    return pixels.gather(4, where).squeeze(4), pullback


def softmax_cross_entropy(logits: Tensor, labels: Tensor) -> tuple[Tensor, Pullback]:
    """L = -1/n Σᵢ log softmax(Zᵢ)[yᵢ]: ∂L/∂Z = (softmax(Z) - onehot(y)) / n, for Z (n, classes) and y (n,)."""
    log_probabilities = logits.log_softmax(1)
    onehot = nn.functional.one_hot(labels, logits.shape[1])
    loss = -(log_probabilities * onehot).sum(1).mean()
    return loss, lambda g: (g * (log_probabilities.exp() - onehot) / len(logits),)


def mean_squared_error(predictions: Tensor, targets: Tensor) -> tuple[Tensor, Pullback]:
    """L = 1/m Σᵢ (Pᵢ - Yᵢ)²: ∂L/∂P = 2 (P - Y) / m, for m elements of one shape."""
    residuals = predictions - targets
    return residuals.square().mean(), lambda g: (g * 2 * residuals / residuals.numel(),)


Loss = Callable[[Tensor, Tensor], tuple[Tensor, Pullback]]


def layers_of(network: nn.Module) -> list[nn.Module]:
    """The layers of an `MLP`, of a `CNN` or of any nested ``nn.Sequential``, in the order in which they are applied."""
    if isinstance(network, CNN):
        return [*layers_of(network.features), nn.Flatten(), *layers_of(network.classifier)]
    if isinstance(network, nn.Sequential):
        return [layer for part in network for layer in layers_of(part)]
    return [network]


@torch.no_grad()
def backpropagation(
    layers: Sequence[nn.Module], inputs: Tensor, targets: Tensor, loss: Loss = softmax_cross_entropy
) -> tuple[Tensor, dict[nn.Parameter, Tensor]]:
    """L (scalar) and ∂L/∂p for every parameter of ``layers``, from the last layer to the first, each shaped like p.

    A parameter that serves in several layers gets the sum of what it gets in each.

    Raises:
        TypeError: a layer of a kind, or with an option, for which no function stands above.
    """
    x, pullbacks = inputs, []
    for layer in layers:
        x, pullback = _applied(layer, x)
        pullbacks.append(pullback)
    value, of_loss = loss(x, targets)
    (g,) = of_loss(torch.ones_like(value))
    gradients: dict[nn.Parameter, Tensor] = {}
    for layer, pullback in zip(reversed(layers), reversed(pullbacks), strict=True):
        g, *of_parameters = pullback(g)
        for parameter, gradient in zip(layer.parameters(), of_parameters, strict=True):
            gradients[parameter] = gradients[parameter] + gradient if parameter in gradients else gradient
    return value, gradients


def _applied(layer: nn.Module, x: Tensor) -> tuple[Tensor, Pullback]:
    """The layer's output, and its pullback."""
    match layer:
        case nn.Linear(weight=weight, bias=Tensor() as bias):
            applied = affine(x, weight, bias)
        case nn.Conv2d(bias=Tensor() as bias, padding=tuple() as pad, dilation=(1, 1), groups=1, padding_mode="zeros"):
            applied = convolution(x, layer.weight, bias, layer.stride, pad)
        case nn.MaxPool2d(kernel_size=int(size), padding=0, dilation=1, ceil_mode=False) if layer.stride == size:
            applied = max_pooling(x, size)
        case nn.Flatten(start_dim=1, end_dim=-1):
            applied = flatten(x)
        case nn.ReLU():
            applied = relu(x)
        case nn.Tanh() | Tanh():
            applied = tanh(x)
        case nn.Sigmoid():
            applied = sigmoid(x)
        case _:
            raise TypeError(f"layers must be of kinds whose pullbacks are written out here, got {layer}")
    return applied
