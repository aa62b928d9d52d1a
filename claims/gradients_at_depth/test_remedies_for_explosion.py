"""Section 15.1.1: which of the remedies cures which explosion, that of depth or that of steps which are too long."""

import math

import pytest
import torch
from torch import nn

from fitcore.testing import CONDITIONAL, claim, override

CHANCE = math.log(10)  # the loss of a network that gives each of ten digits the same probability


@claim(
    "pytorch-notes/clipping-prevents-explosion-in-training",
    verdict=CONDITIONAL,
    finding="It does where the steps are too long. Section 15.2's network, whose loss exceeds 10,000 or is NaN at "
    "a rate of 0.01, learns clipped to 1: from losses of about 1 to 100 to one of 0.7 to 1 (median).",
    controls=[override("clipped in neither", max_norm=None)],
)
def test_clipping_cures_steps_that_are_too_long(demonstrate, trials, evidence, max_norm=1.0):
    clipped, unclipped = demonstrate(max_norm=max_norm), demonstrate()
    evidence.compare("loss, clipped", {"first": clipped.curves.losses[0], "last": clipped.loss})
    trials.always(~(unclipped.curves.losses < 1e4).all(0), name="not clipped: the loss exceeds 10,000 or is NaN")
    trials.always((clipped.curves.losses < 2 * clipped.curves.losses[0]).all(0), name="clipped: never twice the first")
    trials.always(clipped.loss < 20, name="and small in the end")


@claim(
    "pytorch-notes/clipping-prevents-explosion-in-training",
    verdict=CONDITIONAL,
    finding="Where depth makes it explode, clipping keeps it from becoming NaN, and the loss falls, but the explosion "
    "is still there after 40 updates. Eight layers of N(0, 1) weights have a gradient of 1e7; clipped to 1 it is still "
    "6e5 to 9e5, and the loss goes from some 6e6 to 5e5 or 6e5, where Kaiming's weights, not clipped, have come to "
    "about 1.3 (medians).",
    controls=[override("Kaiming's weights", init="kaiming")],
)
def test_clipping_alone_leaves_much_of_the_explosion_of_depth(teach, trials, evidence, init="standard normal"):
    clipped, cured = teach(init=init, max_norm=1.0), teach(init="kaiming")
    evidence.compare(
        "log10 of the gradient", {"before": clipped.gradient_before.log10(), "after": clipped.gradient_after.log10()}
    )
    evidence.compare("log10 of the loss", {"clipped": clipped.loss.log10(), "Kaiming": cured.loss.log10()})
    trials.always(clipped.curves.losses.isfinite().all(0), name="clipped: never NaN")
    trials.always(clipped.loss < clipped.curves.losses[0] / 2, name="clipped: the loss falls")
    trials.always((clipped.gradient_after > 1e3) & (clipped.loss > 1e3), name="clipped: exploded still")
    trials.always(cured.loss < 10, name="Kaiming's weights: nothing explodes")
    assert cured.loss.mean() < CHANCE - 0.05


@claim(
    "pytorch-notes/lower-lr-cures-explosion",
    verdict=CONDITIONAL,
    finding="It does where the steps are too long: at a hundredth of its rate section 15.2's network learns, from "
    "losses of about 1 to 100 to one of 0.7 to 1 (median).",
    controls=[override("the same rate", lr=0.01)],
)
def test_a_lower_rate_cures_steps_that_are_too_long(demonstrate, trials, evidence, lr=1e-4):
    slow, fast = demonstrate(lr=lr), demonstrate()
    evidence.compare("loss at the lower rate", {"first": slow.curves.losses[0], "last": slow.loss})
    trials.always(~(fast.curves.losses < 1e4).all(0), name="at 0.01 the loss exceeds 10,000 or is NaN")
    trials.always((slow.curves.losses < 2 * slow.curves.losses[0]).all(0), name="lower: never twice the first")
    trials.always((slow.loss < 20) & (slow.gradient_after < 100), name="and small in the end, as the gradient is")


@claim(
    "pytorch-notes/lower-lr-cures-explosion",
    verdict=CONDITIONAL,
    finding="It doesn't undo the one of depth: the gradient is 1e7 before any step. Eight layers of N(0, 1) weights "
    "become NaN at a rate of 1e-4; at 1e-6 some do, and some lose all their units, to a loss of log 10; at 1e-7 and "
    "1e-8 nothing overflows and the loss falls, but in 40 updates only from some 3e6 to 1e5 and from some 5e6 to 6e5, "
    "where Kaiming's weights come to about 1.3 at 0.05 (medians).",
    controls=[override("Kaiming's weights", init="kaiming", rates=(0.05, 0.02))],
)
def test_a_lower_rate_does_not_undo_the_explosion_of_depth(
    teach, trials, evidence, init="standard normal", rates=(1e-4, 1e-6, 1e-7, 1e-8)
):
    slow = [teach(init=init, lr=rate) for rate in rates]
    rows = zip(rates, slow, strict=True)
    evidence.table(
        "loss after 40 updates", [{"rate": rate, "median": f"{ended.loss.median():.3g}"} for rate, ended in rows]
    )
    trials.always(slow[0].gradient_before > 1e5, name="the gradient has exploded before the first step")
    learnt = torch.stack([(ended.loss < CHANCE - 0.3).any() for ended in slow])  # NaN is not
    trials.always(~learnt, name="after 40 updates no copy is better than guessing, at any rate")
    trials.always(slow[-1].loss < slow[-1].curves.losses[0] / 2, name="at the lowest the loss falls")
    assert teach(init="kaiming").loss.mean() < CHANCE - 0.05


@claim(
    "pytorch-notes/better-init-prevents-explosion",
    finding="Eight layers of N(0, 1) weights have a gradient of 1e7, and a loss of NaN after 40 updates. Kaiming's "
    "begin with 4 to 8 and come to a loss of about 1.3, Xavier's with 0.2 and to 1.7 (medians).",
    controls=[override("N(0, 1)", init="standard normal")],
)
@pytest.mark.parametrize("init", ["kaiming", "xavier"])
def test_with_a_better_start_nothing_explodes_and_the_network_learns(teach, trials, evidence, init):
    better, worse = teach(init=init), teach()
    evidence.observe("gradient at the start", better.gradient_before)
    evidence.compare("loss", {"first epoch": better.curves.losses[0], "last epoch": better.loss})
    trials.always(worse.gradient_before > 1e5, name="N(0, 1): a gradient above 100,000")
    assert worse.loss.isnan().float().mean() > 0.5
    trials.always((better.gradient_before < 1e3) & (better.gradient_after < 1e3), name="better: below a thousand")
    assert better.loss.mean() < CHANCE - 0.05


@claim(
    "pytorch-notes/norm-layers-rescue-bad-init",
    finding="Eight layers of N(0, 1) weights begin with a gradient of 5 (BatchNorm) or 11 to 14 (LayerNorm) instead "
    "of 1e7, and nothing becomes NaN. With BatchNorm the network learns, to a loss of about 1.5 in 40 updates; with "
    "LayerNorm it falls from 4.6 in the first ten to 2.3, that of guessing (medians).",
    controls=[override("no normalisation", norm=None)],
)
@pytest.mark.parametrize("norm", [nn.BatchNorm1d, nn.LayerNorm])
def test_normalisation_keeps_a_bad_start_from_becoming_nan(teach, trials, evidence, norm):
    rescued, lost = teach(norm=norm), teach()
    evidence.observe("gradient at the start", rescued.gradient_before)
    evidence.compare("loss", {"first epoch": rescued.curves.losses[0], "last epoch": rescued.loss})
    assert lost.loss.isnan().float().mean() > 0.5
    trials.always(rescued.gradient_before < 1e3, name="with it: a gradient below a thousand")
    trials.always(rescued.curves.losses.amax(0) < 50, name="and a loss that stays below 50")
    assert rescued.loss.mean() < rescued.curves.losses[0].mean() - 0.5
