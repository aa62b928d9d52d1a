"""Section 8.5.1: whether the patterns of the curves tell their causes apart."""

import numpy as np

from fitcore.evaluation.diagnosis import Pattern, diagnose
from fitcore.testing import claim, override

TRIALS = 90  # 60 networks for digits, 30 for a sine
CHANCE = float(np.log(10))  # the loss of a model that knows nothing of ten classes


SINE_VARIANCE = 0.5 + 0.3**2
CAUSES = {
    "healthy": Pattern.HEALTHY,
    "overfitting": Pattern.OVERFITTING,
    "large rate": Pattern.OSCILLATING,
    "too simple": Pattern.UNDERFITTING,
    "tiny rate": Pattern.UNDERFITTING,
}


@claim(
    "pytorch-notes/patterns-identify-causes",
    finding="450 runs with known causes, on digits and on a noisy sine: `fitcore.evaluation.diagnosis` names the cause "
    "from the two curves in 99 % of them, once it is told what a constant prediction would cost. Without that the "
    "straight line that underfits a sine looks healthy.",
    controls=[override("the training loss alone", blind=True)],
    trials=TRIALS,
)
def test_the_patterns_tell_the_causes_apart(learned, regressed, trials, evidence, blind=False):
    rows, right = [], {}
    for cause, expected in CAUSES.items():
        curves = learned(cause)
        runs = [(*pair, CHANCE) for pair in zip(curves.training.T, curves.held_out.T, strict=True)]
        runs += [(*pair, SINE_VARIANCE) for pair in zip(*(loss.T for loss in regressed(cause)), strict=True)]
        found = [diagnose(training, training if blind else held_out, base) for training, held_out, base in runs]
        rows.append({"cause": cause, **{str(pattern): found.count(pattern) for pattern in Pattern}})
        right[cause] = np.array([pattern == expected for pattern in found])
    evidence.table("causes and what the curves are taken for", rows)
    for cause, mask in right.items():
        trials.mostly(mask, 0.5, name=f"{cause}: recognised")
    trials.mostly(np.concatenate(list(right.values())), 0.85, name="all causes: recognised")
