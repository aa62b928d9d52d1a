"""The multilayer perceptron."""

from collections.abc import Callable, Sequence
from itertools import pairwise

from torch import nn

from fitcore.models.layers import Tanh


class MLP(nn.Sequential):
    """Affine layers with an elementwise activation σ between them, f(x) = W_k σ(... σ(W_1 x + b_1) ...) + b_k.

    Input (..., widths[0]), output (..., widths[-1]); the widths between are the numbers of hidden neurons, so that
    ``MLP([1, 1])`` is a straight line and ``MLP([1, 16, 16, 1])`` has two hidden layers of 16. Weights and biases
    start as torch.nn.Linear draws them.
    """

    def __init__(self, widths: Sequence[int], activation: Callable[[], nn.Module] = Tanh) -> None:
        """Build the layers from the global random state.

        Raises:
            ValueError: fewer than two widths, or a width below 1.
        """
        if len(widths) < 2 or min(widths) < 1:
            raise ValueError(f"widths must be at least two positive integers, got {list(widths)}")
        layers: list[nn.Module] = []
        for fan_in, fan_out in pairwise(widths):
            layers += [nn.Linear(fan_in, fan_out), activation()]
        super().__init__(*layers[:-1])
