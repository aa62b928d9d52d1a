"""Case 3: the errors that it prints, before and after tuning, beside those measured."""

import torch

from fitcore.evaluation.scores import regression_scores
from fitcore.testing import CONDITIONAL, REFUTED, claim, override

INITIAL, IMPROVED = (0.3567, 0.2015), (0.0892, 0.0198)
SGD, ADAM = {"optimizer": torch.optim.SGD, "lr": 2e-3, "epochs": 20}, {"optimizer": torch.optim.Adam, "lr": 1e-3}


def beside_printed(learned, printed):
    """MAE and MSE of the first copy, with intervals of 95 % over test rows, and their range over all copies."""
    x, y = learned.table.test
    scores = regression_scores(learned.ensemble.module(0).eval()(x).flatten(), y.flatten())
    over_seeds = learned.test[-1], learned.test_mse[-1]
    return [
        {"error": name, "printed": figure, "one copy": score.value, "from": score.low, "to": score.high}
        | {"lowest of all copies": errors.min().item(), "highest": errors.max().item()}
        for (name, score), figure, errors in zip(scores.items(), printed, over_seeds, strict=True)
    ]


@claim(
    "tuning-cases/case3-initial-mae-0-3567",
    verdict=CONDITIONAL,
    finding="The optimizer isn't told. With plain SGD at 0.002 the means over seeds are about 0.35 and 0.20, near the "
    "printed ones. With Adam at 0.001, which trains the improved regressor, they are 0.067 and 0.007: less than a "
    "fifth of the printed MAE.",
    controls=[override("Adam instead of SGD", slow=ADAM), override("SGD instead of Adam", fast=SGD)],
    trials=48,
)
def test_sgd_leaves_the_initial_error_and_adam_a_fifth_of_it(initial, trials, evidence, *, slow=SGD, fast=ADAM):
    slow, fast = initial(**slow), initial(**fast)
    maes, mses = slow.test[19], slow.test_mse[19]
    evidence.compare("test MAE after 20 epochs", {"SGD": maes, "Adam": fast.test[19]}, limit=INITIAL[0])
    evidence.figure("MAE and MSE, SGD", reported=INITIAL, measured=(maes.mean(), mses.mean()), tolerance=0.07)
    evidence.figure(
        "MAE and MSE, Adam", reported=INITIAL, measured=(fast.test[19].mean(), fast.test_mse[19].mean()), tolerance=0.07
    )
    evidence.table("SGD, 20 epochs: 200 test rows, and the seeds", beside_printed(slow, INITIAL))
    assert abs(maes.mean() - INITIAL[0]) < 0.07
    assert abs(mses.mean() - INITIAL[1]) < 0.09
    assert fast.test[19].mean() < INITIAL[0] / 5
    trials.less(fast.test[19], INITIAL[0] / 4, name="Adam: less than a quarter of the MAE")


@claim(
    "tuning-cases/case3-improved-mae-0-0892",
    verdict=REFUTED,
    finding="The MAE comes near it, 0.06 to 0.10 but for a rare run, 0.078 on average. The MSE is 0.010 on average, "
    "hardly ever as much. Hardly any run has such a pair: an MSE of 2.5 times the squared MAE means heavy tails, and "
    "these errors have 1.6, as normal ones do. Over other test rows a run's MAE varies by 0.006 to 0.009 either way "
    "(95 %), so that the last two digits printed say nothing.",
    controls=[override("one epoch", epochs=1)],
    trials=48,
)
def test_the_improved_regressor_hardly_ever_has_the_printed_mse(improved, trials, evidence, epochs=50):
    learned = improved(epochs=epochs)
    stopped, in_the_end = learned.stopped(), beside_printed(learned, IMPROVED)
    measured = stopped.test.mean(), stopped.test_mse.mean()
    evidence.figure("MAE and MSE", reported=IMPROVED, measured=measured, tolerance=0.00005)
    evidence.compare("test MSE", {"improved": stopped.test_mse}, limit=IMPROVED[1])
    evidence.table("50 epochs: 200 test rows, and the seeds", in_the_end)
    trials.less(stopped.test_mse, IMPROVED[1], name="a lower MSE")
    trials.less(stopped.test_mse / stopped.test**2, 2.2, name="no such tails")
    assert IMPROVED[1] / IMPROVED[0] ** 2 > 2.4
    assert abs(measured[0] - IMPROVED[0]) < 0.025
    assert in_the_end[0]["to"] - in_the_end[0]["from"] > 0.005


def drops(initial, improved):
    """What the listing prints with a percent sign, and the percentage by which the error has fallen."""
    return 100 * (initial - improved), 100 * (initial - improved) / initial


@claim(
    "tuning-cases/case3-mae-drop-26-75-percent",
    verdict=REFUTED,
    finding="0.2675 is the difference, in standard deviations of the price. The error has fallen by 75.0 %.",
    controls=[override("an initial MAE of 1", initial=1.0, improved=0.7325)],
)
def test_the_error_has_fallen_by_three_quarters(evidence, initial=INITIAL[0], improved=IMPROVED[0]):
    difference, percentage = drops(initial, improved)
    evidence.figure("percent", reported=26.75, measured=percentage, tolerance=0.005)
    assert abs(difference - 26.75) < 1e-9
    assert abs(percentage - 75.0) < 0.05


@claim(
    "tuning-cases/case3-improved-beats-initial",
    verdict=CONDITIONAL,
    finding="It depends on what has trained the initial one, which the document leaves open: by SGD at 0.002, as the "
    "printed figures suggest, that has 0.35 after 20 epochs, against 0.078. With Adam at 0.001 for both the improved "
    "one is worse: the initial one has 0.067 after 20 epochs, and 0.045 after 50 (means). What made the document's "
    "initial regressor bad was not its structure.",
    controls=[override("no BatchNorm", batch_norm=False), override("an initial one of 4 epochs", epochs=(4, 4))],
    trials=48,
)
def test_the_improved_regressor_beats_the_initial_one_only_if_that_was_trained_by_sgd(
    initial, improved, trials, evidence, *, batch_norm=True, epochs=(20, 50)
):
    early, late = (initial().test[count - 1] for count in epochs)
    tuned, by_sgd = improved(batch_norm=batch_norm).stopped().test, initial(**SGD).test[19]
    arms = {"initial, 20 epochs": early, "initial, 50 epochs": late, "initial, SGD, 20 epochs": by_sgd}
    evidence.compare("test MAE", arms | {"improved": tuned})
    trials.less(2 * tuned, by_sgd, name="less than half of what SGD has left")
    assert tuned.mean() > early.mean()
    trials.less(early - 0.015, tuned, name="not lower by 0.015 than after 20 epochs")
    trials.less(late, tuned, name="higher than after as many epochs")


@claim(
    "tuning-cases/case3-predictions-more-stable",
    verdict=CONDITIONAL,
    finding="Only beside an initial regressor that SGD at 0.002 has left half-trained, as the printed figures suggest: "
    "its test MAE has a standard deviation of about 0.06 over seeds, the improved one's 0.007 to 0.010. With Adam the "
    "initial one's is about 0.007.",
    controls=[override("Adam for both", slow=ADAM), override("SGD for both", fast=SGD)],
)
def test_the_improved_regressor_is_steadier_only_than_one_trained_by_sgd(
    initial, improved, evidence, *, slow=SGD, fast=ADAM
):
    slow, fast = (initial(**settings).test[19] for settings in (slow, fast))
    tuned = improved().stopped().test
    evidence.compare("test MAE", {"initial, SGD": slow, "initial, Adam": fast, "improved": tuned})
    assert tuned.std() < 0.4 * slow.std()
    assert 0.4 < tuned.std() / fast.std() < 3
