import numpy as np
import pytest
import torch
from sklearn.linear_model import Ridge

from fitcore.evaluation.linear_probe import probe_accuracy, reconstruction, ridge_predictions
from fitcore.seeding import seeded


@pytest.mark.parametrize("n", [5, 60])
def test_predictions_are_those_of_scikit_learn(n):
    with seeded(0):
        x, y, others = (torch.randn(*shape, dtype=torch.float64) + 1 for shape in [(n, 4, 5), (n, 3), (7, 4, 5)])
    alpha = 0.1 * x.flatten(1).var(0, correction=0).sum().item()
    reference = Ridge(alpha=alpha).fit(x.flatten(1).numpy(), y.numpy()).predict(others.flatten(1).numpy())
    np.testing.assert_allclose(ridge_predictions(x, y, others, penalty=0.1), reference, rtol=1e-8)


def test_separate_classes_are_told_apart_and_noise_is_not():
    with seeded(0):
        labels, noise = torch.randint(3, (600,)), torch.randn(600, 4)
    assert probe_accuracy(torch.eye(3)[labels] * 9 + noise[:, :3], labels, classes=3) == 1.0
    assert probe_accuracy(noise, labels, classes=3) == pytest.approx(1 / 3, abs=0.1)


def test_inputs_come_back_from_a_linear_map_and_not_from_noise():
    with seeded(0):
        inputs, mixing, noise = torch.randn(200, 6), torch.randn(6, 8), torch.randn(200, 8)
    assert reconstruction(inputs @ mixing, inputs, penalty=1e-6) > 0.999
    assert reconstruction(noise, inputs, penalty=1.0) < 0.1


def halves_as_scikit_learn_has_them(features, targets, penalty):
    """Ridge regression fitted to the first half of the samples, at the second."""
    known, half = features.flatten(1).numpy(), len(features) // 2
    alpha = penalty * known[:half].var(0).sum()
    return Ridge(alpha=alpha).fit(known[:half], targets[:half].numpy()).predict(known[half:])


def test_probes_are_fitted_to_the_first_half_and_asked_about_the_second():
    with seeded(0):
        labels, noise = torch.randint(3, (121,)), torch.randn(121, 2, 3, dtype=torch.float64)
        features = noise + torch.eye(3, dtype=torch.float64)[labels][:, None]
        inputs = features.sum(1) + torch.randn(121, 3, dtype=torch.float64) + 5
    indicators = torch.eye(3, dtype=torch.float64)[labels]
    expected = halves_as_scikit_learn_has_them(features, indicators, 0.3).argmax(1) == labels[60:].numpy()
    accuracy, r2 = probe_accuracy(features, labels, classes=3), reconstruction(features, inputs)
    assert isinstance(accuracy, float)
    assert accuracy == pytest.approx(expected.mean())
    told, truth = halves_as_scikit_learn_has_them(features, inputs, 1e-3), inputs[60:].numpy()
    unexplained = ((told - truth) ** 2).sum() / ((truth - inputs[:60].mean(0).numpy()) ** 2).sum()
    assert isinstance(r2, float)
    assert r2 == pytest.approx(1 - unexplained)


def test_the_penalty_must_be_positive():
    with pytest.raises(ValueError, match="penalty must be positive, got 0"):
        ridge_predictions(torch.ones(2, 1), torch.ones(2, 1), torch.ones(1, 1), penalty=0)


def test_features_that_do_not_vary_give_the_mean():
    predicted = ridge_predictions(torch.ones(4, 2), torch.arange(4.0)[:, None], torch.zeros(3, 2), penalty=0.1)
    assert predicted.flatten().tolist() == [1.5] * 3
