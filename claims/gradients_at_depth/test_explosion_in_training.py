"""Section 15.1.1: what exploding gradients do to training: to the loss, the weights and the accuracy.

There are two kinds. Depth: a ReLU network on real digits whose weights are N(0, 1), each layer of 64 a factor of 5.7.
And steps that are too long: the network of section 15.2, whose gradients explode from one update to the next.
"""

import math
from functools import partial

import hypothesis.strategies as st
import pytest
import torch
from hypothesis import given
from torch import nn
from torch.optim import SGD, Adam

from fitcore.ensembles import cross_entropies, fit
from fitcore.seeding import seeded
from fitcore.testing import CONDITIONAL, claim, override
from fitcore.testing.strategies import tensors

BATCH = 32
CHANCE = math.log(10)  # the loss of a network that gives each of ten digits the same probability


@claim(
    "pytorch-notes/explosion-gives-nan-loss",
    verdict=CONDITIONAL,
    finding="So it is with SGD and N(0, 1) weights. With 5 layers the loss is 6e4, after one update some 1e14, and "
    "then NaN (in 1 network of some 200 all units die instead); with 20 layers it is 1e16, and NaN after one update.",
    controls=[override("Kaiming's weights", init="kaiming")],
    trials=80,
)
@pytest.mark.parametrize(("layers", "copies"), [(5, 80), (20, 40)])
def test_by_sgd_the_loss_grows_until_it_is_nan(teach, trials, evidence, *, layers, copies, init="standard normal"):
    curves = teach(layers, init, copies=copies, optimizer=SGD, digits=BATCH, epochs=5).curves
    falls = (curves.losses[1:] < curves.losses[:-1]).any(0)
    evidence.observe("log10 of the first loss", curves.losses[0].log10())
    evidence.observe("updates until it is not finite", curves.losses.isfinite().sum(0))
    trials.mostly(curves.losses[-1].isnan(), at_least=0.5, name="NaN after four updates")
    trials.mostly(~falls, at_least=0.5, name="and never lower than before until then")


@claim(
    "pytorch-notes/explosion-gives-nan-loss",
    verdict=CONDITIONAL,
    finding="With 3 layers, whose gradient is 1,300 at the start, only about three networks in ten end in NaN. In more "
    "than half an update throws all units of a layer to where ReLU is zero: what is left are the last biases, and a "
    "loss of about log 10.",
    controls=[override("Kaiming's weights", init="kaiming")],
    trials=120,
)
def test_an_explosion_may_end_in_dead_units(teach, trials, evidence, init="standard normal"):
    ended = teach(3, init, copies=trials.count, optimizer=SGD, digits=BATCH, epochs=15)
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
    finding="Under Adam there is neither NaN nor a huge weight: its steps are as long whatever the gradient is. With "
    "20 layers the gradient is 2e16 to 3e16 (medians); the loss falls, from 1e16 to 5e14 in 20 updates, and the "
    "weights keep their norm within a hundredth.",
    controls=[override("SGD", optimizer=SGD)],
)
def test_under_adam_gradients_explode_without_nan_or_huge_weights(teach, trials, evidence, optimizer=Adam):
    ended = teach(20, optimizer=optimizer, lr=0.001, digits=BATCH, epochs=20)
    losses = ended.curves.losses
    logarithms = {f"copy {copy}": losses[:, copy].log10() for copy in range(losses.shape[1])}
    evidence.curve("log10 of the loss", range(len(losses)), logarithms, x_label="update")
    evidence.observe("log10 of the gradient's norm at the start", ended.gradient_before.log10())
    trials.always(ended.gradient_before > 1e10, name="the gradient explodes")
    trials.always(losses.isfinite().all(0) & (ended.loss < losses[0]), name="the loss falls and is never NaN")
    trials.always(abs(ended.weights_after / ended.weights_before - 1) < 0.01, name="the weights keep their norm")


@claim(
    "pytorch-notes/explosion-makes-huge-weights",
    verdict=CONDITIONAL,
    finding="Under SGD it does: four updates of the first model of 15.2 (seed 42), truly unclipped, take the second "
    "layer's weights from a norm of 6 to 1e7, and the last one's from 0.5 to 50,000.",
    controls=[override("a rate of 0.0001", lr=1e-4)],
    trials=1,
)
def test_the_weights_of_the_demonstration_become_huge(demonstration_network, trials, evidence, lr=0.01):
    with seeded(42):  # the document's
        x, y, model = torch.randn(32, 10), torch.randn(32, 1), demonstration_network()
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


def correct(ensemble, x, labels):
    with torch.no_grad():
        logits = ensemble(ensemble.share(x))
    return (logits.argmax(-1) == labels).float().mean(1), logits


@claim(
    "pytorch-notes/nan-accuracy-looks-odd",
    finding="It becomes exactly the share of the digit 0, here 10 % after 77 %: argmax of a row of NaN is 0.",
    controls=[override("a rate of 0.01", lr=0.01)],
)
def test_after_the_loss_is_nan_the_accuracy_is_the_share_of_class_zero(teach, test_digits, trials, evidence, lr=1e10):
    ensemble = teach(2, "kaiming").ensemble[:]
    x, labels = test_digits
    before, _ = correct(ensemble, x, labels)
    of_training = ensemble.share(x), ensemble.share(labels)
    fit(ensemble, of_training, epochs=10, optimizer=partial(SGD, lr=lr, momentum=0.9), loss=cross_entropies)
    after, logits = correct(ensemble, x, labels)
    zeros = (labels == 0).float().mean()
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
