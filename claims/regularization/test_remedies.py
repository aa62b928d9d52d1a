"""Section 18.1, the means against overfitting: early stopping, augmentation, smaller models, and the dropout listing.

Where the document names no experiment, ReLU networks learn 200 digits of 8x8 pixels by AdamW at 0.01 for 30 epochs.
"""

import hypothesis.strategies as st
import pytest
import torch
from hypothesis import given, settings
from torch import nn
from torch.testing import assert_close

from fitcore.models import number_of_parameters
from fitcore.seeding import seeded
from fitcore.testing import CONDITIONAL, claim, error_of, override, replace
from fitcore.training import EarlyStopping

TRIALS = 60
WRONG = 0.4  # share of training labels drawn at random
WIDE = {"hidden": (128,), "epochs": 40}


def medians(arms):
    return {name: arm.held_out.median(1).values for name, arm in arms.items()}


def at_the_stop(curves, patience):
    """Accuracy on one half of what is held out when the other has not improved for ``patience`` epochs: both ways."""

    def after(deciding, other):
        stopping = EarlyStopping(patience)
        stopped = torch.stack([stopping.update(-accuracy).clone() for accuracy in deciding])
        stopped[-1] = True
        return other.gather(0, stopped.int().argmax(0)[None])[0]

    return (after(curves.stopping, curves.testing) + after(curves.testing, curves.stopping)) / 2


@claim(
    "pytorch-notes/early-stopping-on-test-drop",
    verdict=CONDITIONAL,
    finding="Where 40 % of the training labels are random, a stop at the first epoch without a gain in held-out "
    "accuracy leaves some 11 points more than all 40 epochs do, a stop after two such epochs 14, measured on digits "
    "that had no say in it. With true labels there is nothing to be saved: they cost about 5 points and 2 (medians).",
    controls=[
        override("endless patience", patience=1000),
        override("true labels", wrong=0.0),
        override("no stop at the first fall", hasty=1000),
    ],
    trials=TRIALS,
)
def test_stopping_early_pays_where_labels_are_wrong(learned, trials, evidence, *, patience=2, hasty=1, wrong=WRONG):
    overfitting, clean = learned(**WIDE, wrong=wrong), learned(**WIDE)
    stopped, hastily = at_the_stop(overfitting, patience), at_the_stop(clean, hasty)
    curves = medians({"40 % random": overfitting, "true": clean})
    evidence.curve("median held-out accuracy", clean.epochs, curves, x_label="epoch")
    evidence.compare("40 % random labels", {"at the stop": stopped, "at the end": overfitting.held_out[-1]})
    evidence.compare("true labels", {"at the first fall": hastily, "at the end": clean.held_out[-1]})
    trials.less(overfitting.held_out[-1], stopped, name="wrong labels: better at the stop")
    assert (hastily - clean.held_out[-1]).median() < -0.02
    assert (at_the_stop(overfitting, hasty) - overfitting.held_out[-1]).median() > 0.04
    assert (at_the_stop(clean, patience) - clean.held_out[-1]).median() < 0


@claim(
    "pytorch-notes/augmentation-helps",
    verdict=CONDITIONAL,
    finding="It depends on whether the new pictures are like those to come, and on what there is to unlearn. Shifts by "
    "one pixel double the accuracy, from 37 to 74 %, where held-out digits are shifted too; and where 40 % of the "
    "labels are random they lift it by some 12 points. In 30 epochs they cost some 7 points on digits that lie in "
    "place, in 200 some 3; turning every second digit upside down costs some 5 after either (medians; 200 epochs were "
    "tried apart).",
    controls=[
        override("pictures as they are", shift="as they are"),
        override("no digit upside down", flip="as they are"),
    ],
    trials=TRIALS,
)
def test_augmentation_helps_where_it_resembles_what_is_to_come(
    learned, trials, evidence, *, shift="shifted", flip="upside down"
):
    plain, shifted, flipped = learned(), learned(changed=shift), learned(changed=flip)
    noisy, noisy_shifted = learned(**WIDE, wrong=WRONG), learned(**WIDE, wrong=WRONG, changed=shift)
    arms = {"as they are": plain, "shifted": shifted, "upside down": flipped}
    evidence.curve("40 % random labels", noisy.epochs, medians({"no": noisy, "shifts": noisy_shifted}), x_label="epoch")
    evidence.compare("accuracy on shifted digits", {name: arm.on_shifted for name, arm in arms.items()})
    evidence.compare("accuracy on plain digits", {name: arm.held_out[-1] for name, arm in arms.items()})
    trials.less(plain.on_shifted + 0.2, shifted.on_shifted, name="shifted digits to come: shifts gain 20 points")
    trials.less(noisy.held_out[-1], noisy_shifted.held_out[-1], name="wrong labels: better with shifts")
    trials.less(flipped.held_out[-1], plain.held_out[-1], name="plain digits to come: worse upside down")


@claim(
    "pytorch-notes/smaller-model-overfits-less",
    verdict=CONDITIONAL,
    finding="Where labels are wrong: with 40 % of them random, 128 hidden neurons end some 31 points better on their "
    "training labels than on held-out digits, 16 neurons 5 worse, and these recognise 8 to 9 points more of the "
    "latter; one hidden layer of 64 overfits less than three. With true labels 8 neurons have no narrower gap than 128 "
    "(10 and 8 points), and are the worse network: they recognise 86 % of held-out digits, 128 recognise 92 % "
    "(medians).",
    controls=[
        override("no smaller", smaller=(128,)),
        override("no smaller with true labels", smallest=(128,)),
        override("no fewer layers", flatter=(64, 64, 64)),
    ],
    trials=TRIALS,
)
def test_smaller_networks_overfit_less_where_labels_are_wrong(
    learned, trials, evidence, *, smaller=(16,), smallest=(8,), flatter=(64,)
):
    wide, narrow = learned(**WIDE, wrong=WRONG), learned(hidden=smaller, epochs=40, wrong=WRONG)
    deep, flat = learned(hidden=(64, 64, 64), wrong=WRONG), learned(hidden=flatter, wrong=WRONG)
    clean_wide, clean_narrow = learned(**WIDE), learned(hidden=smallest, epochs=40)
    arms = {"128": wide, "16": narrow, "64, 64, 64": deep, "64": flat}
    evidence.compare("gap, 40 % random labels", {name: arm.gap for name, arm in arms.items()})
    evidence.compare("gap, true labels", {"128": clean_wide.gap, "8": clean_narrow.gap})
    evidence.compare("accuracy, true labels", {"128": clean_wide.held_out[-1], "8": clean_narrow.held_out[-1]})
    trials.less(narrow.gap, wide.gap, name="wrong labels: fewer neurons, narrower gap")
    trials.less(flat.gap, deep.gap, name="wrong labels: fewer layers, narrower gap")
    trials.less(wide.held_out[-1], narrow.held_out[-1], name="wrong labels: fewer neurons, higher accuracy")
    assert (clean_narrow.gap - clean_wide.gap).median() > -0.01
    assert (clean_wide.held_out[-1] - clean_narrow.held_out[-1]).mean() > 0.02


class ListedMLP(nn.Module):
    """The network of the section: 784 inputs, 256 ReLU neurons with dropout on them, ten outputs."""

    def __init__(self, p=0.5):
        super().__init__()
        self.hidden = nn.Linear(784, 256)
        self.dropout = nn.Dropout(p)
        self.output = nn.Linear(256, 10)

    def features(self, x):
        return torch.relu(self.hidden(x))

    def forward(self, x):
        return self.output(self.dropout(self.features(x)))


def rows(images):
    return images.flatten(1)


@claim(
    "pytorch-notes/mlp-dropout-listing-shape",
    finding="203,530 parameters, none of them in the dropout layer. Images (n, 1, 28, 28) are refused, for a matrix "
    "of (28 n) x 28 cannot be multiplied with 784 x 256.",
    controls=[override("images flattened first", prepare=rows), override("a network of other inputs", pixels=28)],
)
@settings(max_examples=10)
@given(n=st.integers(1, 8), prepare=st.just(lambda images: images), pixels=st.just(784))
def test_the_listed_network_takes_rows_of_784_pixels(n, prepare, pixels):
    network, images = ListedMLP(), torch.zeros(n, 1, 28, 28)
    assert number_of_parameters(network) == 203_530 == 784 * 256 + 256 + 256 * 10 + 10
    assert error_of(network, images.reshape(-1, pixels)) is None
    assert network(rows(images)).shape == (n, 10)
    with pytest.raises(RuntimeError, match=rf"{28 * n}x28 and 784x256"):
        network(prepare(images))


dropout = nn.functional.dropout


def nothing_dropped(x, p=0.5, training=True, inplace=False):
    return x.clone()


def dropped_in_either_mode(x, p=0.5, training=True, inplace=False):
    return dropout(x, p, True, inplace)


def unscaled(x, p=0.5, training=True, inplace=False):
    return dropout(x, p, training, inplace) * (1 - p if training else 1)


@claim(
    "pytorch-notes/dropout-off-in-eval-18-1",
    finding="In evaluation the network is that without its dropout layer, to the bit. In training half of the hidden "
    "activations are zero and the others doubled, anew in every pass.",
    controls=[
        replace("torch.nn.functional.dropout", nothing_dropped),
        replace("torch.nn.functional.dropout", dropped_in_either_mode),
        replace("torch.nn.functional.dropout", unscaled),
    ],
)
@settings(max_examples=15)
@given(seed=st.integers(0, 2**32 - 1), n=st.integers(4, 16))
def test_the_listed_network_drops_in_training_only(seed, n):
    with seeded(seed), torch.no_grad():
        network, x = ListedMLP(), torch.randn(n, 784)
        features = network.features(x)
        assert torch.equal(network.eval()(x), network.output(features))
        first, second = network.train().dropout(features), network.dropout(features)
        assert not torch.equal(network(x), network(x))
    dropped = first == 0
    assert_close(first, torch.where(dropped, 0.0, 2 * features))
    assert 0.3 < dropped[features > 0].float().mean() < 0.7
    assert not torch.equal(first, second)
