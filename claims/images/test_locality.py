"""Sections 10.6.5 and 12: that neighbouring pixels are related, and that a convolution asks for nothing else."""

from functools import partial

import torch
from torch import nn

from fitcore.data import mnist
from fitcore.ensembles import Ensemble, cross_entropies, fit
from fitcore.models import MLP
from fitcore.seeding import seeded
from fitcore.testing import CONDITIONAL, claim, override

DISTANCES = [1, 2, 3, 5, 8, 12]


def correlations(images, distance):
    """Correlation of two pixels so far apart in a row, over images (n, height, width), at each place."""
    left, right = (part - part.mean(0) for part in (images[..., :-distance], images[..., distance:]))
    spread = left.square().mean(0).sqrt() * right.square().mean(0).sqrt()
    return (left * right).mean(0)[spread > 0] / spread[spread > 0]


def in_place(images):
    return images


def in_random_order(images):
    return images.flatten(1)[:, torch.randperm(images[0].numel())].view_as(images)


@claim(
    "pytorch-notes/neighbouring-pixels-are-related",
    finding="In the middle 20x20 pixels of real digits two neighbours have a correlation of 0.75, pixels 2 apart 0.40, "
    "3 apart 0.15 and from 5 on about none. With the pixels in random order neighbours have hardly any, about 0.06.",
    controls=[override("pixels in random order", order=in_random_order)],
    trials=20,
)
def test_neighbours_are_correlated_and_distant_pixels_not(trials, data_root, evidence, order=in_place):
    digits = mnist(data_root)[:2000].scaled[:, 0, 4:24, 4:24]

    def by_distance(seed):
        chosen = order(digits[torch.randperm(len(digits))[:500]])
        return torch.stack([correlations(chosen, distance).mean() for distance in DISTANCES])

    def neighbours_in_random_order(seed):
        return correlations(in_random_order(digits), 1).mean()

    found, scrambled = trials.map(by_distance), trials.map(neighbours_in_random_order)
    evidence.curve(
        "mean correlation of two pixels in a row", DISTANCES, {"digits": found.mean(0)}, x_label="distance in pixels"
    )
    evidence.observe("correlation of neighbours in random order", scrambled)
    trials.always(found[:, 0] > 0.6, name="neighbours are correlated")
    trials.always(abs(found[:, 3:]).max(1) < 0.25, name="from five pixels on they are not")
    trials.always(abs(scrambled) < 0.2, name="nor are neighbours in random order")


COPIES, LENGTH, PIECE = 8, 64, 9


def signals(n):
    """Noise (n, 64) with a ramp somewhere in it, rising or falling, and which of the two, (n,)."""
    ramp, labels = torch.linspace(-2, 2, PIECE), torch.randint(2, (n,))
    starts = torch.randint(LENGTH - PIECE + 1, (n, 1))
    pieces = torch.where(labels[:, None] == 1, ramp, -ramp)
    return (0.5 * torch.randn(n, LENGTH)).scatter_add(1, starts + torch.arange(PIECE), pieces), labels


class SignalCNN(nn.Module):
    """Eight kernels over a signal, and the largest answer of each."""

    def __init__(self):
        super().__init__()
        self.convolution, self.output = nn.Conv1d(1, 8, PIECE), nn.Linear(8, 2)

    def forward(self, x):
        return self.output(self.convolution(x[:, None]).relu().amax(-1))


def small_mlp():
    return MLP([LENGTH, 32, 2], nn.ReLU)


def accuracies(seeds, network, reorder):
    """Share of fresh signals told apart after 200 of them, by a network for each seed."""
    with seeded(seeds[0]):
        x, y = signals(COPIES * 500)
        x = x[:, torch.randperm(LENGTH)] if reorder else x
    x, y = x.view(COPIES, 500, LENGTH), y.view(COPIES, 500)
    ensemble = Ensemble(network, seeds)
    adam = partial(torch.optim.Adam, lr=0.03)
    fit(ensemble, (x[:, :200], y[:, :200]), epochs=60, optimizer=adam, loss=cross_entropies)
    with torch.no_grad():
        return (ensemble(x[:, 200:]).argmax(-1) == y[:, 200:]).float().mean(1)


@claim(
    "pytorch-notes/cnn-is-only-for-images",
    verdict=CONDITIONAL,
    finding="Made for images, but not only for them: of signals with a rising or a falling ramp somewhere a small "
    "one-dimensional CNN tells 99.9 %, an MLP 60 %. What it needs are neighbours: with the samples in a fixed random "
    "order 56 %.",
    controls=[override("samples in random order", reorder=True)],
)
def test_a_cnn_tells_signals_apart_where_neighbours_are_related(shared, evidence, reorder=False):
    seeds = tuple(shared.seeds(COPIES).tolist())
    cnn, mlp = (shared(accuracies, seeds, network, reorder) for network in (SignalCNN, small_mlp))
    scrambled = shared(accuracies, seeds, SignalCNN, True)
    arms = {"CNN": cnn, "MLP": mlp, "CNN, samples in random order": scrambled}
    evidence.compare("share of signals told apart", arms)
    assert cnn.mean() > mlp.mean() + 0.15
    assert cnn.mean() > scrambled.mean() + 0.15
