"""Sections 17 and 19: whether the learning rate should fall, measured where the answer is known.

SGD on linear regression: 500 samples of 20 Gaussian features, label noise of variance 1. In batches of 8 the noise of
the gradients never ends; with all samples in one batch there is none.
"""

import numpy as np
import pytest
import torch

from fitcore.testing import CONDITIONAL, claim, override

TRIALS = 60
FULL_BATCH = {"batch_size": None, "epochs": 100}
CONSTANTS = tuple(("constant", lr) for lr in (0.001, 0.002, 0.005, 0.01, 0.02, 0.04))
rising = override("the cosine backwards", falling="rising")


def final(loss):
    return loss[:, -1].numpy()


def record(evidence, name, losses):
    """The median curve of each schedule."""
    epochs = np.arange(next(iter(losses.values())).shape[1]) + 1
    evidence.curve(name, epochs, {arm: loss.median(0).values for arm, loss in losses.items()}, x_label="epoch")


@claim(
    "pytorch-notes/lr-decay-beats-constant-noisy-sgd",
    verdict=CONDITIONAL,
    finding="With noisy gradients: after 20 epochs from 0.02 a cosine leaves an excess of 0.0002 and StepLR(7, 0.3) "
    "0.0001, where the constant rate goes on jumping about at 0.02 (medians). The best of six constant rates, 0.005, "
    "still leaves seven times as much as a cosine from 0.01. But a cosine that begins too low, at 0.002, comes to a "
    "stop nearly fifty times above the constant 0.002.",
    controls=[rising],
    trials=TRIALS,
)
def test_decay_beats_any_constant_rate_in_noise_unless_it_begins_too_low(excess, trials, evidence, falling="cosine"):
    losses = excess()
    record(evidence, "excess loss", {name: losses[name, 0.02] for name in ("constant", falling, "steps")})
    trials.less(20 * final(losses[falling, 0.02]), final(losses["constant", 0.02]), name="a twentieth by a cosine")
    trials.less(20 * final(losses["steps", 0.02]), final(losses["constant", 0.02]), name="a twentieth by steps")
    best = torch.stack([losses[arm] for arm in CONSTANTS])[..., -1].amin(0).numpy()
    trials.less(2 * final(losses["cosine", 0.01]), best, name="half of the best constant rate's")
    trials.less(10 * final(losses["constant", 0.002]), final(losses["cosine", 0.002]), name="too low to decay")


@claim(
    "pytorch-notes/lr-decay-beats-constant-noisy-sgd",
    verdict=CONDITIONAL,
    finding="Without noise, in full batches, a constant rate leaves less after 100 epochs than a cosine from the same "
    "rate (0.01, 0.02 and 0.04): what is left shrinks by the same factor each time, and a lower rate only makes it "
    "shrink less.",
    controls=[override("batches of 8", setting={})],
    trials=TRIALS,
)
@pytest.mark.parametrize("lr", [0.01, 0.02, 0.04])
def test_without_noise_the_constant_rate_leaves_less(lr, excess, trials, evidence, setting=FULL_BATCH):
    losses = {name: excess(**setting)[name, lr] for name in ("constant", "cosine")}
    record(evidence, "excess loss", losses)
    trials.always((losses["constant"] < 0.99 * losses["cosine"])[:, -1].numpy())


@claim(
    "pytorch-notes/lr-should-always-decrease",
    verdict=CONDITIONAL,
    finding="With noisy gradients it should be small at the end. On the way it may rise: a restart, one cycle or two "
    "cycles up to 0.02 end with about a fortieth, a seventieth and an eighteenth of the constant rate's excess; cosine "
    "and steps, which only fall, with less than a hundredth (medians). The cosine backwards ends where the constant "
    "does.",
    controls=[override("backwards", schedule="rising")],
    trials=TRIALS,
)
@pytest.mark.parametrize("schedule", ["cosine", "steps", "warm restarts", "one cycle", "cyclic"])
def test_in_noise_the_rate_must_be_small_at_the_end_and_may_rise_before(schedule, excess, trials, evidence):
    losses = {name: excess()[name, 0.02] for name in ("constant", schedule, "rising")}
    record(evidence, "excess loss", losses)
    trials.less(5 * final(losses[schedule]), final(losses["constant"]), name="a fifth of the constant rate's")
    trials.less(0.5 * final(losses["constant"]), final(losses["rising"]), name="of no use where it rises to the end")


@claim(
    "pytorch-notes/lr-should-always-decrease",
    verdict=CONDITIONAL,
    finding="Without noise, and with the same highest rate, nothing is gained: after 100 full batches the constant "
    "rate 0.02 leaves a thirtieth of what the five schedules do that have it as their highest (medians).",
    controls=[override("batches of 8", setting={})],
    trials=TRIALS,
)
@pytest.mark.parametrize("schedule", ["cosine", "steps", "warm restarts", "one cycle", "cyclic"])
def test_without_noise_the_rate_may_stay(schedule, excess, trials, setting=FULL_BATCH):
    losses = excess(**setting)
    trials.always((2 * losses["constant", 0.02] < losses[schedule, 0.02])[:, -1].numpy())


@claim(
    "pytorch-notes/small-lr-from-start-slower",
    verdict=CONDITIONAL,
    finding="After 20 epochs 0.001 leaves 0.14 to 0.18 and 0.02 leaves 0.02 (medians): it has not arrived yet. After "
    "40 it has, and leaves a seventh to an eleventh of what 0.02 does, whose noise doesn't end. 0.005 is below 0.02 "
    "after 20 epochs already.",
    controls=[override("40 epochs", short=40)],
    trials=TRIALS,
)
def test_a_small_rate_leaves_more_only_until_it_has_arrived(excess, trials, evidence, short=20):
    soon, late = (excess(epochs=epochs, arms=CONSTANTS) for epochs in (short, 40))
    record(evidence, "excess loss", {f"lr {lr}": late["constant", lr] for lr in (0.001, 0.005, 0.02)})
    trials.less(2 * final(soon["constant", 0.02]), final(soon["constant", 0.001]), name="20 epochs: small leaves more")
    trials.less(2 * final(late["constant", 0.001]), final(late["constant", 0.02]), name="40 epochs: small leaves less")
    trials.less(
        5 * final(soon["constant", 0.005]), final(soon["constant", 0.02]), name="20 epochs of a better small one"
    )


def epochs_to(level, loss):
    """The first epoch with a loss of at most ``level``, or one more than there are."""
    reached = loss <= level
    return torch.where(reached.any(1), reached.int().argmax(1) + 1, loss.shape[1] + 1).numpy()


@claim(
    "pytorch-notes/scheduler-speeds-convergence",
    verdict=CONDITIONAL,
    finding="Towards a loss that its first rate, kept, cannot reach: a cosine from 0.02 has an excess of 0.002 after "
    "13 of 20 epochs (median), the constant 0.02 never. But a constant 0.005 has it after 9; to 0.1, which both "
    "reach, cosine and constant 0.02 take as many epochs; and to 0.005 a constant 0.01 takes 5, the cosine 11.",
    controls=[override("the cosine backwards", falling="rising")],
    trials=TRIALS,
)
def test_a_schedule_gets_below_its_first_rate_kept_but_a_smaller_one_is_faster(
    excess, trials, evidence, falling="cosine"
):
    constant, smaller, scheduled = (excess()[arm] for arm in (("constant", 0.02), ("constant", 0.01), (falling, 0.02)))
    record(evidence, "excess loss", {"constant 0.02": constant, "constant 0.01": smaller, f"{falling} 0.02": scheduled})
    evidence.observe("epochs of the cosine to 0.002", epochs_to(0.002, scheduled))
    trials.mostly(epochs_to(0.002, scheduled) <= 20, 0.5, name="reaches 0.002")
    trials.mostly(epochs_to(0.002, constant) > 20, 0.5, name="a constant rate doesn't")
    trials.mostly(epochs_to(0.1, scheduled) == epochs_to(0.1, constant), 0.5, name="0.1 in as many epochs")
    trials.less(epochs_to(0.005, smaller), epochs_to(0.005, scheduled), name="0.005 sooner by a constant rate")
    smallest = excess()["constant", 0.005]
    trials.less(epochs_to(0.002, smallest), epochs_to(0.002, scheduled), name="0.002 sooner by a smaller one")


@claim(
    "pytorch-notes/scheduler-speeds-convergence",
    verdict=CONDITIONAL,
    finding="Without noise a schedule slows down: in full batches the constant 0.02 needs 45 to 48 updates until the "
    "excess is 0.5, the cosine from 0.02 some 60 to 70, and StepLR(35, 0.3) some 70 to 90 (medians).",
    controls=[override("batches of 8", setting={})],
    trials=TRIALS,
)
@pytest.mark.parametrize("schedule", ["cosine", "steps"])
def test_without_noise_a_schedule_slows_down(schedule, excess, trials, evidence, setting=FULL_BATCH):
    constant, scheduled = (epochs_to(0.5, excess(**setting)[name, 0.02]) for name in ("constant", schedule))
    evidence.compare("updates to an excess of 0.5", {"constant": constant, schedule: scheduled})
    trials.less(constant, scheduled, by=1)
