"""Section 4's principles, on case 3: diagnose before tuning, and keep the best model of every round."""

import numpy as np
import pytest
import torch

from fitcore.evaluation.diagnosis import Pattern, diagnose
from fitcore.testing import claim, override

PATIENTS = {
    "raw prices, too small a rate": {"scale_target": False, "epochs": 50},
    "few rows, noisy prices": {
        "copies": 80,
        "samples": 300,
        "noise": 150.0,
        "validation_share": 0.5,
        "repaired": True,
        "own_data": True,
        "lr": 1e-2,
        "epochs": 150,
    },
}


@claim(
    "tuning-cases/evaluate-first-then-tune",
    finding="A regressor that underfitted gained from longer training and nothing from stopping early; one that "
    "overfitted gained from stopping early and lost by longer training. Learning curves told which it was in nearly "
    "every run.",
    controls=[override("remedies exchanged", prescribed=(Pattern.OVERFITTING, Pattern.UNDERFITTING))],
    trials=48,
)
@pytest.mark.parametrize("patient", PATIENTS)
def test_the_remedy_that_the_diagnosis_names_lowers_the_error_and_the_other_does_not(
    initial, trials, evidence, patient, *, prescribed=(Pattern.UNDERFITTING, Pattern.OVERFITTING)
):
    learned, now = initial(**PATIENTS[patient]), PATIENTS[patient]["epochs"] // 3
    curves = zip(learned.losses[:now].T, learned.validation_mse[:now].T, strict=True)
    patterns = np.array([diagnose(*of_copy, baseline=1.0) for of_copy in curves])
    before, longer, shorter = learned.test[now - 1], learned.test[-1], learned.stopped(until=now).test
    named = np.select([patterns == pattern for pattern in prescribed], [longer, shorter], before)
    other = np.select([patterns == pattern for pattern in prescribed], [shorter, longer], before)
    arms = {"as it is": before, "remedy": named, "the other one": other}
    evidence.compare("test MAE", arms)
    evidence.table("diagnosis", [{pattern: int((patterns == pattern).sum()) for pattern in Pattern}])
    trials.less(named, before, name="the remedy: lower")
    trials.mostly(other >= before.numpy(), at_least=0.5, name="the other one: not lower")


def by_validation(validation):
    """The round with the lowest validation MAE, (S,)."""
    return validation.argmin(0)


def the_last(validation):
    """The last round."""
    return torch.full(validation.shape[1:], len(validation) - 1)


@claim(
    "tuning-cases/keep-best-model-for-rollback",
    finding="The rounds of case 3 end with a model that is worse than the one before, 0.072 after 0.037 (means). A "
    "saved file brings that back to the bit; trained under another seed it has another error.",
    controls=[override("the last round", choose=the_last)],
    trials=48,
)
def test_a_saved_round_undoes_tuning_that_did_harm(
    initial, improved, trials, evidence, tmp_path, *, choose=by_validation
):
    rounds = {
        "initial": initial(),
        "another layer": initial(hidden=(64, 32), weight_decay=1e-5),
        "BatchNorm": improved(),
    }
    validation, test = (
        torch.stack([getattr(each, part)[-1] for each in rounds.values()]) for part in ("validation", "test")
    )
    chosen = choose(validation)
    kept = test.gather(0, chosen[None])[0]
    evidence.compare("test MAE after 50 epochs", dict(zip(rounds, test, strict=True)) | {"kept": kept})
    trials.less(kept, test[-1], name="lower than after the last round")
    best = list(rounds.values())[chosen[0]]
    torch.save(best.ensemble.module(0).state_dict(), tmp_path / "best.pth")
    again, other_seed = best.ensemble.module(1), best.ensemble.module(1)
    again.load_state_dict(torch.load(tmp_path / "best.pth"))
    x, y = best.table.test
    maes = [(model.eval()(x) - y).abs().mean().item() for model in (best.ensemble.module(0), again, other_seed)]
    assert maes[0] == maes[1] != maes[2]
