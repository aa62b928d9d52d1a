"""The step decay of case 2: the rates that it trains with, and those that it prints."""

import pytest
import torch
from torch import nn
from torch.optim.lr_scheduler import StepLR

from fitcore.testing import CONDITIONAL, REFUTED, claim, override, replace
from fitcore.training import fit

EPOCHS = range(1, 16)
RATES = [1e-3] * 5 + [1e-4] * 5 + [1e-5] * 5
IMPROVED = {"deep": True, "batch_norm": True, "dropout": 0.3, "decay": True}


@claim(
    "tuning-cases/steplr-multiplies-by-0-1-every-5-epochs",
    controls=[
        override("stepped after every batch", schedule_every="batch"),
        replace("torch.optim.lr_scheduler.StepLR.get_lr", lambda scheduler: scheduler.base_lrs, "a rate that stays"),
    ],
)
def test_five_epochs_each_are_trained_with_a_thousandth_a_tenth_and_a_hundredth_of_it(evidence, schedule_every="epoch"):
    model, data = nn.Linear(2, 1), (torch.ones(6, 2), torch.ones(6, 1))
    adam = torch.optim.Adam(model.parameters(), lr=1e-3)
    history = fit(
        model,
        data,
        batch_size=3,
        epochs=15,
        optimizer=adam,
        loss=nn.functional.mse_loss,
        scheduler=StepLR(adam, step_size=5, gamma=0.1),
        schedule_every=schedule_every,
    )
    evidence.curve("learning rate", EPOCHS, {"trained with": history.learning_rates}, x_label="epoch")
    assert history.learning_rates.tolist() == pytest.approx(RATES)


def rate(optimizer):
    return optimizer.param_groups[0]["lr"]


def after_the_step(scheduler):
    scheduler.step()
    return scheduler.get_last_lr()[0]


def before_the_step(scheduler):
    printed = scheduler.get_last_lr()[0]
    scheduler.step()
    return printed


def trained_and_printed(end_of_epoch):
    """The rates that the epochs are trained with, and those that their ends print."""
    parameter = torch.ones(1, requires_grad=True)
    adam = torch.optim.Adam([parameter], lr=1e-3)
    scheduler = StepLR(adam, step_size=5, gamma=0.1)
    trained, printed = [], []
    for _ in EPOCHS:
        parameter.grad = torch.ones(1)
        trained.append(rate(adam))
        adam.step()
        printed.append(f"{end_of_epoch(scheduler):.6f}")
    return trained, [float(number) for number in printed]


@claim(
    "tuning-cases/printed-current-lr-is-the-epochs-lr",
    verdict=REFUTED,
    finding="The scheduler has stepped before the rate is printed, so it is that of the next epoch: ten times too "
    "small after epochs 5, 10 and 15, the same in the other twelve. Printed before the step it is right.",
    controls=[override("printed before the step", end_of_epoch=before_the_step)],
)
def test_the_rate_printed_is_that_of_the_next_epoch(evidence, end_of_epoch=after_the_step):
    trained, printed = trained_and_printed(end_of_epoch)
    evidence.curve("learning rate", EPOCHS, {"trained with": trained, "printed": printed}, x_label="epoch")
    wrong = [epoch for epoch, of, said in zip(EPOCHS, trained, printed, strict=True) if said != pytest.approx(of)]
    assert wrong == [5, 10, 15]
    assert printed[:-1] == pytest.approx(trained[1:])
    assert printed[-1] == pytest.approx(1e-6)
    trained, printed = trained_and_printed(before_the_step)
    assert printed == pytest.approx(trained)


@claim(
    "tuning-cases/steplr-speeds-up-late-convergence",
    verdict=REFUTED,
    finding="It stops the convergence, as the loss hardly moves once the rate has fallen: with four batches an epoch, "
    "which is what this run asserts, the training loss after 15 epochs, in evaluation, is 0.66 with the decay and 0.14 "
    "without. With the document's 32 batches, measured apart, the first epoch after the fall gains 0.03 of 0.6 (16 "
    "seeds), and from the eighth on it is behind (once). At 64x64 pixels and printed widths, measured once: 0.10 and "
    "0.01.",
    controls=[override("no decay both times", decay=False)],
)
def test_the_decay_leaves_a_higher_training_loss(greenhouse, evidence, decay=True):
    comparison = greenhouse.compare({"decay": {"decay": decay}}, **IMPROVED | {"decay": False})
    curves = {
        variant: [scores[f"running loss of epoch {epoch}"].mean() for epoch in EPOCHS]
        for variant, scores in comparison.scores.items()
    }
    evidence.curve(f"running loss on {greenhouse.source}", EPOCHS, curves, x_label="epoch")
    assert comparison.difference("training loss", "decay").mean > 0.2
    assert comparison.difference("running loss of epoch 15", "decay").mean > 0.2


@claim(
    "tuning-cases/steplr-improves-late-accuracy",
    verdict=CONDITIONAL,
    finding="With the document's 32 batches an epoch it does: 60 % against 56 %, with a test loss of 1.01 against 1.46 "
    "(measured once, apart: 1,000 images, 11 seeds). With four batches the accuracy is 0 to 3 points lower, which four "
    "copies hardly tell from nothing. With two, of 25 images, and at printed widths the test loss still falls, by 0.06 "
    "to 0.10.",
    controls=[override("no decay both times", decay=False)],
)
def test_in_few_batches_the_decay_lowers_the_test_loss_and_leaves_the_accuracy(greenhouse, evidence, decay=True):
    changes, constant = {"decay": {"decay": decay}}, IMPROVED | {"decay": False}
    comparison = greenhouse.compare(changes, **constant)
    few = {"copies": 13, "samples": 25, "batch_size": 13, "others": 80}
    as_printed = greenhouse.compare(changes, narrowed=1, **few, **constant)
    evidence.table(f"test accuracy on {greenhouse.source}", comparison.rows("test accuracy"))
    evidence.table(f"test loss on {greenhouse.source}, at printed widths", as_printed.rows("test loss"))
    assert comparison.difference("training loss", "decay").mean > 0.2
    assert abs(comparison.difference("test accuracy", "decay").mean) < 0.06
    assert as_printed.difference("test loss", "decay").mean < 0


@claim(
    "tuning-cases/steplr-decay-stalls-net-without-bn",
    finding="At the constant rate it knows 67 % of its images after 15 epochs, and is still learning; with the decay "
    "its loss stays at about 1.45 from epoch 10 on, and it knows 44 %.",
    controls=[override("a constant rate", decay=False), override("with batch normalisation", batch_norm=True)],
)
def test_without_batch_norm_the_decay_stops_the_network_before_it_fits(
    greenhouse, evidence, decay=True, batch_norm=False
):
    constant = IMPROVED | {"decay": False, "batch_norm": batch_norm}
    comparison = greenhouse.compare({"decay": {"decay": decay}}, **constant)
    evidence.table(f"training accuracy on {greenhouse.source}", comparison.rows("training accuracy"))
    tenth, last = (comparison.scores["decay"][f"running loss of epoch {epoch}"] for epoch in (10, 15))
    assert abs((tenth - last).mean()) < 0.05
    assert comparison.scores["decay"]["training accuracy"].mean() < 0.6
    assert comparison.difference("training loss", "decay").mean > 0.2
