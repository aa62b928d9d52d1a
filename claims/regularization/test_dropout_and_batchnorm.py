"""Section 18.2.2: the listing, which fits four networks to noise and draws their training losses.

There is nothing to be learned in it: the best prediction of the targets is 0, at a test loss of 1. Many seeds run on a
tenth of the samples with a fifth of the width, at three times the learning rate.
"""

from dataclasses import dataclass

import pytest
import torch
from torch import nn
from torch.optim import Adam

from fitcore.models import MLP
from fitcore.seeding import seeded
from fitcore.testing import CONDITIONAL, claim, error_of, override

NETWORKS = {
    "No Regularization": {},
    "With Dropout": {"dropout": 0.5},
    "With BatchNorm": {"batch_norm": True},
    "With Both": {"batch_norm": True, "dropout": 0.3},
}


@dataclass(frozen=True)
class Run:
    """What the listing computes: losses as it prints them, and after training in evaluation, on old and new noise."""

    printed: dict[str, list[float]]
    seen: dict[str, float]
    unseen: dict[str, float]


def loss_in_evaluation(model, x, y):
    with torch.no_grad():
        return nn.functional.mse_loss(model.eval()(x), y).item()


def run_listing(features=100, epochs=100):
    """Seed 42 for the data, then the networks one after the other."""
    with seeded(42):
        x, y = torch.randn(1000, features), torch.randn(1000, 1)
        models = {name: MLP([100, 200, 200, 1], nn.ReLU, **layers) for name, layers in NETWORKS.items()}
        printed = {name: [] for name in models}
        for name, model in models.items():
            optimizer = Adam(model.parameters(), lr=0.001)
            for _ in range(epochs):
                optimizer.zero_grad()
                loss = nn.functional.mse_loss(model.train()(x), y)
                loss.backward()
                optimizer.step()
                printed[name].append(loss.item())
        new = torch.randn(1000, features), torch.randn(1000, 1)
        seen, unseen = (
            {name: loss_in_evaluation(model, *data) for name, model in models.items()} for data in ((x, y), new)
        )
    return Run(printed, seen, unseen)


@claim(
    "pytorch-notes/listing-dropout-bn-runs",
    finding="To the end, and it draws four curves. It draws training losses alone, of targets that are noise: 0.0001 "
    "without regularisation looks best there, and on new noise all four are worse than predicting 0.",
    controls=[override("50 features", features=50)],
)
def test_the_listing_trains_four_networks_and_draws_their_losses(shared, pyplot, evidence, features=100):
    assert error_of(shared, run_listing, features) is None
    run = shared(run_listing, features)
    for name, losses in run.printed.items():
        pyplot.plot(losses, label=name)
    evidence.curve("training loss", range(100), run.printed, x_label="epoch")
    evidence.table(
        "after training", [{"network": name, "seen": run.seen[name], "new": run.unseen[name]} for name in NETWORKS]
    )
    assert [line.get_label() for line in pyplot.gca().get_lines()] == list(NETWORKS)
    assert [len(losses) for losses in run.printed.values()] == [100] * 4
    assert run.printed["No Regularization"][-1] < 0.001
    assert min(run.unseen.values()) > 1.05


@claim(
    "pytorch-notes/dropout-slower-training-loss",
    finding="0.39 after the listing's 100 epochs, the plain network 0.0001. Half of that is the dropping itself, while "
    "the loss is taken: in evaluation it is 0.2. On the small copy 0.65 against 0.007 (medians).",
    controls=[override("no dropout", order="relu")],
    trials=60,
)
def test_dropout_reports_a_higher_training_loss(shared, noise_learned, trials, evidence, order="relu dropout"):
    run, plain, dropped = shared(run_listing), noise_learned("relu"), noise_learned(order)
    medians = {"p = 0": plain.losses.median(1).values, "p = 0.5": dropped.losses.median(1).values}
    evidence.curve("median training loss", range(len(plain.losses)), medians, x_label="epoch")
    assert run.printed["With Dropout"][-1] > 1.4 * run.seen["With Dropout"]
    assert run.seen["With Dropout"] > 100 * run.seen["No Regularization"]
    trials.less(10 * plain.losses[-1], dropped.losses[-1], name="more than ten times as high in the end")


@claim(
    "pytorch-notes/dropout-prevents-overfitting-18-2-2",
    verdict=CONDITIONAL,
    finding="On the listing's noise it does: after 100 epochs 1.21 instead of 1.45, on the small copy 1.1 instead of "
    "1.7 (medians). That is less overfitting, not none: its training loss is half as large by then, and 0 would have "
    "been the better prediction.",
    controls=[override("no dropout", order="relu")],
    trials=60,
)
def test_dropout_lowers_the_test_loss_on_noise(shared, noise_learned, trials, evidence, order="relu dropout"):
    run, plain, dropped = shared(run_listing), noise_learned("relu"), noise_learned(order)
    arms = {"p = 0": plain.validation_losses[-1], "p = 0.5": dropped.validation_losses[-1]}
    evidence.compare("test loss on noise", arms, limit=1)
    assert 1.05 < run.unseen["With Dropout"] < run.unseen["No Regularization"] - 0.05
    trials.less(arms["p = 0.5"], arms["p = 0"], by=0.1, name="lower with dropout")
    trials.less(dropped.losses[-1], arms["p = 0.5"], name="and still above the training loss")


@claim(
    "pytorch-notes/dropout-prevents-overfitting-18-2-2",
    verdict=CONDITIONAL,
    finding="Not where the network has yet to learn: after 12 epochs on 200 digits the test loss is 0.8 with dropout "
    "and 0.6 without, the accuracy 86 % and 89 % (medians). After 40 epochs it is 0.27 and 0.25, still worse, after "
    "100 it is 0.21 and 0.23, better in most trials (both tried apart).",
    controls=[override("no dropout", order="relu")],
    trials=40,
)
def test_dropout_raises_the_test_loss_of_a_network_that_has_yet_to_learn(
    taught, trials, evidence, order="relu dropout"
):
    (plain,), (dropped,) = taught("relu").loss, taught(order).loss
    evidence.compare("test loss", {"p = 0": plain, "p = 0.5": dropped})
    evidence.compare("test accuracy", {"p = 0": taught("relu").accuracy[0], "p = 0.5": taught(order).accuracy[0]})
    trials.less(plain, dropped, by=0.05, name="higher with dropout")


@claim(
    "pytorch-notes/bn-speeds-convergence",
    finding="In epochs: on the small copy the tenth has a loss of 0.45 instead of 0.8, though the first a higher. It "
    "isn't only that the rate suits it better: at the ten-fold rate, where the plain network is fastest, the loss of "
    "the tenth is 0.04 instead of 0.18 (medians).",
    controls=[override("without BatchNorm", order="relu")],
    trials=60,
)
@pytest.mark.parametrize("rate", [{"lr": 0.003, "epochs": 60}, {"lr": 0.03, "epochs": 12}], ids=["0.003", "0.03"])
def test_batchnorm_lowers_the_training_loss_in_fewer_epochs(noise_learned, trials, evidence, rate, order="norm relu"):
    plain, normalised = (noise_learned(arm, **rate).losses for arm in ("relu", order))
    medians = {"plain": plain.median(1).values, "BatchNorm": normalised.median(1).values}
    evidence.curve("median training loss", range(len(plain)), medians, x_label="epoch")
    trials.less(plain[0], normalised[0], name="higher in the first epoch")
    trials.less(normalised[9], 0.8 * plain[9], name="lower in the tenth")


@claim(
    "pytorch-notes/bn-speeds-convergence",
    finding="So does the listing: its loss passes below 0.5 in epoch 9 with BatchNorm, without it in epoch 20.",
    controls=[override("the plain network", arm="No Regularization")],
)
def test_the_listing_converges_in_half_of_the_epochs_with_batchnorm(shared, evidence, arm="With BatchNorm"):
    printed = shared(run_listing).printed
    plain, normalised = (sum(loss > 0.5 for loss in printed[key]) for key in ("No Regularization", arm))
    evidence.table("epochs with a loss above 0.5", [{"plain": plain, "BatchNorm": normalised}])
    assert normalised < 0.7 * plain
