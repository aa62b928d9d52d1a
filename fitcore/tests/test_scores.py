"""Scores with intervals, and calibration."""

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import norm
from sklearn.calibration import calibration_curve
from sklearn.metrics import accuracy_score, f1_score, mean_absolute_error, mean_squared_error

from fitcore.evaluation.scores import calibration, classification_scores, regression_scores


def predictions(seed, n=200, classes=4, sharpness=1.0):
    generator = torch.Generator().manual_seed(seed)
    logits = sharpness * torch.randn(n, classes, generator=generator, dtype=torch.float64)
    return logits, torch.multinomial(logits.softmax(1), 1, generator=generator)[:, 0]


@given(seed=st.integers(0, 2**32 - 1), n=st.integers(1, 50), classes=st.integers(2, 12))
def test_scores_are_those_of_scikit_learn(seed, n, classes):
    logits, labels = predictions(seed, n, classes)
    scores = classification_scores(logits, labels)
    assert scores["accuracy"].value == pytest.approx(accuracy_score(labels, logits.argmax(1)))
    assert scores["macro F1"].value == pytest.approx(f1_score(labels, logits.argmax(1), average="macro"))
    errors = regression_scores(logits[:, 0], logits[:, 1])
    assert errors["mean absolute error"].value == pytest.approx(mean_absolute_error(logits[:, 0], logits[:, 1]))
    assert errors["mean squared error"].value == pytest.approx(mean_squared_error(logits[:, 0], logits[:, 1]))


def coverage(score, truth):
    found = [score(seed) for seed in range(150)]
    return np.mean([interval.low <= truth <= interval.high for interval in found])


def test_intervals_cover_the_score_of_an_endless_test_set():
    logits, labels = predictions(10**6, n=200_000)
    endless = classification_scores(logits, labels)
    for name, truth in endless.items():
        assert coverage(lambda seed, name=name: classification_scores(*predictions(seed))[name], truth.value) > 0.88


def test_intervals_of_errors_cover_those_of_an_endless_test_set():
    def errors(seed):
        values = torch.randn(200, generator=torch.Generator().manual_seed(seed))
        return regression_scores(values, torch.zeros(200))

    assert coverage(lambda seed: errors(seed)["mean absolute error"], (2 / np.pi) ** 0.5) > 0.88
    assert coverage(lambda seed: errors(seed)["mean squared error"], 1.0) > 0.85


@pytest.mark.parametrize("confidence", [0.5, 0.9])
def test_intervals_of_many_errors_are_those_of_the_normal_distribution(confidence):
    values = torch.randn(400, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    scores = regression_scores(values, torch.zeros(400), confidence)
    for name, errors in (("mean absolute error", values.abs()), ("mean squared error", values.square())):
        mean, standard_error = errors.mean().item(), errors.std().item() / 20
        expected = norm.interval(confidence, mean, standard_error)
        assert (scores[name].low, scores[name].high) == pytest.approx(expected, abs=0.2 * standard_error)


@pytest.mark.parametrize("confidence", [0.5, 0.9])
def test_intervals_of_a_share_are_those_of_the_normal_distribution(confidence):
    labels = torch.arange(400) % 2
    logits = torch.eye(2)[torch.where(torch.arange(400) < 100, 1 - labels, labels)]  # three of four are right
    standard_error = (0.75 * 0.25 / 400) ** 0.5
    expected = norm.interval(confidence, 0.75, standard_error)
    for score in classification_scores(logits, labels, confidence).values():  # of equal classes F1 is the accuracy
        assert (score.low, score.high) == pytest.approx(expected, abs=0.2 * standard_error)


def test_the_interval_lies_about_the_score_also_where_a_class_is_never_predicted():
    score = classification_scores(torch.eye(2)[torch.zeros(400, dtype=torch.long)], torch.arange(400) % 2)["macro F1"]
    assert score.value == pytest.approx((2 * 200 / (200 + 400) + 0) / 2)
    assert score.low < score.value < score.high


def test_outputs_may_carry_a_graph_and_are_averaged_in_float64():
    errors = torch.tensor([4097.0, 1.0], requires_grad=True)
    assert regression_scores(errors, torch.zeros(2))["mean squared error"].value == (4097**2 + 1) / 2
    logits = torch.tensor([[0.0, 2.0], [1.0, 0.0]], requires_grad=True)
    assert classification_scores(logits, torch.tensor([1, 0]))["accuracy"].value == 1.0
    confidences = 1 / (1 + np.exp([-1.0, -2.0]))
    np.testing.assert_allclose(calibration(logits, torch.tensor([1, 0])).confidences, confidences, rtol=1e-15)


def test_a_class_that_is_only_predicted_or_never_seen_counts_as_scikit_learn_has_it():
    logits, labels = torch.eye(5)[[0, 1, 3, 3]], torch.tensor([0, 1, 1, 1])
    assert classification_scores(logits, labels)["macro F1"].value == pytest.approx(
        f1_score(labels, logits.argmax(1), average="macro")
    )


def test_labels_beyond_the_outputs_are_misses():
    assert classification_scores(torch.eye(2), torch.tensor([0, 7]))["accuracy"].value == 0.5


def test_calibration_is_that_of_scikit_learn():
    logits, labels = predictions(0, n=1000)
    confidences, predicted = logits.softmax(1).max(1)
    expected = calibration_curve((predicted == labels).numpy(), confidences.numpy(), n_bins=10)
    found = calibration(logits, labels)
    np.testing.assert_allclose((found.accuracies, found.confidences), expected)
    assert found.counts.sum() == 1000


def test_certainty_is_in_the_last_bin():
    logits, labels = torch.tensor([[1000.0, 0.0], [0.0, 1000.0], [0.0, 3.0], [0.0, 0.1]]), torch.tensor([0, 0, 1, 1])
    found = calibration(logits, labels)
    assert found.counts.tolist() == [1, 3]
    assert found.accuracies.tolist() == [1.0, pytest.approx(2 / 3)]
    gaps = np.abs(found.confidences - found.accuracies)
    assert found.error == pytest.approx((gaps[0] + 3 * gaps[1]) / 4)


def test_one_bin_compares_the_mean_confidence_with_the_accuracy():
    logits, labels = predictions(0)
    found = calibration(logits, labels, bins=1)
    assert found.confidences.tolist() == pytest.approx([logits.softmax(1).amax(1).mean().item()])
    assert found.accuracies.tolist() == pytest.approx([accuracy_score(labels, logits.argmax(1))])


def test_probabilities_that_labels_were_drawn_from_are_calibrated_and_sharper_ones_are_not():
    logits, labels = predictions(0, n=20_000)
    assert calibration(logits, labels).error < 0.02
    assert calibration(3 * logits, labels).error > 0.1


@pytest.mark.parametrize(
    ("score", "message"),
    [
        (lambda: classification_scores(torch.zeros(3, 2), torch.zeros(4, dtype=torch.long)), "got 3 for 4"),
        (lambda: calibration(torch.zeros(3, 2), torch.zeros(4, dtype=torch.long)), "got 3 for 4"),
        (lambda: calibration(torch.zeros(0, 2), torch.zeros(0, dtype=torch.long)), "at least one sample"),
        (lambda: calibration(torch.zeros(1, 2), torch.zeros(1, dtype=torch.long), bins=0), "bins must be at least 1"),
        (lambda: regression_scores(torch.zeros(3), torch.zeros(4)), "got 3 for 4"),
        (lambda: regression_scores(torch.zeros(0), torch.zeros(0)), "at least one sample"),
        (lambda: regression_scores(torch.zeros(3, 1), torch.zeros(3)), r"\(3, 1\) and targets \(3,\) differ in shape"),
    ],
)
def test_what_cannot_be_scored_is_refused(score, message):
    with pytest.raises(ValueError, match=message):
        score()
