"""Case 3: the errors that it prints, before and after tuning, beside those measured."""

import torch

from fitcore.testing import CONDITIONAL, REFUTED, claim, override

INITIAL, IMPROVED = (0.3567, 0.2015), (0.0892, 0.0198)


@claim(
    "tuning-cases/case3-initial-mae-0-3567",
    verdict=CONDITIONAL,
    finding="The optimizer isn't told. With plain SGD at 0.002 the mean over seeds is about 0.36 and 0.21, as "
    "printed. With Adam at 0.001, which trains the improved regressor, it is 0.066 and 0.007: a fifth of "
    "the error.",
    controls=[
        override("Adam instead of SGD", sgd=torch.optim.Adam),
        override("SGD instead of Adam", adam=torch.optim.SGD),
    ],
    trials=60,
)
def test_sgd_leaves_the_initial_error_and_adam_a_fifth_of_it(
    initial, trials, evidence, sgd=torch.optim.SGD, adam=torch.optim.Adam
):
    slow, fast = initial(optimizer=sgd, lr=2e-3, epochs=20), initial(optimizer=adam)
    maes, mses = slow.test[19], slow.test_mse[19]
    evidence.compare("test MAE after 20 epochs", {"SGD": maes, "Adam": fast.test[19]}, limit=INITIAL[0])
    evidence.figure("MAE and MSE, SGD", reported=INITIAL, measured=(maes.mean(), mses.mean()), tolerance=0.07)
    evidence.figure(
        "MAE and MSE, Adam", reported=INITIAL, measured=(fast.test[19].mean(), fast.test_mse[19].mean()), tolerance=0.07
    )
    assert abs(maes.mean() - INITIAL[0]) < 0.07
    assert abs(mses.mean() - INITIAL[1]) < 0.09
    trials.less(fast.test[19], INITIAL[0] / 3 * torch.ones(trials.count), name="Adam: less than a third of the MAE")


@claim(
    "tuning-cases/case3-improved-mae-0-0892",
    verdict=REFUTED,
    finding="The MAE comes near it, 0.06 to 0.10, 0.077 on average. The MSE is 0.010 on average, hardly ever as much. "
    "No run has such a pair: an MSE of 2.5 times the squared MAE means heavy tails, and these errors have "
    "1.6, as normal ones do.",
    controls=[override("one epoch", epochs=1)],
    trials=60,
)
def test_the_improved_regressor_never_has_the_printed_mse(improved, trials, evidence, epochs=50):
    stopped = improved(epochs=epochs).stopped()
    measured = stopped.test.mean(), stopped.test_mse.mean()
    evidence.figure("MAE and MSE", reported=IMPROVED, measured=measured, tolerance=0.00005)
    evidence.compare("test MSE", {"improved": stopped.test_mse}, limit=IMPROVED[1])
    trials.less(stopped.test_mse, torch.full_like(stopped.test_mse, IMPROVED[1]), name="a lower MSE")
    trials.less(stopped.test_mse / stopped.test**2, torch.full_like(stopped.test, 2.2), name="no such tails")
    assert IMPROVED[1] / IMPROVED[0] ** 2 > 2.4
    assert abs(measured[0] - IMPROVED[0]) < 0.025


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
    verdict=REFUTED,
    finding="With Adam at 0.001 for both it is worse: 0.076 after up to 50 epochs, the initial one 0.066 after 20 "
    "and 0.044 after 50 (means). What made the document's initial regressor bad was not its structure.",
    controls=[override("no BatchNorm", batch_norm=False), override("an initial one of 4 epochs", epochs=(4, 4))],
    trials=60,
)
def test_the_improved_regressor_is_no_better_than_the_initial_one(
    initial, improved, trials, evidence, *, batch_norm=True, epochs=(20, 50)
):
    early, late = (initial().test[count - 1] for count in epochs)
    tuned = improved(batch_norm=batch_norm).stopped().test
    arms = {"initial, 20 epochs": early, "initial, 50 epochs": late, "improved": tuned}
    evidence.compare("test MAE", arms)
    assert tuned.mean() > early.mean()
    trials.less(early - 0.015, tuned, name="not lower by 0.015 than after 20 epochs")
    trials.less(late, tuned, name="higher than after as many epochs")


@claim(
    "tuning-cases/case3-predictions-more-stable",
    verdict=CONDITIONAL,
    finding="Only beside an initial regressor that SGD at 0.002 has left half-trained, as the printed figures "
    "suggest: its test MAE has a standard deviation of about 0.06 over seeds, the improved one's 0.008. "
    "With Adam the initial one's is 0.006.",
    controls=[
        override("Adam for both", sgd=torch.optim.Adam),
        override("SGD for both", adam=torch.optim.SGD),
    ],
)
def test_the_improved_regressor_is_steadier_only_than_one_trained_by_sgd(
    initial, improved, evidence, sgd=torch.optim.SGD, adam=torch.optim.Adam
):
    slow = initial(optimizer=sgd, lr=2e-3, epochs=20).test[19]
    fast = initial(optimizer=adam).test[19]
    tuned = improved().stopped().test
    evidence.compare("test MAE", {"initial, SGD": slow, "initial, Adam": fast, "improved": tuned})
    assert tuned.std() < 0.3 * slow.std()
    assert 0.4 < tuned.std() / fast.std() < 3
