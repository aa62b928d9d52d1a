"""Deep networks of equal layers, and how large gradients and signals are in each layer."""

from collections.abc import Callable
from dataclasses import dataclass

import pytest
import torch
from torch import Tensor, nn

from fitcore.gradients.depth import gradient_norms_by_layer


class Shortcut(nn.Module):
    """x + F(x)."""

    def __init__(self, block: nn.Module) -> None:
        super().__init__()
        self.block = block

    def forward(self, x: Tensor) -> Tensor:
        return x + self.block(x)


@torch.no_grad()
def initialised(layer: nn.Module, init: str) -> nn.Module:
    """Draw the weights by fan_in, which for equal layers is fan_out: "default" leaves them as torch draws them."""
    match init:
        case "xavier":
            nn.init.kaiming_normal_(layer.weight, nonlinearity="linear")
        case "kaiming":
            nn.init.kaiming_normal_(layer.weight, nonlinearity="relu")
        case "standard normal":
            nn.init.normal_(layer.weight)
    if init != "default":
        nn.init.zeros_(layer.bias)
    return layer


@dataclass(frozen=True)
class DeepNetwork:
    """Layers of ``width``, one after the other: affine, or convolutions of ``kernel`` > 1 on maps of side by side."""

    activation: type[nn.Module]
    init: str = "default"
    batch_norm: bool = False
    shortcuts: bool = False
    layers: int = 20
    width: int = 64
    kernel: int = 1
    side: int = 1

    def copies(self, count: int) -> nn.Sequential:
        """As many independent networks, as groups of channels: an affine layer is a convolution of a single pixel."""
        return nn.Sequential(*(self._block(count) for _ in range(self.layers)))

    def inputs(self, count: int, batch: int) -> Tensor:
        return torch.randn(batch, count * self.width, self.side, self.side)

    def _block(self, count: int) -> nn.Module:
        channels = count * self.width
        layer = nn.Conv2d(channels, channels, self.kernel, padding=self.kernel // 2, groups=count)
        norm = [nn.BatchNorm2d(channels)] if self.batch_norm else []
        block = nn.Sequential(initialised(layer, self.init), *norm, self.activation())
        return Shortcut(block) if self.shortcuts else block


def gradient_norms(count: int, batch: int, network: DeepNetwork) -> Tensor:
    return gradient_norms_by_layer(network.copies(count), network.inputs(count, batch), groups=count)


@pytest.fixture
def norms(shared, trials) -> Callable[..., Tensor]:
    """``norms(activation, **settings of a `DeepNetwork`)``, (trials, layers + 1): the gradient's norms, inputs first.

    Of ``batch`` standard-normal inputs, for a gradient of random direction after the last layer.
    """
    return lambda activation, init="default", batch=8, **settings: shared(
        gradient_norms, trials.count, batch, DeepNetwork(activation, init, **settings)
    )


@pytest.fixture
def shares(norms) -> Callable[..., Tensor]:
    """``shares(activation, **settings)``, (trials,): log10 of the share of the gradient that reaches the inputs."""

    def of_inputs(activation: type[nn.Module], init: str = "default", **settings) -> Tensor:
        of_layers = norms(activation, init, **settings)
        return (of_layers[:, 0] / of_layers[:, -1]).log10()

    return of_inputs


@torch.no_grad()
def signal_growth(count: int, network: DeepNetwork) -> Tensor:
    x = network.inputs(count, batch=8)
    squares = [z.square().unflatten(1, (count, -1)).mean((0, 2, 3, 4)) for z in (x, network.copies(count)(x))]
    return (squares[1] / squares[0]).log10() / 2


@pytest.fixture
def signals(shared, trials) -> Callable[..., Tensor]:
    """``signals(activation, **settings)``, (trials,): log10 of the factor of the signal's root mean square."""
    return lambda activation, init="default", **settings: shared(
        signal_growth, trials.count, DeepNetwork(activation, init, **settings)
    )
