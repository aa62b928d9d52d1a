"""Section 9.2: which losses train a classifier, beside cross-entropy and after a softmax too many.

On the document's numbers, which are of class 1 if positive, and on 200 real digits of 10 x 10 pixels; full batches of
Adam at 0.01, as there.
"""

import math
from functools import partial

import hypothesis.strategies as st
import pytest
import torch
from hypothesis import example, given
from torch import nn
from torch.nn import functional
from torch.testing import assert_close

from fitcore.data import mnist
from fitcore.ensembles import Ensemble, cross_entropies, fit
from fitcore.models import MLP
from fitcore.seeding import seeded
from fitcore.testing import CONDITIONAL, REFUTED, claim, override, replace
from fitcore.testing.strategies import tensors

TRIALS = 60


def squared_errors(logits, labels):
    return (logits - functional.one_hot(labels, logits.shape[-1])).square().mean((1, 2))


def margin_losses(logits, labels):
    losses = functional.multi_margin_loss(logits.flatten(0, 1), labels.flatten(), reduction="none")
    return losses.view(labels.shape).mean(1)


def after_softmax(logits, labels):
    return cross_entropies(logits.softmax(-1), labels)


def after_log_softmax(logits, labels):
    return cross_entropies(logits.log_softmax(-1), labels)


def blind_to_labels(logits, labels):
    return logits.square().mean((1, 2))


def numbers(trials):
    """Training and test numbers with their classes: x (trials, n, 1) and y (trials, n)."""
    x = torch.randn(trials, 1150, 1)
    y = (x[..., 0] > 0).long()
    return (x[:, :150], y[:, :150]), (x[:, 150:], y[:, 150:])


def digits(trials, root):
    """Training and test digits without their blank margin: x (trials, n, 100) and y (trials, n)."""

    def pixels(images):
        return functional.avg_pool2d(images.scaled[..., 4:-4, 4:-4], 2).flatten(1)

    training, test = mnist(root), mnist(root, train=False)[:300]
    rows = torch.stack([torch.randperm(len(training))[:200] for _ in range(trials)])
    x = pixels(training[rows.flatten()]).view(*rows.shape, -1)
    share = (trials, -1, -1)
    return (x, training.labels[rows]), (pixels(test).expand(*share), test.labels.expand(*share[:2]))


def trained(seeds, task, loss, root):
    """Test accuracy and last training loss of one network a seed, (trials,) each; data and start are those of all."""
    with seeded(seeds[0]):
        training, (x, y) = numbers(len(seeds)) if task == "numbers" else digits(len(seeds), root)
    design = {"numbers": partial(MLP, [1, 16, 2], nn.Tanh), "digits": partial(MLP, [100, 32, 10], nn.ReLU)}
    ensemble, adam = Ensemble(design[task], seeds), partial(torch.optim.Adam, lr=0.01, fused=True)
    curves = fit(ensemble, training, epochs={"numbers": 200, "digits": 30}[task], optimizer=adam, loss=loss)
    with torch.no_grad():
        return (ensemble(x).argmax(-1) == y).float().mean(1), curves.losses[-1]


@pytest.fixture
def outcome(shared, data_root):
    """``outcome(task, loss)``, trained once a session."""
    return lambda task, loss: shared(trained, tuple(shared.seeds(TRIALS).tolist()), task, loss, data_root)


@claim(
    "pytorch-notes/classification-must-use-cross-entropy",
    verdict=REFUTED,
    finding="The squared error against one-hot labels and the multi-class margin loss train the same networks: to 99 % "
    "of the document's numbers, as cross-entropy does, and to 76 and 78 % of ten kinds of digits, where "
    "cross-entropy comes to 79 % (medians). It is the usual choice, as the section itself says below its listing, not "
    "a necessary one.",
    controls=[override("a loss that does not see the labels", loss=blind_to_labels)],
)
@pytest.mark.parametrize("loss", [squared_errors, margin_losses])
@pytest.mark.parametrize(("task", "least", "within"), [("numbers", 0.9, 0.05), ("digits", 0.65, 0.15)])
def test_other_losses_train_a_classifier_as_well(*, outcome, trials, evidence, task, least, within, loss):
    usual, other = outcome(task, cross_entropies)[0], outcome(task, loss)[0]
    evidence.compare("test accuracy", {"cross-entropy": usual, loss.__name__.replace("_", " "): other})
    trials.mostly(torch.minimum(usual, other) > least, at_least=0.5, name=f"both above {least:.0%}")
    trials.equivalent(other, usual, within, name=f"as accurate, within {within:.0%}")


@claim(
    "pytorch-notes/extra-softmax-before-ce-hurts",
    verdict=CONDITIONAL,
    finding="With ten classes it does: after 30 updates 67 % of the digits are recognised, and 79 % without it "
    "(medians). The document's two classes are learned as well with it, to 99 %. The loss cannot fall below 0.313 with "
    "two classes and 1.461 with ten, and that of logits does.",
    controls=[override("log_softmax, which changes nothing", twice=after_log_softmax)],
)
def test_a_second_softmax_slows_ten_classes_and_not_two(outcome, trials, evidence, twice=after_softmax):
    two, two_again = outcome("numbers", cross_entropies), outcome("numbers", twice)
    ten, ten_again = outcome("digits", cross_entropies), outcome("digits", twice)
    evidence.compare("test accuracy on numbers of two classes", {"logits": two[0], "softmax": two_again[0]})
    evidence.compare("test accuracy on ten digits", {"logits": ten[0], "softmax": ten_again[0]})
    evidence.compare(
        "training loss on ten digits", {"logits": ten[1], "softmax": ten_again[1]}, limit=math.log1p(9 / math.e)
    )
    trials.equivalent(two[0], two_again[0], within=0.01, name="two classes: the same accuracy")
    trials.less(ten_again[0], ten[0], name="ten classes: less accurate")
    trials.always(two_again[1] > math.log1p(1 / math.e), name="two classes: a loss above 0.313")
    trials.always(ten_again[1] > math.log1p(9 / math.e), name="ten classes: a loss above 1.461")
    trials.always(torch.stack([two[1] < 0.31, ten[1] < 1.4]).all(0), name="which that of logits goes below")


def brier_score(logits, targets, **settings):
    return functional.mse_loss(logits.softmax(-1), functional.one_hot(targets, logits.shape[-1]).to(logits))


def absolute_error(outputs, targets, **settings):
    return (outputs - targets).abs().mean()


def gradient(loss_fn, outputs, targets):
    return torch.func.grad(loss_fn)(outputs, targets)


@claim(
    "pytorch-notes/regression-mse-classification-ce",
    finding="Each fits its task. The squared error is least at the mean of the values. Cross-entropy takes a single "
    "output for a single class, and has gradient 0 whatever it predicts: it can't do regression. With two classes its "
    "gradient on a wrong one stays near 1 however sure the model is, where that of the squared error of probabilities "
    "dies out.",
    controls=[
        replace("torch.nn.functional.cross_entropy", brier_score),
        replace("torch.nn.functional.mse_loss", absolute_error),
    ],
)
@example(values=torch.tensor([[0.0], [0.0], [3.0]], dtype=torch.float64), wrong_by=20)
@given(
    values=tensors(st.tuples(st.integers(1, 6), st.just(1)), torch.float64),
    wrong_by=st.integers(5, 20),
)
def test_squared_errors_fit_numbers_and_cross_entropy_corrects_wrong_classes(values, wrong_by):
    squared_error, loss_fn = nn.MSELoss(), nn.CrossEntropyLoss()
    logits, label = torch.tensor([[float(wrong_by), 0.0]], dtype=torch.float64), torch.tensor([1])
    probability = 1 / (1 + math.exp(wrong_by))
    assert_close(gradient(loss_fn, logits, label), (1 - probability) * torch.tensor([[1.0, -1.0]]).double())
    assert gradient(brier_score, logits, label).abs().max() < 2.1 * probability
    mean, nothing = values.mean().expand_as(values), torch.zeros_like(values)
    assert_close(gradient(squared_error, mean, values).sum(), nothing.sum())
    assert_close(gradient(squared_error, mean + 1, values).sum(), nothing.sum() + 2)
    assert_close(gradient(loss_fn, mean + 1, values), nothing)
