"""Section 3.3 and the closing remarks: does early stopping lower the test loss, and does L2 beside it?

The document fixes no model for the second. Ours is the network of its section 3.2 without dropout, on powers of x/5 and
standardised targets, under Adam at 0.01: on the document's 140 points with noise 0.2, where there is hardly anything to
overfit, and on 20 points with noise of standard deviation 40, where there is. Test losses are against the noise-free
law.
"""

from dataclasses import dataclass
from functools import partial

import numpy as np
import pytest
import torch
from torch import Tensor

from fitcore.data import cubic_plus_sine, cubic_plus_sine_law
from fitcore.ensembles import Ensemble, fit, mean_squared_errors
from fitcore.models import MLP, power_features
from fitcore.seeding import seeded
from fitcore.testing import CONDITIONAL, REFUTED, claim, override
from fitcore.training import EarlyStopping

TRIALS = 160
PATIENCE = 20


@dataclass(frozen=True)
class Setting:
    """Points to learn from and to validate on, the noise on both, the epochs of a full training, and the penalty."""

    samples: int = 20
    held_out: int = 30
    noise: float = 40.0
    epochs: int = 250
    weight_decay: float = 0.0


OVERFITTING = Setting()
OVERFITTING_PENALISED = Setting(weight_decay=0.02)
DOCUMENTS = Setting(samples=140, held_out=60, noise=0.2, epochs=120)
DOCUMENTS_PENALISED = Setting(samples=140, held_out=60, noise=0.2, epochs=120, weight_decay=0.02)


@dataclass(frozen=True)
class Run:
    """Losses by epoch (E, trials), and the early stopper's: when it fired, and the validation losses it leaves.

    ``validation`` has NaN after the stop; ``test`` goes on to the last epoch. ``stopped`` counts epochs from 1, and is
    the last where the stopper never fired. ``kept`` is the validation loss of the parameters of the best epoch.
    """

    test: Tensor
    validation: Tensor
    stopped: Tensor
    kept: Tensor

    @property
    def full(self) -> Tensor:
        """Test loss after the last epoch."""
        return self.test[-1]

    @property
    def early(self) -> Tensor:
        """Test loss of the model in hand when the stopper fires."""
        return at(self.stopped, self.test)

    @property
    def in_hand(self) -> Tensor:
        """Validation loss of that model."""
        return at(self.stopped, self.validation)

    @property
    def lowest(self) -> Tensor:
        """Lowest validation loss until then."""
        return self.validation.nan_to_num(torch.inf).min(0).values


def at(epochs, losses):
    return losses.gather(0, epochs[None] - 1)[0]


def trained(seeds, setting):
    """Train one network a seed, with the stopper and without; trial k has the same data and start in every setting."""
    with seeded(seeds[0]):
        training, validation = (
            cubic_plus_sine(count, setting.noise, sets=(len(seeds),)) for count in (setting.samples, setting.held_out)
        )
    grid = torch.linspace(-5, 5, 31)[:, None].expand(len(seeds), -1, -1)
    law = cubic_plus_sine_law(grid)
    centre, unit = training[1].mean(1, keepdim=True), training[1].std(1, keepdim=True)
    training, validation, truth = (
        (power_features(x / 5, 10), (y - centre) / unit) for x, y in (training, validation, (grid, law))
    )
    learn = partial(
        fit,
        epochs=setting.epochs,
        optimizer=partial(torch.optim.Adam, lr=0.01, fused=True),
        l2=setting.weight_decay / 2,
    )
    watched, free = (Ensemble(lambda: MLP([10, 64, 1], torch.nn.ReLU), seeds) for _ in range(2))
    stopped = learn(watched, training, validation=validation, early_stopping=EarlyStopping(PATIENCE))
    whole = learn(free, training, validation=truth)
    with torch.no_grad():
        kept = mean_squared_errors(watched.eval()(validation[0]), validation[1])
    return Run(whole.validation_losses, stopped.validation_losses, stopped.epochs, kept)


@pytest.fixture
def run(shared):
    """``run(setting)``, trained once a session: 160 trials where the network overfits, 60 on the document's points."""
    return lambda setting: shared(
        trained, tuple(shared.seeds(TRIALS if setting.samples < 100 else 60).tolist()), setting
    )


@claim(
    "generalization/early-stopper-leaves-best-model",
    verdict=REFUTED,
    finding="The model in hand is that of the 20th epoch after the best, and its validation loss is higher, by 14 to "
    "21 % in the median. Who wants the best must keep a copy of its parameters.",
    controls=[override("the best epoch's parameters, kept", left="kept")],
    trials=TRIALS,
)
def test_the_stopper_leaves_a_model_past_its_best(run, trials, evidence, left="in_hand"):
    stopping = run(OVERFITTING)
    losses = {"model in hand": stopping.in_hand, "best epoch's": stopping.lowest}
    evidence.compare("validation loss when the stopper fires", losses)
    trials.less(1.001 * stopping.lowest, getattr(stopping, left), at_least=0.8, name="higher than the lowest")
    torch.testing.assert_close(stopping.kept, stopping.lowest)


@claim(
    "generalization/early-stopping-improves-test-loss",
    verdict=CONDITIONAL,
    finding="Where the network overfits (20 points, noise of standard deviation 40) the model in hand at the stop, "
    "epoch 30 in the median, has the lower test loss in 94 to 98 % of runs: 0.19 to 0.29 against 0.7 to 1.2 at the end "
    "(medians). On the document's 140 points with noise 0.2 the test loss falls to the end, and the stopper hardly "
    "ever fires: it gains nothing.",
    controls=[override("where there is nothing to overfit", setting=DOCUMENTS)],
    trials=TRIALS,
)
def test_early_stopping_lowers_the_test_loss_where_the_network_overfits(run, trials, evidence, setting=OVERFITTING):
    overfitting, plenty = run(setting), run(DOCUMENTS)
    epochs = np.arange(1, len(overfitting.test) + 1)
    evidence.curve("median test loss", epochs, {"20 noisy points": overfitting.test.median(1).values}, x_label="epoch")
    evidence.observe("epoch of the stop", overfitting.stopped)
    evidence.compare("test loss", {"at the stop": overfitting.early, "at the end": overfitting.full})
    trials.less(overfitting.early, overfitting.full, at_least=0.6, name="20 noisy points: lower at the stop")
    trials.mostly((plenty.early >= plenty.full).numpy(), at_least=0.5, name="140 points: not lower")


@claim(
    "generalization/early-stop-plus-l2-beats-either",
    verdict=CONDITIONAL,
    finding="Where the network overfits (20 points, noise of standard deviation 40) both together, with a weight decay "
    "of 0.02, have a lower test loss than either alone: than early stopping in 86 to 92 % of runs, than L2 in 77 to "
    "89 %, than the better of the two in three of four. On the document's 140 points with noise 0.2 the penalty only "
    "does harm: both together have five to six times the loss of early stopping alone.",
    controls=[
        override("no penalty beside it", penalised=OVERFITTING),
        override("no penalty on 140 points either", penalised_plenty=DOCUMENTS),
    ],
    trials=TRIALS,
)
def test_both_together_beat_each_alone_only_where_the_network_overfits(
    run, trials, evidence, penalised=OVERFITTING_PENALISED, penalised_plenty=DOCUMENTS_PENALISED
):
    plain, l2, plenty, both_on_plenty = map(run, (OVERFITTING, penalised, DOCUMENTS, penalised_plenty))
    methods = {"neither": plain.full, "early stopping": plain.early, "L2": l2.full, "both": l2.early}
    evidence.compare("test loss on 20 noisy points", methods)
    evidence.compare("test loss on 140 points", {"early stopping": plenty.early, "both": both_on_plenty.early})
    trials.less(l2.early, plain.early, name="20 noisy points: better than early stopping alone")
    trials.less(l2.early, l2.full, name="20 noisy points: better than L2 alone")
    trials.less(plenty.early, both_on_plenty.early, name="140 points: worse than early stopping alone")
