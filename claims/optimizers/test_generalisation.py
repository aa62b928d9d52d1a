"""Sections 16.1, 16.3 and 16.5: which optimizer's networks recognise more of the digits that they have not seen."""

import hypothesis.strategies as st
import torch
from hypothesis import given, settings
from torch.optim import SGD, Adam

from fitcore.testing import CONDITIONAL, REFUTED, claim, override

INITIAL = 3
PRIVATE = 5


def marginal_value(labels, first_row):
    """Samples (n, 3 + 5 · 40) with labels ±1: the label, two ones, and features that no other sample has.

    A sample of label 1 has one such feature, one of label -1 has five. Section 3.3 of A. Wilson et al., "The marginal
    value of adaptive gradient methods in machine learning", NeurIPS 2017.
    """
    samples = torch.zeros(len(labels), INITIAL + PRIVATE * 40, dtype=torch.float64)
    samples[:, 0], samples[:, 1:INITIAL] = labels, 1.0
    for row, label in enumerate(labels.tolist()):
        start = INITIAL + PRIVATE * (first_row + row)
        samples[row, start : start + (1 if label > 0 else PRIVATE)] = 1.0
    return samples


def least_squares(samples, labels, *stages):
    """Weights that start at zero, after stages of so many steps on all samples: (optimizer, rate, steps) each."""
    weights = torch.zeros(samples.shape[1], dtype=torch.float64, requires_grad=True)
    for optimizer, lr, steps in stages:
        used = optimizer([weights], lr=lr)
        for _ in range(steps):
            weights.grad = samples.mT @ (samples @ weights.detach() - labels) / len(labels)
            used.step()
    return weights.detach()


def wilsons_problem(negative, seed):
    """Twenty samples to learn from, twenty others, and the labels of either, of which so many are -1."""
    positive = torch.arange(20) >= negative
    order = torch.randperm(20, generator=torch.Generator().manual_seed(seed))
    labels = positive[order].double() * 2 - 1
    return marginal_value(labels, 0), marginal_value(labels, 20), labels


def recognised(weights, samples, labels):
    return ((samples @ weights).sign() == labels).double().mean()


@claim(
    "pytorch-notes/sgd-generalises-better-than-adam",
    "pytorch-notes/adam-memorises-too-much",
    verdict=CONDITIONAL,
    finding="There are such problems: in that of Wilson et al. (2017), where each sample has features of its own, "
    "both fit all samples, and of new ones SGD gets all right, Adam only those of the more frequent class: it has "
    "put more than three times as much weight on what only the samples that it learned from have.",
    controls=[override("SGD on both sides", adam=SGD)],
)
@settings(max_examples=5)
@given(negative=st.integers(3, 7), seed=st.integers(0, 2**32 - 1), adam=st.just(Adam))
def test_where_each_sample_has_features_of_its_own_sgd_generalises_and_adam_does_not(negative, seed, adam):
    samples, others, labels = wilsons_problem(negative, seed)
    by_sgd = least_squares(samples, labels, (SGD, 0.1, 150))
    by_adam = least_squares(samples, labels, (adam, 0.01, 150))
    assert recognised(by_sgd, samples, labels) == recognised(by_adam, samples, labels) == 1
    assert recognised(by_sgd, others, labels) == 1
    assert torch.equal((others @ by_adam).sign(), torch.ones(20, dtype=torch.float64))
    assert by_adam[INITIAL:].abs().sum() > 3 * by_sgd[INITIAL:].abs().sum()


@claim(
    "pytorch-notes/sgd-generalises-better-than-adam",
    verdict=CONDITIONAL,
    finding="Not on digits. At the guide's rates SGD (0.1, which the guide gives with momentum 0.9 and Nesterov's "
    "step; without them here) and SGD with momentum (0.01) recognise 92 % of the test digits after 30 epochs, and Adam "
    "(0.001) 91 to 92 %. At ten times these rates, where all fit what they were taught, it is 94 % for all. SGD is "
    "ahead by 0.1 to 0.6 points, a few of 997 digits, and momentum at 0.1 by none.",
    controls=[override("SGD at 0.01, which has learned little", rates=(0.01, 1.0))],
)
def test_on_digits_sgd_and_adam_generalise_alike(learn, trials, evidence, rates=(0.1, 1.0)):
    recommended = {"SGD": learn("SGD", rates[0]), "momentum": learn("momentum", 0.01), "Adam": learn("Adam", 0.001)}
    fitted = {"SGD": learn("SGD", rates[1]), "momentum": learn("momentum", 0.1), "Adam": learn("Adam", 0.01)}
    for name, arms, within in (("rates of the guide", recommended, 0.025), ("larger rates", fitted, 0.035)):
        for other in ("SGD", "momentum"):
            pair = arms["Adam"].accuracy, arms[other].accuracy
            trials.equivalent(*pair, within=within, name=f"{other}, {name}: alike within {100 * within:g} points")
        evidence.compare(f"test accuracy, {name}", {arm: learned.accuracy for arm, learned in arms.items()})
    for name, arm in fitted.items():
        trials.less(0.98, arm.training_accuracy, name=f"{name} has fitted the digits")


@claim(
    "pytorch-notes/late-sgd-finetuning-is-more-accurate",
    verdict=REFUTED,
    finding="No gain on digits. After Adam at 0.001, ten of 30 epochs by SGD at 0.01 leave 90 % of the test digits "
    "recognised instead of 91 to 92 %, for it learns too slowly; SGD at 0.1 ends where Adam does, and so it does after "
    "Adam at 0.01 (94 %). The medians of those differ by less than 2.5 points.",
    controls=[override("Adam at 0.0001 throughout", whole=1e-4)],
)
def test_ending_with_sgd_recognises_no_more_digits(learn, trials, evidence, whole=0.001):
    throughout, fitted = learn("Adam", whole), learn("Adam", 0.01)
    slow, fast = (learn("Adam", 0.001, late=("SGD", lr)) for lr in (0.01, 0.1))
    late_fitted = learn("Adam", 0.01, late=("SGD", 0.1))
    trials.less(slow.accuracy, throughout.accuracy, name="SGD at 0.01 loses")
    trials.equivalent(throughout.accuracy, fast.accuracy, within=0.025, name="SGD at 0.1: within 2.5 points")
    trials.equivalent(fitted.accuracy, late_fitted.accuracy, within=0.025, name="after Adam at 0.01: within 2.5 points")
    arms = {"Adam 0.001": throughout, "then SGD 0.01": slow, "then SGD 0.1": fast}
    arms |= {"Adam 0.01": fitted, "Adam 0.01, then SGD 0.1": late_fitted}
    evidence.compare("test accuracy", {name: arm.accuracy for name, arm in arms.items()})


@claim(
    "pytorch-notes/late-sgd-finetuning-is-more-accurate",
    verdict=REFUTED,
    finding="Nor on the problem of Wilson et al. (2017), where SGD throughout gets all new samples right: a thousand "
    "steps of SGD after Adam leave exactly Adam's errors.",
    controls=[override("SGD at first too", adam=SGD)],
)
@settings(max_examples=5)
@given(negative=st.integers(3, 7), seed=st.integers(0, 2**32 - 1), steps=st.integers(50, 150), adam=st.just(Adam))
def test_ending_with_sgd_keeps_the_errors_of_adam(negative, seed, steps, adam):
    samples, others, labels = wilsons_problem(negative, seed)
    by_adam = least_squares(samples, labels, (adam, 0.01, steps))
    finished = least_squares(samples, labels, (adam, 0.01, steps), (SGD, 0.1, 1000))
    assert recognised(finished, others, labels) < 1
    assert torch.equal((others @ finished).sign(), (others @ by_adam).sign())
    assert recognised(least_squares(samples, labels, (SGD, 0.1, steps)), others, labels) == 1
