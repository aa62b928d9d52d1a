"""Case 1: what dropout and weight decay do for the repaired network, together and one at a time.

By default the network has a quarter of the printed channels and learns from 120 digits for 40 epochs, or from 1,000
for 5, at a rate of 0.003. The findings say what the printed network gave, at the printed rate.
"""

import numpy as np
import torch

from fitcore.evaluation.scores import calibration
from fitcore.testing import REFUTED, claim, override

unregularised = override("the base network again", recipe="baseline")


@claim(
    "tuning-cases/dropout-wd-improves-test-when-overfit",
    finding="With 120 digits the test loss falls by about a third, from 1.07 to 0.72, and accuracy rises by about two "
    "points, from 81 % to 83 % (means of 24 copies). The printed network with 1,000 digits and 20 epochs went from a "
    "loss of 0.22 to 0.16 and from 94.8 % to 95.6 % (means of four runs).",
    controls=[unregularised, override("weight decay alone", recipe="weight decay", most=4)],
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
    finding="By about a tenth with 120 digits, from 19 points to 17. The printed network with 8,000 digits and "
    "five epochs went from 2.0 to 1.5 points (one run), by a lower training accuracy at the same test accuracy.",
    controls=[unregularised],
)
def test_the_bundle_shrinks_the_gap(recipes, evidence, recipe="together"):
    few = recipes("few")
    evidence.compare("gap in points, few digits", {arm: scores["gap"] for arm, scores in few.scores.items()})
    assert few.difference("gap", recipe).mean < 0
    assert few.difference("gap of losses", recipe).mean < 0


def accuracy_at(confidences, copies):
    """Accuracy of all copies' predictions that state such a confidence, between the means of ten bins."""
    logits, labels = torch.cat([copy.logits for copy in copies]), torch.cat([copy.labels for copy in copies])
    binned = calibration(logits, labels)
    return np.interp(confidences, binned.confidences, binned.accuracies)


@claim(
    "tuning-cases/dropout-wd-improves-calibration",
    finding="With 120 digits it falls from about 12.5 points to 9. With 1,000 and five epochs, where there is little "
    "overfitting, it was small and rose, from 1.3 to 2.1 points (24 copies, tried apart).",
    controls=[unregularised],
)
def test_the_bundle_makes_the_stated_confidence_more_honest(recipes, copies, evidence, recipe="together"):
    few, confidences = recipes("few"), np.linspace(0.3, 0.95, 66)
    curves = {arm: accuracy_at(confidences, copies("few", arm)) for arm in few.scores}
    evidence.curve("accuracy", confidences, {"as stated": confidences} | curves, x_label="confidence")
    errors = {arm: scores["calibration error"] for arm, scores in few.scores.items()}
    evidence.compare("expected calibration error, points", errors)
    assert few.difference("calibration error", recipe).mean < 0


@claim(
    "tuning-cases/dropout-wd-gains-1-65-points-full-run",
    verdict=REFUTED,
    finding="The printed figures would take 60 % of the test errors away; measured are about 10 % with 120 "
    "digits and 8 % with 1,000. Not run with the document's 60,000, except where all of MNIST is given; with 8,000 the "
    "printed network came to 97.25 % both with them and without (one run each).",
    controls=[override("training digits for the second model", metric="training accuracy")],
)
def test_the_bundle_gains_less_than_printed(recipes, evidence, metric="test accuracy"):
    shares = []
    for digits in ("few", "many"):
        scores = recipes(digits).scores
        before, after = scores["baseline"]["test accuracy"].mean(), scores["together"][metric].mean()
        shares.append((after - before) / (100 - before))
        evidence.figure(f"points gained, {digits} digits", reported=1.65, measured=after - before, tolerance=0.005)
    evidence.table("share of the test errors taken away", [{"few digits": shares[0], "many digits": shares[1]}])
    assert np.mean(shares) < 0.35 < (0.9890 - 0.9725) / (1 - 0.9725)


@claim(
    "tuning-cases/weight-decay-1e-4-alone-helps-generalisation",
    verdict=REFUTED,
    finding="It does next to nothing: alone it changes the test loss by less than 1 % and accuracy by 0.01 points, and "
    "beside dropout both by no more than their noise. Dropout alone does what the two do.",
    controls=[override("dropout for weight decay", part="dropout", rest="weight decay")],
)
def test_weight_decay_of_1e_4_is_idle(recipes, evidence, part="weight decay", rest="dropout"):
    few = recipes("few", "dropout", "weight decay", most=4)
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
    few = recipes("few", "dropout", "weight decay", most=4)
    evidence.table("log of the test loss", few.rows("log of test loss"))
    effects = {arm: few.difference("log of test loss", arm).mean for arm in ("dropout", "weight decay", "together")}
    assert effects["together"] < 0
    assert abs(effects[idle]) < abs(effects["together"]) / 2
