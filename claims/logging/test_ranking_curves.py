"""Section 8.5.4: precision-recall and ROC curves, and the area under the latter."""

import hypothesis.strategies as st
import numpy as np
import sklearn.metrics
import torch
from hypothesis import given
from torch.utils.tensorboard import SummaryWriter

from fitcore.testing import CONDITIONAL, REFUTED, claim, override, replace

whole = st.integers(-9, 9)
scores = st.lists(whole, min_size=1, max_size=12)


def separated(positive, negative):
    """Scores with all positives above all negatives, and the labels."""
    shift = max(negative) - min(positive) + 1
    return np.array([*(p + shift for p in positive), *negative]), np.repeat([1, 0], [len(positive), len(negative)])


def reversed_(positive, negative):
    """Scores with all positives below all negatives, and the labels."""
    above, labels = separated(positive, negative)
    return -above, labels


def passes_through(curve, corner):
    """Whether one of the curve's points is the corner."""
    return bool(np.isclose(np.stack(curve, axis=1), corner).all(1).any())


@claim(
    "pytorch-notes/pr-curve-best-corner-upper-left",
    verdict=REFUTED,
    finding="It is the upper right: recall 1 at precision 1, which only a perfect ranking reaches. The upper left, "
    "recall 0 at precision 1, says nothing: scikit-learn ends every curve there, even that of the worst ranking.",
    controls=[override("a reversed ranking", rank=reversed_)],
)
@given(positive=scores, negative=scores, rank=st.just(separated))
def test_a_perfect_ranking_reaches_the_upper_right_of_the_pr_curve(positive, negative, rank):
    ranked, labels = rank(positive, negative)
    precision, recall, _ = sklearn.metrics.precision_recall_curve(labels, ranked)
    assert passes_through((recall, precision), (1, 1))
    worst, labels = reversed_(positive, negative)
    precision, recall, _ = sklearn.metrics.precision_recall_curve(labels, worst)
    assert passes_through((recall, precision), (0, 1))
    assert not passes_through((recall, precision), (1, 1))


@claim(
    "pytorch-notes/roc-axes-and-best-corner",
    controls=[override("a reversed ranking", rank=reversed_)],
)
@given(positive=scores, negative=scores, rank=st.just(separated))
def test_a_perfect_ranking_reaches_the_upper_left_of_the_roc_curve(positive, negative, rank):
    mixed, labels = np.array(positive + negative), np.repeat([1, 0], [len(positive), len(negative)])
    false_positives, true_positives, thresholds = sklearn.metrics.roc_curve(labels, mixed)
    for threshold, fpr, tpr in zip(thresholds, false_positives, true_positives, strict=True):
        assert np.isclose(tpr, np.mean(np.array(positive) >= threshold))
        assert np.isclose(fpr, np.mean(np.array(negative) >= threshold))
    ranked, labels = rank(positive, negative)
    assert passes_through(sklearn.metrics.roc_curve(labels, ranked)[:2], (0, 1))


def as_it_is(auc):
    return auc


def folded(auc):
    """Turn a ranking round if that makes it better."""
    return max(auc, 1 - auc)


@claim(
    "pytorch-notes/auc-range-half-to-one",
    verdict=CONDITIONAL,
    finding="So it does for rankings that are no worse than chance, or turned round where they are. In general it is "
    "anything from 0 to 1: 0 for a reversed ranking, and below 0.5 for half of those that know nothing.",
    controls=[override("turned round if worse than chance", take=folded)],
)
def test_the_auc_of_a_bad_ranking_is_below_a_half(trials, evidence, take=as_it_is):
    labels = np.arange(200) % 2
    aucs = trials.map(lambda seed: take(sklearn.metrics.roc_auc_score(labels, torch.randn(200).numpy())))
    evidence.observe("AUC of random scores", aucs, limit=0.5)
    assert np.isclose(take(sklearn.metrics.roc_auc_score(labels, -labels)), 0)
    trials.mostly(aucs < 0.5, 0.02, name="below a half")
    trials.always(np.maximum(aucs, 1 - aucs) >= 0.5 - 1e-12, name="turned round: at least a half")


@claim(
    "pytorch-notes/auc-higher-is-better",
    finding="The AUC is the probability that a positive ranks above a negative, ties counting half.",
    controls=[replace("sklearn.metrics.roc_auc_score", sklearn.metrics.average_precision_score)],
)
@given(positive=st.lists(whole, min_size=1, max_size=12), negative=scores, raised=st.integers(1, 5))
def test_the_auc_is_the_probability_of_ranking_a_pair_rightly(positive, negative, raised):
    labels = np.repeat([1, 0], [len(positive), len(negative)])
    pairs = np.subtract.outer(positive, negative)
    auc = sklearn.metrics.roc_auc_score(labels, positive + negative)
    better = sklearn.metrics.roc_auc_score(labels, [positive[0] + raised, *positive[1:], *negative])
    assert np.isclose(auc, np.mean((pairs > 0) + (pairs == 0) / 2))
    assert better >= auc - 1e-12
    assert np.isclose(sklearn.metrics.roc_auc_score(*separated(positive, negative)[::-1]), 1)


@claim(
    "pytorch-notes/pr-baseline-is-prevalence",
    finding="With 5 % positives the average precision of random scores is 0.05, and the AUC 0.5.",
    controls=[override("as many positives as negatives", share=0.5)],
    trials=40,
)
def test_random_scores_have_the_precision_of_the_share_of_positives(trials, evidence, share=0.05):
    labels = np.arange(5000) < 5000 * share

    def areas(seed):
        random = torch.rand(5000).numpy()
        return [
            score(labels, random) for score in (sklearn.metrics.average_precision_score, sklearn.metrics.roc_auc_score)
        ]

    precision, auc = trials.map(areas).T
    evidence.compare("area under the curve", {"precision-recall": precision, "ROC": auc})
    trials.equivalent(precision, 0.05, within=0.04, name="precision: 5 %")
    trials.equivalent(auc, 0.5, within=0.1, name="ROC: a half")


@claim(
    "pytorch-notes/tensorboard-has-roc-method",
    verdict=REFUTED,
    finding="It has add_pr_curve, which is read back as recorded, and nothing for ROC: draw that curve, and use "
    "add_figure.",
    controls=[override("the other curve", missing="pr_curve")],
)
def test_the_writer_has_a_pr_curve_and_no_roc_curve(recorded, missing="roc"):
    labels, ranked = torch.arange(100) % 2, torch.linspace(0, 1, 100)
    events = recorded(lambda writer: writer.add_pr_curve("PR", labels, ranked, 0))
    assert events.tags["tensors"] == ["PR"]
    assert not [name for name in dir(SummaryWriter) if missing in name.lower()]
