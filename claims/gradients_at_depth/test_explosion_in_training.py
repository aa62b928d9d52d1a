"""Section 15.1.1: what exploding gradients do to training, and which of the remedies cures which explosion.

There are two kinds. Depth: a ReLU network on real digits whose weights are N(0, 1), each layer of 64 a factor of 5.7.
And steps that are too long: the network of section 15.2, whose gradients explode from one update to the next.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

import hypothesis.strategies as st
import pytest
import torch
from hypothesis import given
from torch import Tensor, nn
from torch.optim import SGD, Adam

from fitcore.data import mnist
from fitcore.ensembles import Ensemble, LearningCurves, cross_entropies, fit, mean_squared_errors
from fitcore.seeding import seeded
from fitcore.testing import CONDITIONAL, claim, override
from fitcore.testing.strategies import tensors

COPIES, BATCH = 6, 32
CHANCE = math.log(10)  # the loss of a network that gives each of ten digits the same probability

momentum_sgd = partial(SGD, momentum=0.9)


@dataclass(frozen=True)
class Network:
    """ReLU layers of 64 on digits of 8 x 8 pixels; biases start at zero."""

    layers: int = 8
    init: Callable[[Tensor], Tensor] = nn.init.normal_
    norm: type[nn.Module] | None = None

    def build(self):
        layers = []
        for _ in range(self.layers):
            norm = [self.norm(64)] if self.norm else []
            layers += [self.affine(64), *norm, nn.ReLU()]
        return nn.Sequential(*layers, self.affine(10))

    def affine(self, outputs):
        layer = nn.Linear(64, outputs)
        self.init(layer.weight)
        nn.init.zeros_(layer.bias)
        return layer


def kaiming(weight):
    return nn.init.kaiming_normal_(weight, nonlinearity="relu")


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
    """``teach(network, copies=6, **settings of a `Lesson`)`` gives an `Outcome`, computed once a session."""

    def run(network: Network, copies: int = COPIES, **settings) -> Outcome:
        return shared(taught_digits, tuple(shared.seeds(copies).tolist()), data_root, network, Lesson(**settings))

    return run


EXPLODING, KAIMING = Network(), Network(init=kaiming)
AT_ONCE = {"digits": BATCH, "epochs": 20}


@claim(
    "pytorch-notes/explosion-gives-nan-loss",
    verdict=CONDITIONAL,
    finding="So it is with SGD and N(0, 1) weights. With 5 layers the loss is 6e4, after one update some 1e14, and "
    "then NaN (in 1 network of 100 all units die instead); with 20 layers it is 1e16, and NaN after one update.",
    controls=[override("Kaiming's weights", init=kaiming)],
    trials=80,
)
@pytest.mark.parametrize(("layers", "copies"), [(5, 80), (20, 40)])
def test_by_sgd_the_loss_grows_until_it_is_nan(teach, trials, evidence, *, layers, copies, init=nn.init.normal_):
    curves = teach(Network(layers, init), copies, optimizer=SGD, digits=BATCH, epochs=5).curves
    falls = (curves.losses[1:] < curves.losses[:-1]).any(0)
    evidence.observe("log10 of the first loss", curves.losses[0].log10())
    evidence.observe("updates until it is not finite", curves.losses.isfinite().sum(0))
    trials.mostly(curves.losses[-1].isnan(), at_least=0.5, name="NaN after four updates")
    trials.mostly(~falls, at_least=0.5, name="and never lower than before until then")


@claim(
    "pytorch-notes/explosion-gives-nan-loss",
    verdict=CONDITIONAL,
    finding="With 3 layers, whose gradient is 1,300 at the start, only about one network in four ends in NaN. In more "
    "than half an update throws all units of a layer to where ReLU is zero: what is left are the last biases, and a "
    "loss of about log 10.",
    controls=[override("Kaiming's weights", init=kaiming)],
    trials=120,
)
def test_an_explosion_may_end_in_dead_units(teach, trials, evidence, init=nn.init.normal_):
    ended = teach(Network(3, init), trials.count, optimizer=SGD, digits=BATCH, epochs=15)
    same = (ended.outputs == ended.outputs[:, :1]).flatten(1).all(1)
    evidence.observe("gradient at the start", ended.gradient_before)
    evidence.observe("NaN in the end", ended.loss.isnan())
    evidence.observe("the same output for every digit", same)
    trials.always(ended.gradient_before > 50, name="a large gradient at the start")
    dead = same & (abs(ended.loss - CHANCE) < 0.4)
    trials.mostly(dead, at_least=0.2, name="the same output for every digit in the end")


@claim(
    "pytorch-notes/explosion-gives-nan-loss",
    "pytorch-notes/explosion-makes-huge-weights",
    verdict=CONDITIONAL,
    finding="Under Adam neither happens: its steps are as long whatever the gradient is. With 20 layers the "
    "gradient is 2e16; the loss falls, from 1e16 to 5e14 in 20 updates, and the weights keep their norm within a "
    "hundredth.",
    controls=[override("SGD", optimizer=SGD)],
)
def test_under_adam_gradients_explode_without_nan_or_huge_weights(teach, trials, evidence, optimizer=Adam):
    ended = teach(Network(20), optimizer=optimizer, lr=0.001, **AT_ONCE)
    losses = ended.curves.losses
    logarithms = {f"copy {copy}": losses[:, copy].log10() for copy in range(COPIES)}
    evidence.curve("log10 of the loss", range(len(losses)), logarithms, x_label="update")
    evidence.observe("log10 of the gradient's norm at the start", ended.gradient_before.log10())
    trials.always(ended.gradient_before > 1e10, name="the gradient explodes")
    trials.always(losses.isfinite().all(0) & (ended.loss < losses[0]), name="the loss falls and is never NaN")
    trials.always(abs(ended.weights_after / ended.weights_before - 1) < 0.01, name="the weights keep their norm")


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


@claim(
    "pytorch-notes/explosion-makes-huge-weights",
    verdict=CONDITIONAL,
    finding="Under SGD it does: four updates of the first model of 15.2 (seed 42), truly unclipped, take the second "
    "layer's weights from a norm of 6 to 1e7, and the last one's from 0.5 to 50,000.",
    controls=[override("a rate of 0.0001", lr=1e-4)],
    trials=1,
)
def test_the_weights_of_the_demonstration_become_huge(trials, evidence, lr=0.01):
    with seeded(42):  # the document's
        x, y, model = torch.randn(32, 10), torch.randn(32, 1), unstable()
    optimizer, norms = SGD(model.parameters(), lr=lr), []
    for _ in range(8):
        norms.append([layer.weight.norm().item() for layer in model[::2]])
        optimizer.zero_grad()
        nn.functional.mse_loss(model(x), y).backward()
        optimizer.step()
    first, second, last = torch.tensor(norms).log10().T
    evidence.curve(
        "log10 of the norm of the weights", range(8), {"fc1": first, "fc2": second, "fc3": last}, x_label="update"
    )
    grown = [10 ** float(weights[-1] - weights[0]) for weights in (first, second, last)]
    assert min(grown) > 50
    assert grown[1] > 10_000


@claim(
    "pytorch-notes/explosion-makes-huge-weights",
    verdict=CONDITIONAL,
    finding="So it is on any seed: all parameters together become more than a hundred times as large, or NaN.",
    controls=[override("Adam", optimizer=Adam), override("a rate of 0.0001", lr=1e-4)],
)
def test_under_sgd_the_weights_become_huge_on_any_seed(demonstrate, trials, evidence, optimizer=SGD, lr=0.01):
    ended = demonstrate(optimizer=optimizer, lr=lr)
    evidence.observe("NaN in the end", ended.weights_after.isnan())
    trials.always(~(ended.weights_after < 100 * ended.weights_before), name="a hundred times as large, or NaN")


def correct(ensemble, digits):
    with torch.no_grad():
        logits = ensemble(ensemble.share(pixels(digits)))
    return (logits.argmax(-1) == digits.labels).float().mean(1), logits


@claim(
    "pytorch-notes/nan-accuracy-looks-odd",
    finding="It becomes exactly the share of the digit 0, here 10 % after 77 %: argmax of a row of NaN is 0.",
    controls=[override("a rate of 0.01", lr=0.01)],
)
def test_after_the_loss_is_nan_the_accuracy_is_the_share_of_class_zero(teach, data_root, trials, evidence, lr=1e10):
    ensemble = teach(Network(2, kaiming)).ensemble[:]
    digits = mnist(data_root, train=False)[:500]
    before, _ = correct(ensemble, digits)
    of_training = ensemble.share(pixels(digits)), ensemble.share(digits.labels)
    fit(ensemble, of_training, epochs=10, optimizer=partial(momentum_sgd, lr=lr), loss=cross_entropies)
    after, logits = correct(ensemble, digits)
    zeros = (digits.labels == 0).float().mean()
    evidence.compare("accuracy", {"before": before, "after": after}, limit=float(zeros))
    trials.always(before > 0.4, name="most digits are recognised before")
    trials.always(logits.isnan().flatten(1).all(1), name="then all logits are NaN")
    trials.always(after == zeros, name="and the accuracy is the share of zeros")


@claim(
    "pytorch-notes/nan-accuracy-looks-odd",
    finding="Whatever the labels are: argmax takes the first NaN for the largest.",
    controls=[override("numbers for the first three classes", first=3)],
)
@given(labels=tensors((20,), torch.int64, st.integers(0, 9)), first=st.just(0))
def test_the_accuracy_of_nan_logits_depends_on_the_labels_alone(labels, first):
    logits = nn.functional.one_hot(labels, 10).float()
    assert (logits.argmax(1) == labels).all()
    logits[:, first:] = math.nan
    assert (logits.argmax(1) == labels).sum() == (labels == 0).sum()
    assert not logits.argmax(1).any()


@claim(
    "pytorch-notes/clipping-prevents-explosion-in-training",
    verdict=CONDITIONAL,
    finding="It does where the steps are too long. Section 15.2's network, whose loss exceeds 10,000 or is NaN at "
    "a rate of 0.01, learns clipped to 1: from losses of about 1 to 100 to one of 0.8 (median).",
    controls=[override("clipped in neither", max_norm=None)],
)
def test_clipping_cures_steps_that_are_too_long(demonstrate, trials, evidence, max_norm=1.0):
    clipped, unclipped = demonstrate(max_norm=max_norm), demonstrate()
    evidence.compare("loss, clipped", {"first": clipped.curves.losses[0], "last": clipped.loss})
    trials.always(~(unclipped.curves.losses < 1e4).all(0), name="not clipped: the loss exceeds 10,000 or is NaN")
    trials.always((clipped.curves.losses < 2 * clipped.curves.losses[0]).all(0), name="clipped: never twice the first")
    trials.always(clipped.loss < 20, name="and small in the end")


@claim(
    "pytorch-notes/clipping-prevents-explosion-in-training",
    verdict=CONDITIONAL,
    finding="Where depth makes it explode, clipping keeps it from becoming NaN, and the loss falls, but the explosion "
    "is still there after 40 updates. Eight layers of N(0, 1) weights have a gradient of 1e7; clipped to 1 it is still "
    "nearly 1e6, and the loss goes from 6e6 to 6e5, where Kaiming's weights, not clipped, have come to about 1.3 "
    "(medians).",
    controls=[override("Kaiming's weights", network=KAIMING)],
)
def test_clipping_alone_leaves_much_of_the_explosion_of_depth(teach, trials, evidence, network=EXPLODING):
    clipped, cured = teach(network, max_norm=1.0), teach(KAIMING)
    evidence.compare(
        "log10 of the gradient", {"before": clipped.gradient_before.log10(), "after": clipped.gradient_after.log10()}
    )
    evidence.compare("log10 of the loss", {"clipped": clipped.loss.log10(), "Kaiming": cured.loss.log10()})
    trials.always(clipped.curves.losses.isfinite().all(0), name="clipped: never NaN")
    trials.always(clipped.loss < clipped.curves.losses[0] / 2, name="clipped: the loss falls")
    trials.always((clipped.gradient_after > 1e3) & (clipped.loss > 1e3), name="clipped: exploded still")
    trials.always(cured.loss < 10, name="Kaiming's weights: nothing explodes")
    assert cured.loss.mean() < CHANCE - 0.05


@claim(
    "pytorch-notes/lower-lr-cures-explosion",
    verdict=CONDITIONAL,
    finding="It does where the steps are too long: at a hundredth of its rate section 15.2's network learns, from "
    "losses of about 1 to 100 to one of 0.8 (median).",
    controls=[override("the same rate", lr=0.01)],
)
def test_a_lower_rate_cures_steps_that_are_too_long(demonstrate, trials, evidence, lr=1e-4):
    slow, fast = demonstrate(lr=lr), demonstrate()
    evidence.compare("loss at the lower rate", {"first": slow.curves.losses[0], "last": slow.loss})
    trials.always(~(fast.curves.losses < 1e4).all(0), name="at 0.01 the loss exceeds 10,000 or is NaN")
    trials.always((slow.curves.losses < 2 * slow.curves.losses[0]).all(0), name="lower: never twice the first")
    trials.always((slow.loss < 20) & (slow.gradient_after < 100), name="and small in the end, as the gradient is")


@claim(
    "pytorch-notes/lower-lr-cures-explosion",
    verdict=CONDITIONAL,
    finding="It doesn't undo the one of depth: the gradient is 1e7 before any step. Eight layers of N(0, 1) weights "
    "become NaN at a rate of 1e-4; at 1e-6 some do, and some lose all their units, to a loss of log 10; at 1e-7 and "
    "1e-8 nothing overflows and the loss falls, but in 40 updates only from some 1e6 to 1e5 and 6e5, where Kaiming's "
    "weights come to about 1.3 at 0.05 (medians).",
    controls=[override("Kaiming's weights", network=KAIMING, rates=(0.05, 0.02))],
)
def test_a_lower_rate_does_not_undo_the_explosion_of_depth(
    teach, trials, evidence, network=EXPLODING, rates=(1e-4, 1e-6, 1e-7, 1e-8)
):
    slow = [teach(network, lr=rate) for rate in rates]
    rows = zip(rates, slow, strict=True)
    evidence.table(
        "loss after 40 updates", [{"rate": rate, "median": f"{ended.loss.median():.3g}"} for rate, ended in rows]
    )
    trials.always(slow[0].gradient_before > 1e5, name="the gradient has exploded before the first step")
    learnt = torch.stack([(ended.loss < CHANCE - 0.3).any() for ended in slow])  # NaN is not
    trials.always(~learnt, name="after 40 updates no copy is better than guessing, at any rate")
    trials.always(slow[-1].loss < slow[-1].curves.losses[0] / 2, name="at the lowest the loss falls")
    assert teach(KAIMING).loss.mean() < CHANCE - 0.05


def xavier(weight):
    return nn.init.xavier_normal_(weight)


@claim(
    "pytorch-notes/better-init-prevents-explosion",
    finding="Eight layers of N(0, 1) weights have a gradient of 1e7, and a loss of NaN after 40 updates. Kaiming's "
    "begin with about 6 and come to a loss of 1.3, Xavier's with 0.2 and to 1.7 (medians).",
    controls=[override("N(0, 1)", init=nn.init.normal_)],
)
@pytest.mark.parametrize("init", [kaiming, xavier])
def test_with_a_better_start_nothing_explodes_and_the_network_learns(teach, trials, evidence, init):
    better, worse = teach(Network(init=init)), teach(EXPLODING)
    evidence.observe("gradient at the start", better.gradient_before)
    evidence.compare("loss", {"first epoch": better.curves.losses[0], "last epoch": better.loss})
    trials.always(worse.gradient_before > 1e5, name="N(0, 1): a gradient above 100,000")
    assert worse.loss.isnan().float().mean() > 0.5
    trials.always((better.gradient_before < 1e3) & (better.gradient_after < 1e3), name="better: below a thousand")
    assert better.loss.mean() < CHANCE - 0.05


@claim(
    "pytorch-notes/norm-layers-rescue-bad-init",
    finding="Eight layers of N(0, 1) weights begin with a gradient of 5 (BatchNorm) or 12 (LayerNorm) instead of "
    "1e7, and nothing becomes NaN. With BatchNorm the network learns, to a loss of about 1.5 in 40 updates; with "
    "LayerNorm it falls from 4.6 in the first ten to 2.3, that of guessing (medians).",
    controls=[override("no normalisation", norm=None)],
)
@pytest.mark.parametrize("norm", [nn.BatchNorm1d, nn.LayerNorm])
def test_normalisation_keeps_a_bad_start_from_becoming_nan(teach, trials, evidence, norm):
    rescued, lost = teach(Network(norm=norm)), teach(EXPLODING)
    evidence.observe("gradient at the start", rescued.gradient_before)
    evidence.compare("loss", {"first epoch": rescued.curves.losses[0], "last epoch": rescued.loss})
    assert lost.loss.isnan().float().mean() > 0.5
    trials.always(rescued.gradient_before < 1e3, name="with it: a gradient below a thousand")
    trials.always(rescued.curves.losses.amax(0) < 50, name="and a loss that stays below 50")
    assert rescued.loss.mean() < rescued.curves.losses[0].mean() - 0.5
