"""The multilayer perceptron."""

from collections.abc import Callable, Sequence
from itertools import pairwise

from torch import nn

from fitcore.models.layers import Stack, Tanh


class MLP(Stack):
    """Affine layers with an elementwise activation σ between them, f(x) = W_k σ(... σ(W_1 x + b_1) ...) + b_k.

    Input (..., widths[0]), output (..., widths[-1]); the widths between are the numbers of hidden neurons, so that
    ``MLP([1, 1])`` is a straight line and ``MLP([1, 16, 16, 1])`` has two hidden layers of 16. Weights and biases
    start as torch.nn.Linear draws them. A hidden layer can be normalised over the batch before its activation, and
    dropped from after it; input and output are then (n, width).
    """

    def __init__(
        self,
        widths: Sequence[int],
        activation: Callable[[], nn.Module] = Tanh,
        batch_norm: bool = False,
        dropout: float = 0.0,
    ) -> None:
        """Build the layers from the global random state.

        Args:
            widths: of input, hidden layers and output.
            activation: makes σ.
            batch_norm: whether hidden layers are normalised (S. Ioffe, C. Szegedy, "Batch normalization", ICML 2015).
            dropout: probability of dropping a hidden neuron.

        Raises:
            ValueError: fewer than two widths, or a width below 1; a dropout outside [0, 1].
        """
        if len(widths) < 2 or min(widths) < 1:
            raise ValueError(f"widths must be at least two positive integers, got {list(widths)}")
        layers: list[nn.Module] = []
        for fan_in, fan_out in pairwise(widths[:-1]):
            layers.append(nn.Linear(fan_in, fan_out))
            layers += [nn.BatchNorm1d(fan_out)] if batch_norm else []
            layers.append(activation())
            layers += [nn.Dropout(dropout)] if dropout else []
        super().__init__(*layers, nn.Linear(widths[-2], widths[-1]))
