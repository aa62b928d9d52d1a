"""Section 9.2.1: how wide the hidden layers should be, on real digits.

The document fixes the widths alone. Here each copy learns 200 real digits of its own, so few that networks overfit, in
batches of 40 by Adam, whose rate falls from 0.001 to 0; it is tested on 2,000.
"""

import math
from dataclasses import dataclass
from functools import partial

import pytest
import torch
from torch import Tensor, nn
from torch.optim.lr_scheduler import PolynomialLR

from fitcore.data import mnist
from fitcore.data.moons import noisy_moons
from fitcore.ensembles import Ensemble, cross_entropies, fit
from fitcore.models import MLP, number_of_parameters
from fitcore.testing import CONDITIONAL, REFUTED, claim, override

NARROW, MIDDLE, WIDE = (16, 16), (256, 512), (2048, 2048)  # as the document has them
BATCH = 40


@dataclass(frozen=True)
class Lesson:
    """A network between the pixels and ten classes, and how it learns."""

    hidden: tuple[int, ...]
    epochs: int = 20
    digits: int = 200

    def build(self):
        return MLP([784, *self.hidden, 10], nn.ReLU)


@dataclass(frozen=True)
class Grades:
    """Share of the digits recognised, and losses, of each copy, (copies,)."""

    training: Tensor
    test: Tensor
    training_loss: Tensor
    test_loss: Tensor


@torch.no_grad()
def graded(networks, x, y):
    """Accuracies and losses of networks, each on its own images."""
    outputs = torch.stack([network(images) for network, images in zip(networks, x, strict=True)])
    return (outputs.argmax(-1) == y).float().mean(1), cross_entropies(outputs, y)


def learned(seeds, root, lesson):
    """Train a copy a seed; the first copies have the same images in every lesson."""
    training, test = mnist(root), mnist(root, train=False)
    draws = [torch.Generator().manual_seed(seed) for seed in seeds]
    rows = torch.stack([torch.randperm(len(training), generator=draw)[: lesson.digits] for draw in draws])
    x = training[rows.flatten()].scaled.flatten(1).unflatten(0, rows.shape)
    ensemble = Ensemble(lesson.build, seeds)
    adam = partial(torch.optim.Adam, lr=0.001, fused=True)
    data = (x, training.labels[rows])
    fit(
        ensemble,
        data,
        epochs=lesson.epochs,
        optimizer=adam,
        loss=cross_entropies,
        batch_size=BATCH,
        scheduler=partial(PolynomialLR, total_iters=lesson.epochs * math.ceil(lesson.digits / BATCH)),
        schedule_every="batch",
    )
    networks = [ensemble.module(copy) for copy in range(len(seeds))]
    seen = graded(networks, *data)
    held_out = graded(networks, ensemble.share(test.scaled.flatten(1)), ensemble.share(test.labels))
    return Grades(seen[0], held_out[0], seen[1], held_out[1])


@pytest.fixture
def learn(shared, data_root):
    """``learn(hidden, copies, **settings of a Lesson)``, trained once a session."""

    def train(hidden, copies=6, **settings):
        return shared(learned, tuple(shared.seeds(copies).tolist()), data_root, Lesson(hidden, **settings))

    return train


WIDE_LESSON = {"copies": 3, "epochs": 6}  # a dear one: it has learned its digits by heart after fewer epochs


@pytest.fixture
def wide(learn):
    """The document's widest network."""
    return learn(WIDE, **WIDE_LESSON)


def lead(first, second):
    """By how much the test accuracy of one is higher, on average over the copies that learned the same digits."""
    copies = min(len(first.test), len(second.test))
    return (first.test[:copies] - second.test[:copies]).mean()


@claim(
    "pytorch-notes/narrow-mlp-underfits-mnist",
    verdict=CONDITIONAL,
    finding="It is behind on both, but low only where there was little training: after 20 epochs with 200 digits 16-16 "
    "recognises about half of its digits and two fifths of others, 256-512 100 % and 81 %. After 150 epochs it knows "
    "its own by heart, and 77 % of others. (Measured once, after five epochs with 8,000 digits: 89 % and "
    "87 % against 97 % and 94 %.)",
    controls=[override("256-512", narrow=MIDDLE)],
)
def test_a_narrow_network_is_low_on_both_sets_until_it_is_trained_long(learn, evidence, narrow=NARROW):
    early, patient, middle = learn(narrow), learn(NARROW, epochs=150), learn(MIDDLE)
    arms = {"16-16": early, "16-16, 150 epochs": patient, "256-512": middle}
    evidence.compare("training accuracy", {name: arm.training for name, arm in arms.items()})
    evidence.compare("test accuracy", {name: arm.test for name, arm in arms.items()})
    assert early.training.mean() < middle.training.mean() - 0.15
    assert early.test.mean() < middle.test.mean() - 0.15
    assert patient.training.mean() > 0.95
    assert patient.test.mean() > early.test.mean() + 0.1


@claim(
    "pytorch-notes/wide-mlp-overfits-mnist",
    verdict=REFUTED,
    finding="Its test accuracy isn't lower: with 200 digits, known by heart after 6 and 20 epochs, both recognise "
    "about 81 % of others. (Measured once: after 20 epochs the wide one has 82 %, though a test loss of 0.79 against "
    "0.62; after 8,000 digits and five epochs 96 % against 94 %.)",
    controls=[override("16-16 for the wide one", hidden=NARROW)],
)
def test_the_widest_network_tests_no_worse_than_the_middle_one(learn, evidence, hidden=WIDE):
    middle, widest = learn(MIDDLE), learn(hidden, **WIDE_LESSON)
    arms = {"16-16": learn(NARROW), "64-64": learn((64, 64)), "256-512": middle, "2048-2048": widest}
    widths, gaps = [16, 64, 512, 2048], [arm.training - arm.test for arm in arms.values()]
    spread = {
        "training": [arm.training.mean() for arm in arms.values()],
        "test": [arm.test.mean() for arm in arms.values()],
        "gap": [gap.mean() for gap in gaps],
    }
    evidence.curve("accuracy", [math.log2(width) for width in widths], spread, x_label="log2 of the last width")
    evidence.compare("test accuracy", {name: arm.test for name, arm in arms.items()})
    evidence.compare("training - test accuracy", dict(zip(arms, gaps, strict=True)))
    assert widest.training.mean() > 0.95
    assert lead(middle, widest) < 0.05


@claim(
    "pytorch-notes/mid-width-best-balance",
    finding="The balance is one of cost: 256-512 recognises about 81 % of other digits, 16-16 two fifths, and "
    "2048-2048 with 17 times the parameters 81 %. It is not the best on test. (Measured once, after 8,000 digits and "
    "five epochs: the widest is ahead, 96 % against 94 %.)",
    controls=[override("16-16 called the middle", middle=NARROW), override("2048-2048 called it", middle=WIDE)],
)
def test_the_middle_width_tests_as_well_as_the_widest_at_a_fraction_of_its_size(learn, wide, evidence, middle=MIDDLE):
    arms = {"16-16": learn(NARROW), "middle": wide if middle is WIDE else learn(middle), "2048-2048": wide}
    evidence.compare("test accuracy", {name: arm.test for name, arm in arms.items()})
    narrow, balanced, widest = arms.values()
    assert lead(balanced, narrow) > 0.15
    assert abs(lead(balanced, widest)) < 0.05
    assert parameters(WIDE) > 15 * parameters(middle)


def parameters(hidden):
    return number_of_parameters(Lesson(hidden).build())


@claim(
    "pytorch-notes/mnist-256-512-is-enough",
    finding="After 200 digits it recognises about 81 % of others, as 2048-2048 does. (Measured once, after 8,000 "
    "digits and five epochs: 94 %, where 2048-2048 has 96 %.)",
    controls=[override("16-16", hidden=NARROW)],
)
def test_256_and_512_units_recognise_about_as_many_digits_as_2048(learn, wide, evidence, hidden=MIDDLE):
    middle = learn(hidden)
    evidence.compare("test accuracy", {"256-512": middle.test, "2048-2048": wide.test})
    assert middle.training.mean() > 0.95
    assert lead(wide, middle) < 0.05


def moon_accuracies(seeds, first):
    """Accuracy on new points of noisy moons of a network with ``first`` and 16 hidden units behind two inputs."""
    training, new = (noisy_moons(200, noise=0.15, flipped=0.0, sets=len(seeds)) for _ in range(2))
    ensemble = Ensemble(lambda: MLP([2, first, 16, 2]), seeds)
    adam = partial(torch.optim.Adam, lr=0.03, fused=True)
    fit(ensemble, training, epochs=100, optimizer=adam, loss=cross_entropies)
    with torch.no_grad():
        return (ensemble(new[0]).argmax(-1) == new[1]).float().mean(1)


@claim(
    "pytorch-notes/first-layer-smaller-than-input",
    verdict=CONDITIONAL,
    finding="Behind 784 pixels it saves much and costs little: 256-512 recognises 81 % of digits, as 2048-2048 does, "
    "whose first layer is wider than the input, with 17 times the parameters. Behind two inputs one unit is too few: "
    "87 % of noisy moons are classified rightly, 99 % with 16. The notes' own networks of 9.1 and 9.2 have 32 and 16 "
    "behind one input.",
    controls=[override("behind 784 pixels 16", pixels_first=NARROW), override("behind two inputs 16", few=16)],
    trials=40,
)
def test_a_narrow_first_layer_saves_behind_many_inputs_and_fails_behind_few(
    learn, wide, shared, trials, evidence, *, pixels_first=MIDDLE, few=1
):
    middle, seeds = learn(pixels_first), tuple(shared.seeds(trials.count).tolist())
    one, sixteen = (shared(moon_accuracies, seeds, first) for first in (few, 16))
    evidence.compare("test accuracy on digits", {"256-512": middle.test, "2048-2048": wide.test})
    evidence.compare("test accuracy on moons", {"1-16": one, "16-16": sixteen})
    assert lead(wide, middle) < 0.05
    assert parameters(WIDE) > 15 * parameters(MIDDLE)
    trials.less(one, sixteen, by=0.03, name="moons: better with a first layer wider than the input")


@claim(
    "pytorch-notes/increasing-width-better",
    finding="On average the two differ by less than half a point, and 512-256 has 60 % more parameters.",
    controls=[override("16-16 for the widening one", widening=NARROW)],
)
def test_layers_that_widen_test_about_as_well_as_layers_that_narrow(learn, evidence, widening=MIDDLE):
    growing, shrinking = learn(widening), learn((512, 256))
    evidence.compare("test accuracy", {"256-512": growing.test, "512-256": shrinking.test})
    assert abs(lead(growing, shrinking)) < 0.02
    assert parameters((512, 256)) > 1.5 * parameters(MIDDLE)
