"""Networks trained once a session for the claims of the notes on over- and underfitting, L1 and L2 (sections 18)."""

from collections.abc import Callable
from dataclasses import dataclass
from functools import cache, partial
from itertools import pairwise

import pytest
import torch
from sklearn.datasets import load_digits
from torch import Tensor, nn
from torch.optim import Adam, Optimizer

from fitcore.ensembles import Ensemble, LearningCurves, cross_entropies, fit, mean_squared_errors
from fitcore.ensembles.batches import Batches
from fitcore.ensembles.gradients import gradients_of
from fitcore.models import MLP
from fitcore.regularizers import ProximalSGD, l1_penalty, norms, sparsity
from fitcore.seeding import seeded

# Sections 18 and 18.1: digits learned by heart, or hardly at all

HELD_OUT = 300


@dataclass(frozen=True)
class Digits:
    """A ReLU network for digits: its hidden layers, its data, its training by AdamW, and the remedies in use.

    Digits are scikit-learn's, of 8x8 pixels, 200 or so for training and HELD_OUT others. ``wrong`` is the share of
    training labels that are drawn anew. Training images are ``changed`` anew in every batch, as `CHANGES` says.
    """

    hidden: tuple[int, ...] = (64,)
    samples: int = 200
    wrong: float = 0.0
    epochs: int = 30
    decay: float = 0.0
    dropout: float = 0.0
    changed: str = "as they are"


@dataclass(frozen=True)
class Curves:
    """Shares of right answers after each epoch, (epochs, trials); `testing` is one half of `held_out`.

    ``on_shifted`` (trials,) is that on held-out digits shifted by a pixel, in the end.
    """

    training: Tensor
    stopping: Tensor
    testing: Tensor
    on_shifted: Tensor

    @property
    def epochs(self) -> Tensor:
        return torch.arange(1, len(self.training) + 1)

    @property
    def held_out(self) -> Tensor:
        return (self.stopping + self.testing) / 2

    @property
    def gap(self) -> Tensor:
        """Training accuracy less held-out accuracy in the end, (trials,)."""
        return self.training[-1] - self.held_out[-1]


@cache
def images_and_labels() -> tuple[Tensor, Tensor]:
    """Every digit, (n, 8, 8) in [0, 1], and what it shows."""
    digits = load_digits()
    return torch.from_numpy(digits.images / 16).float(), torch.from_numpy(digits.target)


def as_they_are(images: Tensor) -> Tensor:
    return images


def shifted(images: Tensor) -> Tensor:
    """Each image (trials, n, 8, 8) moved by up to one pixel along both axes."""
    framed = nn.functional.pad(images, (1, 1, 1, 1)).flatten(2)  # 10 pixels a row
    down, right = torch.randint(3, (2, *images.shape[:2], 1))
    places = (10 * torch.arange(8)[:, None] + torch.arange(8)).flatten()
    return framed.gather(2, 10 * down + right + places).view(images.shape)


def upside_down(images: Tensor) -> Tensor:
    """Every second image, at random, turned upside down."""
    return torch.where(torch.rand(*images.shape[:2], 1, 1) < 0.5, images.flip(-2), images)


CHANGES = {"as they are": as_they_are, "shifted": shifted, "upside down": upside_down}


def accuracies(logits: Tensor, labels: Tensor) -> Tensor:
    """Share of right answers of each trial, (trials,); ties count as right."""
    best = logits.amax(-1)  # several times as fast as argmax
    return (logits.gather(-1, labels[..., None])[..., 0] >= best).float().mean(1)


def digits_learned(seeds: tuple[int, ...], setting: Digits) -> Curves:
    """Train one network a seed. Trial k has the same digits and, but for those drawn anew, labels in every setting."""
    images, labels = images_and_labels()
    n, total = setting.samples, setting.samples + HELD_OUT
    change = CHANGES[setting.changed]
    with seeded(seeds[0]):
        rows = torch.stack([torch.randperm(len(labels))[:total] for _ in seeds])
        x, y = images[rows], labels[rows]
        drawn, wrong = torch.randint(10, y.shape), torch.rand(y.shape) < setting.wrong
        y[:, :n] = torch.where(wrong, drawn, y)[:, :n]
        moved = shifted(x[:, n:]).flatten(2)
        flat = x.flatten(2)
        ensemble = Ensemble(lambda: MLP([64, *setting.hidden, 10], nn.ReLU, dropout=setting.dropout), seeds)
        evaluation = gradients_of(ensemble, accuracies, flat)
        gradients = gradients_of(ensemble, cross_entropies, flat)  # the last one made fills ensemble.flat.grad
        optimizer = torch.optim.AdamW([ensemble.flat], lr=0.01, weight_decay=setting.decay, fused=True)
        parts = slice(0, n), slice(n, n + HELD_OUT // 2), slice(n + HELD_OUT // 2, total)
        sets = [evaluation.arrange(flat[:, part], y[:, part]) for part in parts]
        batches = Batches((x[:, :n], y[:, :n]), seeds, 50, lambda *batch: batch)
        scores = []
        for _ in range(setting.epochs):
            for pictures, targets, _ in batches.epoch():
                gradients(*gradients.arrange(change(pictures).flatten(2), targets))
                optimizer.step()
            scores.append(torch.stack([evaluation.losses(*data) for data in sets]))
        on_shifted = evaluation.losses(*evaluation.arrange(moved, y[:, n:]))
    return Curves(*torch.stack(scores, dim=1), on_shifted)


@pytest.fixture
def learned(shared, trials) -> Callable[..., Curves]:
    """``learned(**settings of `Digits`)``, a network a trial, trained once a session."""
    return lambda **settings: shared(digits_learned, tuple(shared.seeds(trials.count).tolist()), Digits(**settings))


# Section 18.2.1: the listing, from many starts at once

STARTS = 20


@dataclass(frozen=True)
class Penalty:
    """What an arm of the listing adds: the optimizer's weight decay, and the L1 penalty, as a proximal step or not."""

    weight_decay: float = 0.0
    l1: float = 0.0
    proximal: bool = False


@dataclass(frozen=True)
class Arm:
    """One arm of the listing under STARTS starts. Starts 2k and 2k + 1 share data, and each start all arms.

    ``training`` (starts,) is the mean squared error of the last epoch, ``test`` (10, starts) that of 500 new samples
    every 20 epochs; ``targets`` the mean square of what is to be predicted. Norms are summed over the parameters, as
    the listing does. ``penalty`` is Σ|w|, ``zeros`` the share of weights that are exactly zero.
    """

    training: Tensor
    test: Tensor
    targets: Tensor
    norms_before: Tensor
    norms_after: Tensor
    penalty: Tensor
    zeros: Tensor

    @property
    def test_of_other_start(self) -> Tensor:
        """Test loss in the end of the other start on the same data."""
        return self.test[-1].view(-1, 2).flip(1).flatten()


def listed_network() -> nn.Module:
    return MLP([20, 100, 100, 100, 1], nn.ReLU)


def linear_data(pairs: int, samples: int, weights: Tensor) -> tuple[Tensor, Tensor]:
    """Inputs and noisy linear targets of ``pairs`` data sets, each twice in a row."""
    x = torch.randn(pairs, samples, 20)
    y = x @ weights + 0.1 * torch.randn(pairs, samples, 1)
    return x.repeat_interleave(2, 0), y.repeat_interleave(2, 0)


def regularised(seeds: tuple[int, ...], penalty: Penalty) -> Arm:
    """Train as the listing does, one network a seed: 100 samples, 200 epochs of SGD at 0.01 on all of them at once."""
    with seeded(seeds[0]):
        weights = torch.randn(len(seeds) // 2, 20, 1)
        training, test = (linear_data(len(seeds) // 2, samples, weights) for samples in (100, 500))
    ensemble = Ensemble(listed_network, seeds)
    before = torch.stack([norms(copy).sum() for copy in parameters(ensemble)])
    sgd = partial(ProximalSGD, l1=penalty.l1) if penalty.proximal else torch.optim.SGD
    curves = fit(
        ensemble,
        training,
        epochs=200,
        optimizer=partial(sgd, lr=0.01, weight_decay=penalty.weight_decay),
        l1=0.0 if penalty.proximal else penalty.l1,
        validation=test,
        validate_every=20,
    )
    copies = parameters(ensemble)
    return Arm(
        curves.losses[-1],
        curves.validation_losses[19::20],
        mean_squared_errors(torch.zeros_like(test[1]), test[1]),
        before,
        torch.stack([norms(copy).sum() for copy in copies]),
        torch.stack([l1_penalty(copy) for copy in copies]),
        torch.tensor([sparsity(copy) for copy in copies]),
    )


def parameters(ensemble: Ensemble) -> list[list[Tensor]]:
    """Those of each copy."""
    return [list(copy) for copy in zip(*ensemble.stacks(ensemble.flat.detach()).values(), strict=True)]


@pytest.fixture
def arm(shared):
    """``arm(weight_decay=0.01)`` or ``arm(l1=0.001)`` or ``arm()``: an `Arm` of the listing, trained once a session."""

    def train(starts: int = STARTS, **penalty) -> Arm:
        return shared(regularised, tuple(shared.seeds(starts).tolist()), Penalty(**penalty))

    return train


# Section 18.2.2: hidden layers with BatchNorm and dropout, in any order

FUSED_ADAM = partial(Adam, fused=True)


def layered(widths: tuple[int, ...], order: str, p: float) -> nn.Sequential:
    """A network whose hidden layers are affine ones, each followed by what ``order`` names: "norm relu", say."""
    layers: list[nn.Module] = []
    for fan_in, fan_out in pairwise(widths[:-1]):
        parts = {"norm": nn.BatchNorm1d(fan_out), "relu": nn.ReLU(), "dropout": nn.Dropout(p)}
        layers += [nn.Linear(fan_in, fan_out), *(parts[name] for name in order.split())]
    return nn.Sequential(*layers, nn.Linear(*widths[-2:]))


@dataclass(frozen=True)
class Lesson:
    """200 digits of 8x8 pixels and how they are learned; ``wrong`` is the share of labels drawn anew.

    Default initial weights are multiplied by each of ``scales``, for a copy of its own.
    """

    order: str = "relu"
    p: float = 0.5
    hidden: tuple[int, ...] = (128,)
    wrong: float = 0.0
    scales: tuple[float, ...] = (1.0,)
    optimizer: Callable[..., Optimizer] = FUSED_ADAM
    lr: float = 0.003
    batch_size: int = 50
    epochs: int = 12


@dataclass(frozen=True)
class Taught:
    """What was learned: loss and accuracy are of ``x`` and ``y``, digits held out, in evaluation, (scales, trials)."""

    ensemble: Ensemble
    curves: LearningCurves
    x: Tensor
    y: Tensor
    loss: Tensor
    accuracy: Tensor

    @property
    def training(self) -> Tensor:
        """Loss of every epoch, as training reports it, (epochs, scales, trials)."""
        return self.curves.losses.unflatten(1, self.loss.shape)


def teach_digits(seeds: tuple[int, ...], lesson: Lesson) -> Taught:
    """Train one network a seed and scale; trial k has the same digits in every lesson of as many trials."""
    images, labels = images_and_labels()
    with seeded(seeds[0]):
        rows = torch.stack([torch.randperm(len(labels))[:500] for _ in seeds]).repeat(len(lesson.scales), 1)
        x, y = images[rows].flatten(2), labels[rows]
        drawn, wrong = torch.randint(10, (len(y), 200)), torch.rand(len(y), 200) < lesson.wrong
    y[:, :200] = torch.where(wrong, drawn, y[:, :200])
    make = partial(layered, (64, *lesson.hidden, 10), lesson.order, lesson.p)
    ensemble = Ensemble(make, seeds * len(lesson.scales))
    scales = torch.tensor(lesson.scales).repeat_interleave(len(seeds))
    with torch.no_grad():
        for stack in ensemble.stacks().values():
            if stack.ndim == 3:  # weights, and no biases or factors of BatchNorm
                stack.mul_(scales[:, None, None])
    curves = fit(
        ensemble,
        (x[:, :200], y[:, :200]),
        epochs=lesson.epochs,
        optimizer=partial(lesson.optimizer, lr=lesson.lr),
        loss=cross_entropies,
        batch_size=lesson.batch_size,
    )
    x, y = x[:, 200:], y[:, 200:]
    with torch.no_grad():
        logits = ensemble.eval()(x)
    scores = torch.stack([cross_entropies(logits, y), (logits.argmax(-1) == y).float().mean(1)])
    return Taught(ensemble, curves, x, y, *scores.unflatten(1, (len(lesson.scales), len(seeds))))


@pytest.fixture
def taught(shared, trials) -> Callable[..., Taught]:
    """``taught("norm relu", **settings of a `Lesson`)``, a network a trial and scale, trained once a session."""
    return lambda order, **settings: shared(
        teach_digits, tuple(shared.seeds(trials.count).tolist()), Lesson(order, **settings)
    )


@dataclass(frozen=True)
class Noise:
    """The listing's regression of noise on noise, by default a fifth as wide, with a tenth of the samples."""

    order: str
    p: float = 0.5
    lr: float = 0.003
    samples: int = 100
    features: int = 20
    epochs: int = 60


def learn_noise(seeds: tuple[int, ...], noise: Noise) -> LearningCurves:
    """Train one network a seed; validation is on as many new samples. Trial k has the same data in every setting."""
    with seeded(seeds[0]):
        x = torch.randn(len(seeds), 2 * noise.samples, noise.features)
        y = torch.randn(len(seeds), 2 * noise.samples, 1)
    widths = (noise.features, 2 * noise.features, 2 * noise.features, 1)
    return fit(
        Ensemble(partial(layered, widths, noise.order, noise.p), seeds),
        (x[:, : noise.samples], y[:, : noise.samples]),
        epochs=noise.epochs,
        optimizer=partial(Adam, lr=noise.lr),
        validation=(x[:, noise.samples :], y[:, noise.samples :]),
        validate_every=10,
    )


@pytest.fixture
def noise_learned(shared, trials) -> Callable[..., LearningCurves]:
    """``noise_learned("relu dropout", p=0.5, **settings of `Noise`)``, a network a trial, trained once a session."""
    return lambda order, **settings: shared(
        learn_noise, tuple(shared.seeds(trials.count).tolist()), Noise(order, **settings)
    )
