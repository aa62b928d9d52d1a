"""Section 18.1: training accuracy rises, test accuracy falls; for example from 90 to 100 percent, and from 88 to 70.

The document names neither network nor data. Ours has 128 hidden neurons, and 200 digits of 8x8 pixels to learn in 40
epochs.
"""

from fitcore.testing import CONDITIONAL, claim, override

TRIALS = 60
WIDE = {"hidden": (128,), "epochs": 40}
TABLE = {1: (0.90, 0.88), 5: (0.98, 0.85), 10: (1.00, 0.70)}


def while_held_out_accuracy_falls(curves):
    """Training accuracy where held-out accuracy is best, and after the last epoch, (trials,) each."""
    return curves.training.gather(0, curves.held_out.argmax(0)[None])[0], curves.training[-1]


def at_training_accuracy(curves, level):
    """Held-out accuracy after the first epoch that trains to accuracy ``level``, or the last, (trials,)."""
    reached = curves.training >= level
    reached[-1] = True
    return curves.held_out.gather(0, reached.int().argmax(0)[None])[0]


@claim(
    "pytorch-notes/test-accuracy-collapses-88-to-70",
    verdict=CONDITIONAL,
    finding="Only if labels are wrong. If 40 % of the training labels are random, held-out accuracy falls by some 17 "
    "points from its best, while training accuracy climbs from about 62 to 95 %. With true labels it goes on rising, "
    "from 86 to 92 %, while training accuracy rises from 90 to 100 %. The table is an example, and no run of ours has "
    "its last row: with 10 % random labels its first two nearly come out (90 and 88 %, 98 and 85 %), but in the end "
    "(99.5 %) it is 85, not 70, and with 40 % held-out accuracy falls by 2 points from 90 % on (medians).",
    controls=[
        override("true labels", wrongest=0.0),
        override("wrong labels for true ones", none_wrong=0.4),
    ],
    trials=TRIALS,
)
def test_held_out_accuracy_falls_only_where_labels_are_wrong(
    learned, trials, evidence, *, none_wrong=0.0, few_wrong=0.1, wrongest=0.4
):
    clean, some, many = (learned(**WIDE, wrong=wrong) for wrong in (none_wrong, few_wrong, wrongest))
    arms = {"true labels": clean, "10 % random": some, "40 % random": many}
    for name, arm in arms.items():
        series = {"training": arm.training.median(1).values, "held out": arm.held_out.median(1).values}
        evidence.curve(f"median accuracy, {name}", arm.epochs, series, x_label="epoch")
    reached = [at_training_accuracy(some, level).median().item() for level, _ in TABLE.values()]
    reported = [held_out for _, held_out in TABLE.values()]
    evidence.figure("test accuracy at 90, 98, 100 %, 10 % random", reported=reported, measured=reached, tolerance=0.005)
    trials.less(0.72, some.held_out[-1], name="10 % random: above 72 % in the end")
    trials.less(at_training_accuracy(clean, 0.9), clean.held_out[-1], name="true labels: it rises")
    trials.less(many.held_out[-1] + 0.08, many.held_out.max(0).values, name="40 % random: it falls by over 8 points")
    trials.less(*while_held_out_accuracy_falls(many), by=0.2, name="and training accuracy rises by over 20 meanwhile")
    for arm in arms.values():
        trials.less(at_training_accuracy(arm, 0.9) - 0.18, arm.held_out[-1], name="never by 18 from 90 % on")
