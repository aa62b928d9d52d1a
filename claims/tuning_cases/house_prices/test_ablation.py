"""Case 3: what BatchNorm and the extra layer do alone, and whether a cheaper change does more."""

import numpy as np
import pytest
import torch

from fitcore.testing import CONDITIONAL, REFUTED, claim, override
from fitcore.training import compare

DEEPER = {"hidden": (64, 32), "weight_decay": 1e-5}
STOPPED = "50 epochs, early stopping"


@claim(
    "tuning-cases/case3-bn-lowers-regression-error",
    verdict=CONDITIONAL,
    finding="As printed it raises it: from 0.046 to 0.080 after 20 epochs of Adam, and from 0.037 to 0.072 after "
    "50. Beside plain layers its error is lower only where training has just begun: after the first epoch "
    "of Adam, and with SGD at 0.001 still after 5, where it has 0.55 instead of 0.76 (means).",
    controls=[override("no BatchNorm", batch_norm=False)],
    trials=60,
)
def test_batchnorm_raises_the_error_except_early_in_training(initial, improved, trials, evidence, batch_norm=True):
    normalised, plain = improved(batch_norm=batch_norm), initial(**DEEPER)
    sgd = {"optimizer": torch.optim.SGD, "epochs": 5}
    slow, slow_plain = improved(batch_norm=batch_norm, **sgd), initial(**DEEPER, **sgd)
    curves = {"BatchNorm": normalised.test.median(1).values, "without": plain.test.median(1).values}
    evidence.curve("test MAE, Adam", range(1, 51), curves, x_label="epoch")
    evidence.compare("test MAE, Adam, 20 epochs", {"BatchNorm": normalised.test[19], "without": plain.test[19]})
    evidence.compare("test MAE, SGD, 5 epochs", {"BatchNorm": slow.test[-1], "without": slow_plain.test[-1]})
    trials.less(plain.test[19], normalised.test[19], name="Adam, after 20 epochs: raised")
    trials.less(plain.test[49], normalised.test[49], name="Adam, after 50 epochs: raised")
    trials.less(normalised.test[0], plain.test[0], name="Adam, after 1 epoch: lowered")
    trials.less(slow.test[-1], slow_plain.test[-1], name="SGD, after 5 epochs: lowered")


def relative_changes(maes):
    """Mean of |Δ log MAE| from epoch to epoch, from the tenth on, (S,)."""
    return np.abs(np.diff(np.log(maes[9:]), axis=0)).mean(0)


@claim(
    "tuning-cases/case3-bn-stabilises-training",
    verdict=REFUTED,
    finding="From the tenth epoch on the validation MAE changes by 16 % an epoch with it and by 6 % without "
    "(means), and more than twice as much in absolute terms.",
    controls=[override("no BatchNorm", batch_norm=False)],
    trials=60,
)
def test_batchnorm_makes_the_validation_error_fluctuate_more(initial, improved, trials, evidence, batch_norm=True):
    normalised, plain = (arm.validation.numpy() for arm in (improved(batch_norm=batch_norm), initial(**DEEPER)))
    evidence.curve(
        "validation MAE, one seed", range(1, 51), {"BatchNorm": normalised[:, 0], "without": plain[:, 0]}, "epoch"
    )
    fluctuation = {"BatchNorm": relative_changes(normalised), "without": relative_changes(plain)}
    evidence.compare("relative change from epoch to epoch", fluctuation)
    trials.less(fluctuation["without"], fluctuation["BatchNorm"], name="more in relative terms")
    steps = [np.abs(np.diff(maes[9:], axis=0)).mean(0) for maes in (plain, normalised)]
    trials.less(2 * steps[0], steps[1], name="twice as much and more in absolute terms")


@claim(
    "tuning-cases/case3-extra-layer-lowers-error",
    finding="From 0.065 to 0.046 (means). It needn't be a layer: 234 neurons in one, with as many parameters, "
    "have 0.035.",
    controls=[override("no extra layer", hidden=(32,), weight_decay=0.0)],
    trials=60,
)
def test_the_extra_layer_lowers_the_error(initial, trials, evidence, *, hidden=(64, 32), weight_decay=1e-5):
    shallow, deep = initial().test[19], initial(hidden=hidden, weight_decay=weight_decay).test[19]
    broad = initial(hidden=(234,), epochs=20).test[19]
    evidence.compare("test MAE after 20 epochs", {"32": shallow, "64-32": deep, "234": broad})
    trials.less(deep, shallow, name="an extra layer: lower")
    trials.less(broad, shallow, name="one wide layer: lower")


@pytest.fixture
def study(initial):
    """Test MAE after 20 epochs or, with ``early_stopping``, after up to 50."""

    def run(early_stopping=False, **setting):
        learned = initial(**setting)
        return {"test MAE": learned.stopped().test if early_stopping else learned.test[19]}

    return run


@claim(
    "tuning-cases/single-factor-ablation-exposes-idle-parts",
    finding="Case 3, test MAE from 0.065: the layer alone takes 0.019 off, up to 50 epochs with early stopping "
    "0.022; BatchNorm adds 0.006, and weight decay of 1e-5 changes nothing. All together have 0.076, more "
    "than the start; without BatchNorm they have 0.037.",
    controls=[override("no BatchNorm in the bundle", batch_norm=False)],
)
def test_one_part_of_the_bundle_does_harm_and_one_nothing(study, evidence, batch_norm=True):
    changes = {
        "extra layer": DEEPER,
        "BatchNorm": {"batch_norm": batch_norm},
        STOPPED: {"early_stopping": True},
    }
    comparison = compare(study, changes)
    evidence.table("test MAE, the layer with weight decay of 1e-5", comparison.rows("test MAE"))
    decay = compare(study, {"weight decay": {"weight_decay": 1e-5, "epochs": 20}})
    evidence.table("test MAE, weight decay alone", decay.rows("test MAE"))
    effects = {name: comparison.difference("test MAE", name).mean for name in comparison.scores}
    assert max(effects["extra layer"], effects[STOPPED], effects["without BatchNorm"]) < -0.01
    assert min(effects["BatchNorm"], effects["together"]) > 0
    assert abs(decay.difference("test MAE", "weight decay").mean) < 0.002


@claim(
    "tuning-cases/cheap-hyperparameters-before-structure",
    finding="From 0.065 a rate of 0.01 leads to 0.023 and 30 more epochs to 0.044; BatchNorm and another layer to "
    "0.080 (means, 20 epochs). The layer without BatchNorm, 0.046, is worth about as much as the epochs.",
    controls=[override("a rate ten times lower instead", lr=1e-4)],
    trials=60,
)
def test_a_higher_rate_or_more_epochs_do_more_than_the_new_structure(initial, improved, trials, evidence, lr=1e-2):
    printed, structure = initial().test, improved().test[19]
    faster = initial(lr=lr, epochs=20).test[19]
    arms = {"initial": printed[19], "rate of 0.01": faster, "50 epochs": printed[49], "structure": structure}
    evidence.compare("test MAE", arms)
    trials.less(faster, printed[19], name="a rate of 0.01: lower")
    trials.less(printed[49], printed[19], name="50 epochs: lower")
    trials.less(torch.maximum(faster, printed[49]), structure, name="either: lower than with the new structure")
    trials.less(faster, initial(**DEEPER).test[19], name="a rate of 0.01: lower than with the layer alone")
