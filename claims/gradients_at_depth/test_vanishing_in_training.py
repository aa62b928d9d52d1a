"""Section 15.1.2: what becomes of training when gradients vanish, on scikit-learn's digits of 8x8 pixels."""

from dataclasses import dataclass
from functools import partial

import pytest
import torch
from sklearn.datasets import load_digits
from torch import Tensor, nn

from fitcore.ensembles import Ensemble, cross_entropies, fit
from fitcore.models import MLP
from fitcore.testing import CONDITIONAL, claim, override

TRIALS, DIGITS = 8, 500

sgd = partial(torch.optim.SGD, lr=0.1)
adam = partial(torch.optim.Adam, lr=0.01, fused=True)
slow_adam = partial(torch.optim.Adam, lr=0.001, fused=True)


def digits_for(copies):
    """As many samples of 500 digits, standardised, and 397 held out: x (copies, 500, 64), y, x (397, 64), y."""
    images, labels = load_digits(return_X_y=True)
    x, y = torch.tensor((images - images.mean()) / images.std(), dtype=torch.float32), torch.tensor(labels)
    rows = torch.stack([torch.randperm(1400)[:DIGITS] for _ in range(copies)])
    return x[rows], y[rows], x[1400:], y[1400:]


def default(layer):
    pass


def kaiming(layer):
    if isinstance(layer, nn.Linear):
        nn.init.kaiming_normal_(layer.weight, nonlinearity="relu")
        nn.init.zeros_(layer.bias)


def norms_of_weights(ensemble, flat):
    """Norms of what is shaped like the weight matrices, (copies, layers)."""
    stacks = ensemble.stacks(flat).items()
    return torch.stack([stack.detach().flatten(1).norm(dim=1) for name, stack in stacks if "weight" in name], dim=1)


@dataclass(frozen=True)
class Learned:
    """Each with a row a copy: losses by epoch, accuracy on held-out digits; of each layer the norm of the first
    gradient, and how far its weights went, over their norm at the start."""

    losses: Tensor
    accuracies: Tensor
    gradients: Tensor
    movements: Tensor


def learned(seeds, activation, layers, optimizer, init):
    ensemble = Ensemble(lambda: MLP([64, *[32] * layers, 10], activation).apply(init), seeds)
    start, (x, y, test_x, test_y) = ensemble.flat.detach().clone(), digits_for(len(seeds))
    (first,) = torch.autograd.grad(cross_entropies(ensemble(x), y).sum(), ensemble.flat)
    curves = fit(ensemble, (x, y), epochs=10, optimizer=optimizer, loss=cross_entropies, batch_size=50)
    with torch.no_grad():
        accuracies = (ensemble(ensemble.share(test_x)).argmax(-1) == test_y).float().mean(1)
    movements = norms_of_weights(ensemble, ensemble.flat - start) / norms_of_weights(ensemble, start)
    return Learned(curves.losses.T, accuracies, norms_of_weights(ensemble, first), movements)


@pytest.fixture
def learn(shared, trials):
    """``learn(layers, optimizer, activation=nn.Sigmoid, init=default)`` trains copies for 10 epochs, once a session."""
    seeds = tuple(shared.seeds(trials.count).tolist())
    return lambda layers, optimizer, activation=nn.Sigmoid, init=default: shared(
        learned, seeds, activation, layers, optimizer, init
    )


@claim(
    "pytorch-notes/vanishing-front-layers-do-not-learn",
    verdict=CONDITIONAL,
    finding="With SGD: of ten sigmoid layers the first moves by less than a billionth of its size (median), the tenth "
    "by a hundredth. Adam divides the gradient by its size: with five, whose first gets a 600th of the fifth one's "
    "gradient and moves by 0.0002 with SGD, it moves by 3.5 times its size, and the loss falls.",
    controls=[override("a single layer", deep=1), override("SGD throughout", adaptive=sgd)],
    trials=TRIALS,
)
def test_front_layers_stay_with_sgd_but_move_with_adam(learn, trials, evidence, deep=10, adaptive=adam):
    stuck, slow, moved = learn(deep, sgd), learn(5, sgd), learn(5, adaptive)
    means = {"SGD": slow.movements, "Adam": moved.movements, "first gradient": slow.gradients}
    medians = {name: values.median(0).values.log10() for name, values in means.items()}
    evidence.curve("log10 of relative movement, of 5 layers", range(1, 7), medians, x_label="layer")
    trials.always(stuck.movements[:, 0] < 1e-6, name="SGD, ten layers: the first stays where it is")
    trials.always(stuck.movements[:, -2] > 1e-3, name="while the last hidden one moves")
    trials.always(
        slow.gradients[:, 0] < 0.05 * slow.gradients[:, -2], name="five: less than a twentieth of the gradient"
    )
    trials.always(slow.movements[:, 0] < 0.01, name="SGD, five layers: the first hardly moves")
    trials.always(moved.movements[:, 0] > 0.5, name="Adam, five layers: the first moves")
    trials.always(moved.losses[:, -1] < 2.2, name="and the loss falls")


@claim(
    "pytorch-notes/vanishing-loss-and-accuracy-stuck",
    verdict=CONDITIONAL,
    finding="With ten sigmoid layers the loss stays at log 10 and the accuracy at a tenth, with SGD and with Adam. "
    "With five, of which the first gets a 600th of the fifth one's gradient, SGD is stuck, and Adam is not: its loss "
    "falls to 1.7.",
    controls=[override("a single layer", deep=1), override("SGD throughout", adaptive=sgd)],
    trials=TRIALS,
)
def test_loss_and_accuracy_are_stuck_in_deep_sigmoid_networks(learn, trials, evidence, deep=10, adaptive=adam):
    runs = learn(deep, sgd), learn(deep, adam), learn(5, sgd)
    free, shallow = learn(5, adaptive), learn(1, sgd)
    names = ["10 layers, SGD", "10 layers, Adam", "5 layers, SGD", "5 layers, Adam", "1 layer, SGD"]
    every = dict(zip(names, [*runs, free, shallow], strict=True))
    evidence.curve("median loss", range(1, 11), {k: v.losses.median(0).values for k, v in every.items()}, "epoch")
    evidence.compare("accuracy on held-out digits", {name: run.accuracies for name, run in every.items()})
    losses, accuracies = torch.stack([r.losses[:, -1] for r in runs]), torch.stack([r.accuracies for r in runs])
    trials.always((losses > 2.25).all(0), name="the loss stays at log 10")
    trials.always((accuracies < 0.15).all(0), name="the accuracy stays at chance")
    trials.always(free.losses[:, -1] < 2.2, name="five layers, Adam: the loss falls")
    trials.always(shallow.losses[:, -1] < 2.1, name="so it does with a single layer and SGD")


@claim(
    "pytorch-notes/kaiming-makes-deep-relu-trainable",
    finding="Twenty ReLU layers recognise 50 to 60 % of held-out digits after ten epochs of Adam, and a tenth from "
    "torch's default weights, of which the loss stays near log 10 (medians).",
    controls=[override("torch's default weights", init=default)],
    trials=TRIALS,
)
def test_twenty_relu_layers_learn_from_kaimings_weights(learn, trials, evidence, init=kaiming):
    runs = {"Kaiming": learn(20, slow_adam, nn.ReLU, init), "default": learn(20, slow_adam, nn.ReLU)}
    evidence.curve("median loss", range(1, 11), {k: v.losses.median(0).values for k, v in runs.items()}, "epoch")
    evidence.compare("accuracy on held-out digits", {name: run.accuracies for name, run in runs.items()})
    assert runs["Kaiming"].losses[:, -1].median() < 1.9
    assert runs["default"].losses[:, -1].median() > 1.9
    assert runs["Kaiming"].accuracies.median() > 0.3
    assert runs["default"].accuracies.median() < 0.2


def moments(ensemble, x):
    """Mean and standard deviation of every input to the last layer, over a copy's digits: (2, copies, width)."""
    with torch.no_grad():
        inputs = torch.stack([ensemble.module(copy)[:-1](digits) for copy, digits in enumerate(x)])
    return torch.stack([inputs.mean(1), inputs.std(1)])


def drift(seeds, activation, init, batch_norm):
    """How far they go in six epochs, from one to the next, in root mean square standard deviations: (2, copies)."""
    ensemble = Ensemble(lambda: MLP([64, 32, 32, 32, 32, 10], activation, batch_norm).apply(init), seeds)
    x, y, _, _ = digits_for(len(seeds))
    after = [moments(ensemble, x)]
    for _ in range(6):
        fit(ensemble, (x, y), epochs=1, optimizer=sgd, loss=cross_entropies, batch_size=50)
        after.append(moments(ensemble, x))
    path = torch.stack(after).diff(dim=0).square().mean(-1).sqrt().sum(0)
    return path / torch.stack(after)[:, 1].square().mean((0, 2)).sqrt()


@claim(
    "pytorch-notes/bn-reduces-distribution-shift",
    finding="In six epochs of SGD the means of the last layer's inputs go 0.08 of their standard deviation with it and "
    "0.5 to 0.7 without it after tanh, 0.16 and 2.0 after ReLU with Kaiming's weights; the standard deviations go 0.1 "
    "and 1.6 of their size after tanh, 0.3 and 1.3 to 1.4 after ReLU (medians). Mean and spread are what it sets anew "
    "in each layer. Whether that is why it helps is disputed (Santurkar et al., 2018).",
    controls=[override("no normalisation", batch_norm=False)],
    trials=TRIALS,
)
@pytest.mark.parametrize(
    ("activation", "init"),
    [(nn.Tanh, default), (nn.ReLU, kaiming)],
    ids=["tanh", "ReLU"],
)
def test_batch_normalisation_keeps_the_inputs_of_a_deep_layer_in_place(
    shared, trials, evidence, *, activation, init, batch_norm=True
):
    seeds = tuple(shared.seeds(trials.count).tolist())
    without, normalised = (shared(drift, seeds, activation, init, norm) for norm in (False, batch_norm))
    evidence.compare("drift of the means", {"without": without[0], "normalised": normalised[0]})
    evidence.compare("drift of the standard deviations", {"without": without[1], "normalised": normalised[1]})
    trials.always(2 * normalised[0] < without[0], name="the means go less than half as far")
    trials.always(2 * normalised[1] < without[1], name="and so do the standard deviations")
