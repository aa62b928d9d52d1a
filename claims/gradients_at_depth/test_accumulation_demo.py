"""Section 15.3: the demonstration of gradient accumulation, as printed."""

from dataclasses import dataclass, field
from statistics import mean

import torch
from torch import nn
from torch.nn.functional import mse_loss
from torch.optim import Adam

from fitcore.seeding import seeded
from fitcore.testing import REFUTED, claim, error_of, override

BATCH = 8


@dataclass
class Record:
    """What the listing prints and plots, and what each update is made of: how many batches of how many samples."""

    plotted: list[float] = field(default_factory=list)
    batch_losses: list[float] = field(default_factory=list)
    updates: list[list[int]] = field(default_factory=list)
    shares: list[float] = field(default_factory=list)

    def losses_of_updates(self):
        """The mean loss of the samples of each update."""
        left = iter(self.batch_losses)
        return [mean(next(left) for _ in sizes) for sizes in self.updates]


def so_far(losses, every):
    """What the listing prints: the mean over all batches of the epoch so far."""
    return mean(losses)


def of_the_update(losses, every):
    return mean(losses[-every:])


def listing(*, samples=1000, every=4, report=so_far, epochs=3):
    """The listing's loop under its own seed."""
    record, sizes = Record(), []
    with seeded(42):
        x, y = torch.randn(samples, 100), torch.randn(samples, 100)
        model = nn.Sequential(*(nn.Linear(100, 100) for _ in range(10)))
    optimizer = Adam(model.parameters(), lr=0.001, fused=True)

    def step():
        record.updates.append(sizes.copy())
        optimizer.step()
        optimizer.zero_grad()
        sizes.clear()

    for _ in range(epochs):
        losses = []
        for inputs, targets in zip(x.split(BATCH), y.split(BATCH), strict=True):
            loss = mse_loss(model(inputs), targets)
            (loss / every).backward()
            losses.append(loss.item())
            sizes.append(len(inputs))
            if len(losses) % every == 0:
                step()
                record.plotted.append(report(losses, every))
        if sizes:
            step()
        record.batch_losses += losses
    return record


DRAWING = """
plt.figure(figsize=(10, 6))
plt.plot(losses)
plt.show()
"""


@claim(
    "pytorch-notes/clip-demo-needs-matplotlib-import",
    finding="This one trains its model for three epochs and draws one curve, after the same imports.",
    controls=[override("pyplot under another name than plt", imported="pyplot")],
)
def test_the_demonstration_of_accumulation_trains_and_draws(shared, pyplot, imported="plt"):
    settings = {"every": 4, "epochs": 3}
    assert error_of(shared, listing, **settings) is None
    names = {imported: pyplot, "losses": shared(listing, **settings).plotted}
    assert error_of(exec, DRAWING, names) is None
    assert [len(line.get_xdata()) for line in pyplot.gca().get_lines()] == [93]


@claim(
    "pytorch-notes/accumulation-demo-prints-8-4-32",
    finding="And so it is: each update but the last of an epoch adds up 4 batches of 8, 32 samples.",
    controls=[override("an update after every batch", every=1, epochs=1)],
)
def test_an_update_takes_4_batches_of_8(shared, evidence, every=4, epochs=3):
    first, *_, last = shared(listing, every=every, epochs=epochs).updates[:32]
    assert evidence.figure(
        "batch size, accumulation steps, effective batch size",
        reported=[8, 4, 32],
        measured=[first[0], len(first), sum(first)],
        tolerance=0,
    )
    assert last == [8]


@claim(
    "pytorch-notes/accumulation-demo-logs-every-update",
    verdict=REFUTED,
    finding="96 updates, 93 points: 125 batches leave one over in every epoch, and its update is made after the loop, "
    "where nothing is recorded. With 1,024 samples none is left over and each update has its point.",
    controls=[override("1,024 samples", samples=1024, epochs=1)],
)
def test_the_last_update_of_an_epoch_is_not_plotted(shared, evidence, samples=1000, epochs=3):
    record, even = shared(listing, samples=samples, epochs=epochs), shared(listing, samples=1024, epochs=1)
    assert not evidence.figure(
        "points in the plot, by updates", reported=len(record.updates), measured=len(record.plotted), tolerance=0
    )
    assert (len(record.updates), len(record.plotted)) == (96, 93)
    assert [len(sizes) for sizes in record.updates[31::32]] == [1, 1, 1]
    assert len(even.updates) == len(even.plotted) == 32


@claim(
    "pytorch-notes/accumulation-demo-loss-is-current-loss",
    verdict=REFUTED,
    finding="It is the mean over all batches of the epoch so far, and so only the first of an epoch is that of its "
    "update. Losses of single updates differ from it by up to 0.06 and vary more: the plot is smoother than the "
    "training.",
    controls=[override("the mean of the update's batches", report=of_the_update, epochs=1)],
)
def test_the_printed_loss_is_a_running_mean(shared, evidence, report=so_far, epochs=3):
    record = shared(listing, report=report, epochs=epochs)
    whole = [loss for loss, sizes in zip(record.losses_of_updates(), record.updates, strict=True) if len(sizes) == 4]
    plotted, current = (torch.tensor(values, dtype=torch.float64).view(-1, 31) for values in (record.plotted, whole))
    curves = {"printed": plotted.flatten(), "of the update": current.flatten()}
    evidence.curve("loss", range(1, plotted.numel() + 1), curves, x_label="printed line")
    means = current.cumsum(1) / torch.arange(1, 32)
    torch.testing.assert_close(plotted, means)
    assert (plotted - current).abs().max() > 0.03
    assert (plotted[:, 10:].std(1) < current[:, 10:].std(1) / 2).all()


def epoch_means(lr=0.001):
    """Mean losses of the three epochs, each update's batches in one: that is the same gradient, but for rounding."""
    x, y = torch.randn(1000, 100), torch.randn(1000, 100)
    model = nn.Sequential(*(nn.Linear(100, 100) for _ in range(10)))
    optimizer, means = Adam(model.parameters(), lr=lr, fused=True), []
    for _ in range(3):
        total = 0.0
        for inputs, targets in zip(x.split(32), y.split(32), strict=True):
            optimizer.zero_grad()
            loss = mse_loss(model(inputs), targets)
            (loss * (len(inputs) / 32)).backward()
            optimizer.step()
            total += loss.item() * len(inputs) / len(x)
        means.append(total)
    return means


@claim(
    "pytorch-notes/accumulation-demo-loss-falls",
    finding="The mean of an epoch falls from epoch to epoch, under every seed, by about 0.004 of 1: the targets are "
    "noise, of variance 1. The plot hardly shows it, where running means begin anew in each epoch: with seed 42 it "
    "ends higher than it begins.",
    controls=[override("a learning rate of zero", lr=0.0)],
    trials=3,
)
def test_the_mean_loss_falls_a_little_in_each_epoch(shared, trials, evidence, lr=0.001):
    means = trials.map(lambda seed: epoch_means(lr))
    by_epoch = {f"epoch {epoch}": means[:, epoch - 1] for epoch in (1, 2, 3)}
    evidence.compare("mean loss", by_epoch)
    falls = means[:, :-1] - means[:, 1:]
    trials.always((falls > 0).all(1), name="falls in every epoch")
    trials.always((falls < 0.02).all(1), name="by less than 2 %")
    plotted = shared(listing).plotted
    assert plotted[-1] > plotted[0]
