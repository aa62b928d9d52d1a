"""Deep networks of equal layers and their gradients in each; and what becomes of networks whose gradients explode."""

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

import pytest
import torch
from torch import Tensor, nn
from torch.optim import SGD

from fitcore.data import mnist
from fitcore.ensembles import Ensemble, LearningCurves, cross_entropies, fit, mean_squared_errors
from fitcore.gradients.depth import gradient_norms_by_layer
from fitcore.seeding import seeded


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
        make = nn.Conv2d if self.init == "default" else partial(nn.utils.skip_init, nn.Conv2d)  # not drawn twice
        layer = make(channels, channels, self.kernel, padding=self.kernel // 2, groups=count)
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


COPIES, BATCH = 6, 32

momentum_sgd = partial(SGD, momentum=0.9)


@dataclass(frozen=True)
class DigitsNetwork:
    """ReLU layers of 64 on digits of 8 x 8 pixels; biases start at zero."""

    layers: int = 8
    init: str = "standard normal"
    norm: type[nn.Module] | None = None

    def build(self) -> nn.Sequential:
        layers: list[nn.Module] = []
        for _ in range(self.layers):
            norm = [self.norm(64)] if self.norm else []
            layers += [initialised(nn.Linear(64, 64), self.init), *norm, nn.ReLU()]
        return nn.Sequential(*layers, initialised(nn.Linear(64, 10), self.init))


@dataclass(frozen=True)
class Lesson:
    """How a network learns. Each copy has digits of its own; as many as a batch make an epoch a step."""

    optimizer: Callable[..., torch.optim.Optimizer] = momentum_sgd
    lr: float = 0.05
    max_norm: float | None = None
    digits: int = 10 * BATCH
    epochs: int = 4


@dataclass(frozen=True)
class Outcome:
    """Copies of a network after training; norms of gradients and weights, each (copies,), are of all parameters."""

    ensemble: Ensemble
    x: Tensor
    curves: LearningCurves
    gradient_before: Tensor
    gradient_after: Tensor
    weights_before: Tensor
    weights_after: Tensor

    @property
    def loss(self) -> Tensor:
        return self.curves.losses[-1]

    @property
    def outputs(self) -> Tensor:
        """Of the inputs that it learned, (copies, n, ...)."""
        with torch.no_grad():
            return self.ensemble(self.x)


def gradients(ensemble, loss, x, y):
    (gradient,) = torch.autograd.grad(loss(ensemble(x), y).sum(), ensemble.flat)
    return ensemble.rows(gradient).double().norm(dim=1)


def trained(build, seeds, loss, data, lesson):
    ensemble = Ensemble(build, seeds)
    gradient, weights = gradients(ensemble, loss, *data), ensemble.rows().detach().double().norm(dim=1)
    curves = fit(
        ensemble,
        data,
        epochs=lesson.epochs,
        optimizer=partial(lesson.optimizer, lr=lesson.lr),
        loss=loss,
        batch_size=BATCH,
        max_norm=lesson.max_norm,
    )
    after = gradients(ensemble, loss, *data), ensemble.rows().detach().double().norm(dim=1)
    return Outcome(ensemble, data[0], curves, gradient, after[0], weights, after[1])


def pixels(digits):
    """The digits as 64 standardised numbers each."""
    pooled = nn.functional.avg_pool2d(digits.scaled[..., 2:-2, 2:-2], 3).flatten(1)
    return (pooled - pooled.mean()) / pooled.std()


def taught_digits(seeds, root, network, lesson):
    digits = mnist(root)
    with seeded(seeds[0]):
        rows = torch.stack([torch.randperm(len(digits))[: lesson.digits] for _ in seeds])
    x, y = pixels(digits[rows.flatten()]).unflatten(0, rows.shape), digits.labels[rows]
    return trained(network.build, seeds, cross_entropies, (x, y), lesson)


@pytest.fixture
def teach(shared, data_root):
    """``teach(layers=8, init="standard normal", norm=None, copies=6, **settings of a `Lesson`)`` gives an `Outcome`."""

    def run(layers=8, init="standard normal", norm=None, copies=COPIES, **settings) -> Outcome:
        network, lesson = DigitsNetwork(layers, init, norm), Lesson(**settings)
        return shared(taught_digits, tuple(shared.seeds(copies).tolist()), data_root, network, lesson)

    return run


@pytest.fixture
def test_digits(data_root):
    """Digits held out: 64 standardised numbers each, (500, 64), and labels, (500,)."""
    digits = mnist(data_root, train=False)[:500]
    return pixels(digits), digits.labels


class Amplified(nn.Module):
    """Ten times the sigmoid."""

    def forward(self, x):
        return 10 * torch.sigmoid(x)


def unstable():
    """The network of section 15.2."""
    return nn.Sequential(nn.Linear(10, 100), Amplified(), nn.Linear(100, 100), Amplified(), nn.Linear(100, 1))


def demonstration(seeds, lesson):
    with seeded(seeds[0]):
        x, y = torch.randn(len(seeds), 32, 10), torch.randn(len(seeds), 32, 1)
    return trained(unstable, seeds, mean_squared_errors, (x, y), lesson)


@pytest.fixture
def demonstrate(shared):
    """``demonstrate(**settings of a `Lesson`)`` gives the `Outcome` of section 15.2's demonstration."""

    def run(**settings) -> Outcome:
        lesson = Lesson(**{"optimizer": SGD, "lr": 0.01, "epochs": 100, **settings})
        return shared(demonstration, tuple(shared.seeds(2 * COPIES).tolist()), lesson)

    return run


@pytest.fixture
def demonstration_network():
    """Makes the network of section 15.2."""
    return unstable
