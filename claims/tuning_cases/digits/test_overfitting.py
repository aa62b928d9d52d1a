"""Case 1: how far the repaired network overfits, and what dropout and weight decay do for it, together and one by one.

By default the network has a quarter of the printed channels and learns from the middle 22x22 pixels of 120 digits for
40 epochs, or of 1,000 for 5, at a rate of 0.003. The findings say what the printed network gave, at the printed rate.
All claims read the same trained copies, as many as each needs, and stand in one file so that pytest-xdist, told to keep
files whole, has them trained once.
"""

from dataclasses import asdict

import numpy as np
import torch

from fitcore.evaluation.scores import calibration, classification_scores
from fitcore.testing import CONDITIONAL, REFUTED, claim, override

SINGLE = ("dropout", "weight decay")
as_many = override("as many digits", few="many")
unregularised = override("the base network again", recipe="baseline")


@claim(
    "tuning-cases/mnist-overfit-train99-test97",
    verdict=CONDITIONAL,
    finding="It is a matter of how many digits there are. The printed figures are those of some 8,000: with them the "
    "printed network, repaired, came after five epochs to 99.3 ± 0.1 % on them and 97.6 ± 0.2 % on others, macro F1 "
    "likewise (means of eight copies, tried apart). With fewer it overfits more: here, with a quarter of the channels, "
    "by 18 points with 120 digits and 4 to 5 with 1,000, where 9 % of the test digits are missed. With the document's "
    "60,000, which were not run, it is to be expected to overfit less than printed. Macro F1 stays within a point of "
    "accuracy. Asserted is that the network overfits, and the more the fewer the digits.",
    controls=[as_many],
)
def test_how_far_the_network_overfits_depends_on_the_number_of_digits(recipes, copies, evidence, few="few"):
    less, more = (recipes(digits, most=8).scores["baseline"] for digits in (few, "many"))
    measured = [more[metric].mean() / 100 for metric in ("training accuracy", "test accuracy", "macro F1")]
    name = "five epochs, with as many digits as this run has"
    evidence.figure(name, reported=[0.99, 0.9725, 0.9723], measured=measured, tolerance=0.005)
    assert less["training accuracy"].mean() > 99
    assert 1 < more["gap"].mean() < 0.8 * less["gap"].mean()
    assert more["test accuracy"].mean() > less["test accuracy"].mean()
    assert abs(more["macro F1"] - more["test accuracy"]).max() < 1
    one = copies("many")[0]
    rows = [{"score": name, **asdict(score)} for name, score in classification_scores(one.logits, one.labels).items()]
    evidence.table("one copy, with intervals of 95 %", rows)


@claim(
    "tuning-cases/mnist-fewer-data-larger-gap",
    finding="About 18 points with 120 digits and 40 epochs, and 4 to 5 with 1,000 and 5; of the printed network about "
    "5 with 1,000 (four runs) and 1.7 ± 0.1 with 8,000 (eight runs, tried apart).",
    controls=[as_many],
)
def test_fewer_digits_leave_a_larger_gap(recipes, evidence, few="few"):
    less, more = (recipes(digits, most=8).scores["baseline"]["gap"] for digits in (few, "many"))
    evidence.compare("training minus test accuracy, points", {"few digits": less, "many digits": more})
    assert less.mean() > more.mean() + 2


@claim(
    "tuning-cases/skipping-eval-mode-lowers-dropout-accuracy",
    finding="By 4 to 5 points, the mean of a network with 120 digits and one with 1,000.",
    controls=[override("evaluation mode after all", metric="in eval mode"), override("no dropout", recipe="baseline")],
)
def test_dropout_left_on_costs_test_accuracy(recipes, evidence, metric="in train mode", recipe="together"):
    costs = []
    for digits in ("few", "many"):
        scores = recipes(digits, "together", most=8).scores[recipe]
        modes = {"eval()": scores["in eval mode"], "train()": scores[metric]}
        evidence.compare(f"accuracy on 1,000 test digits, {digits} learned", modes)
        costs.append((modes["eval()"] - modes["train()"]).mean())
    assert np.mean(costs) > 0.3


def accuracy_at(confidences, copies):
    """Accuracy of all copies' predictions that state such a confidence, between the means of ten bins."""
    logits, labels = torch.cat([copy.logits for copy in copies]), torch.cat([copy.labels for copy in copies])
    binned = calibration(logits, labels)
    return np.interp(confidences, binned.confidences, binned.accuracies)


@claim(
    "tuning-cases/dropout-wd-improves-calibration",
    finding="With 120 digits it falls from about 12 points to 8.5. With 1,000 and five epochs, where there is little "
    "overfitting, it was small and rose, from 1.3 to 2.3 points (30 copies, tried apart).",
    controls=[unregularised],
)
def test_the_bundle_makes_the_stated_confidence_more_honest(recipes, copies, evidence, recipe="together"):
    few, confidences = recipes("few", "together", most=14), np.linspace(0.3, 0.95, 66)
    curves = {arm: accuracy_at(confidences, copies("few", arm, most=14)) for arm in few.scores}
    evidence.curve("accuracy", confidences, {"as stated": confidences} | curves, x_label="confidence")
    errors = {arm: scores["calibration error"] for arm, scores in few.scores.items()}
    evidence.compare("expected calibration error, points", errors)
    assert few.difference("calibration error", recipe).mean < 0


@claim(
    "tuning-cases/dropout-wd-improves-test-when-overfit",
    finding="With 120 digits the test loss falls by three tenths, from 1.0 to 0.7, and accuracy rises by about two "
    "points, from 81.5 % to 83 % (means of 20 copies). The printed network with 1,000 digits and 20 epochs, tried "
    "apart, went from a loss of 0.22 to 0.16 and from 94.8 % to 95.6 % (means of four runs).",
    controls=[unregularised, override("weight decay alone", recipe="weight decay", most=6)],
)
def test_the_bundle_helps_a_network_that_overfits(recipes, evidence, recipe="together", most=None):
    few = recipes("few", recipe, most=most)
    for metric in ("test accuracy", "test loss"):
        evidence.compare(f"{metric}, few digits", {name: scores[metric] for name, scores in few.scores.items()})
    assert few.scores["baseline"]["gap"].mean() > 3
    assert few.difference("log of test loss", recipe).mean < -0.1
    assert few.difference("test accuracy", recipe).mean > 0


@claim(
    "tuning-cases/dropout-wd-shrinks-gap",
    verdict=CONDITIONAL,
    finding="It shrinks the gap, but not always markedly. With 120 digits that of the losses falls by three tenths, "
    "that of the accuracies by 8 to 11 %, from 18.5 points to 16.5. With 8,000 digits the printed network went, after "
    "five epochs, from 1.7 to 1.2 points (0.5 ± 0.1, means of eight copies, tried apart), by a lower training accuracy "
    "at the same test accuracy.",
    controls=[unregularised, override("more digits for the second model", second="many", most=3)],
)
def test_the_bundle_shrinks_the_gap_of_losses_markedly_and_that_of_accuracies_a_little(
    recipes, evidence, *, recipe="together", second="few", most=None
):
    few, other = recipes("few", "together", most=most), recipes(second, "together", most=most)
    for metric in ("gap", "gap of losses"):
        evidence.compare(f"{metric}, few digits", {arm: scores[metric] for arm, scores in few.scores.items()})
    of_accuracies, of_losses = (
        1 - other.scores[recipe][metric].mean() / few.scores["baseline"][metric].mean()
        for metric in ("gap", "gap of losses")
    )
    assert 0 < of_accuracies < 0.3
    assert of_losses > 0.1


@claim(
    "tuning-cases/dropout-wd-gains-1-65-points-full-run",
    verdict=REFUTED,
    finding="With 8,000 digits the printed network, which then has 97.6 % without the bundle, gains 0.0 ± 0.2 points "
    "by it (eight copies, tried apart; the document's 60,000 were not run). The printed figures would take 60 % of the "
    "test errors away. With 120 digits the bundle gains as many points, 1.3 to 2.2, but of 18.5 missed, which is 7 to "
    "12 %; with 1,000 the three copies of a run gain anything from -0.6 to 1.2 points, and thirty tried apart 0.5 ± "
    "0.2, or 6 %.",
    controls=[override("more digits for the second model", second="many")],
)
def test_the_bundle_gains_less_than_printed(recipes, evidence, second=None):
    shares = []
    for digits in ("few", "many"):
        before = recipes(digits, most=14).scores["baseline"]["test accuracy"].mean()
        after = recipes(second or digits, "together", most=14).scores["together"]["test accuracy"].mean()
        shares.append((after - before) / (100 - before))
        evidence.figure(f"points gained, {digits} digits", reported=1.65, measured=after - before, tolerance=0.005)
    evidence.table("share of the test errors taken away", [{"few digits": shares[0], "many digits": shares[1]}])
    assert shares[0] < 0.25
    assert np.mean(shares) < 0.35 < (0.9890 - 0.9725) / (1 - 0.9725)


@claim(
    "tuning-cases/weight-decay-1e-4-alone-helps-generalisation",
    verdict=REFUTED,
    finding="It does next to nothing: alone it changes the test loss by about 1 %, rarely by 3, and accuracy by less "
    "than 0.3 points, and beside dropout both by no more than their noise. Dropout alone does what the two do.",
    controls=[override("dropout for weight decay", part="dropout", rest="weight decay")],
)
def test_weight_decay_of_1e_4_is_idle(recipes, evidence, part="weight decay", rest="dropout"):
    few = recipes("few", *SINGLE, "together", most=6)
    evidence.table("test loss, few digits", few.rows("test loss"))
    evidence.table("test accuracy, few digits", few.rows("test accuracy"))
    alone, beside = few.difference("log of test loss", part), few.difference("log of test loss", "together", to=rest)
    assert abs(alone.mean) < 0.08
    assert abs(beside.mean) < 0.25
    assert abs(few.difference("test accuracy", part).mean) < 1
    assert few.difference("log of test loss", rest).mean < -0.1


@claim(
    "tuning-cases/single-factor-ablation-exposes-idle-parts",
    finding="In case 1 the bundle lowers the test loss by a third. Dropout alone does as much, and weight decay "
    "nothing to speak of, which only the arms with a single change show.",
    controls=[override("the other part", idle="dropout")],
)
def test_changing_one_part_at_a_time_shows_which_is_idle(recipes, evidence, idle="weight decay"):
    few = recipes("few", *SINGLE, "together", most=6)
    evidence.table("log of the test loss", few.rows("log of test loss"))
    effects = {arm: few.difference("log of test loss", arm).mean for arm in ("dropout", "weight decay", "together")}
    assert effects["together"] < 0
    assert abs(effects[idle]) < abs(effects["together"]) / 2
