"""Section 18, the table: how underfitting and overfitting look, where they come from, and what cures underfitting.

The document trains nothing here. Ours are ReLU networks for 200 digits of 8x8 pixels, and AdamW at 0.01; the shares of
right answers are those on the digits of the training, but where they are said to be held out.
"""

from fitcore.testing import CONDITIONAL, claim, override

TRIALS = 60
ENOUGH = (64,)  # hidden neurons
TOO_SMALL = (1,)
EPOCHS = 30


@claim(
    "pytorch-notes/underfit-bad-on-train-too",
    finding="With one hidden neuron about a quarter of the training digits is recognised after 30 epochs, with 64 "
    "after a single epoch about half, and of digits held out still fewer; with 64 neurons and 30 epochs all of the "
    "training digits are (medians).",
    controls=[override("large enough", small=ENOUGH), override("trained to the end", few=EPOCHS)],
    trials=TRIALS,
)
def test_a_model_that_is_too_small_or_hardly_trained_fails_on_its_training_data(
    learned, trials, evidence, small=TOO_SMALL, few=1
):
    good, simple = learned(), learned(hidden=small)
    arms = {
        "1 neuron, 30 epochs": (simple, EPOCHS),
        "64 neurons, 1 epoch": (good, few),
        "64 neurons, 30 epochs": (good, EPOCHS),
    }
    for part in ("training", "held_out"):
        shares = {name: getattr(curves, part)[epochs - 1] for name, (curves, epochs) in arms.items()}
        evidence.compare(f"{part} accuracy", shares)
    trials.less(simple.training[-1], 0.5, name="one neuron: fails on half of the training digits")
    trials.less(good.training[few - 1], 0.8, name="one epoch: on a fifth")
    trials.less(simple.held_out[-1], 0.5, name="one neuron: and on half of those held out")
    trials.less(0.95, good.training[-1], name="enough of both: on hardly any")


@claim(
    "pytorch-notes/weaker-regularisation-cures-underfitting",
    verdict=CONDITIONAL,
    finding="Where the regularisation is the cause: a weight decay of 30 under AdamW at 0.01, which multiplies weights "
    "by 0.7 a step, leaves a network at little more than a third of its training digits, none lets it learn all of "
    "them. A network of one neuron recognises about a quarter without any decay (medians): its trouble is another.",
    controls=[
        override("the decay left as it is", weaker=30.0),
        override("a network that is large enough", small=ENOUGH),
    ],
    trials=TRIALS,
)
def test_less_weight_decay_cures_underfitting_only_where_it_was_the_cause(
    learned, trials, evidence, weaker=0.0, small=TOO_SMALL
):
    held_back, freed = learned(decay=30.0), learned(decay=weaker)
    simple = learned(hidden=small)
    arms = {"decay 30": held_back, "none": freed, "1 neuron, none": simple}
    evidence.compare("training accuracy", {name: arm.training[-1] for name, arm in arms.items()})
    trials.less(held_back.training[-1], 0.6, name="a strong decay underfits")
    trials.less(0.95, freed.training[-1], name="without it the same network fits")
    trials.less(simple.training[-1], 0.5, name="one neuron underfits without any")


@claim(
    "pytorch-notes/bigger-model-or-longer-training-cures-underfitting",
    finding="Each cures the fault that it is meant for, too small a network or too few epochs. Training longer does "
    "little for a network that is too small: one neuron reaches 24 % in 30 epochs, where 64 have learned all "
    "(medians).",
    controls=[
        override("no larger", larger=TOO_SMALL),
        override("no longer", longer=1),
        override("enough neurons to begin with", small=ENOUGH),
    ],
    trials=TRIALS,
)
def test_more_neurons_or_more_epochs_cure_underfitting_each_its_own_kind(
    learned, trials, evidence, *, larger=ENOUGH, longer=EPOCHS, small=TOO_SMALL
):
    simple, enlarged, trained = learned(hidden=small), learned(hidden=larger), learned()
    curves = {"1 neuron": simple.training, "64 neurons": trained.training}
    evidence.curve(
        "median training accuracy",
        trained.epochs,
        {name: part.median(1).values for name, part in curves.items()},
        "epoch",
    )
    trials.less(simple.training[-1] + 0.4, enlarged.training[-1], name="64 neurons for one: 40 points more")
    trials.less(trained.training[0] + 0.25, trained.training[longer - 1], name="30 epochs for one: 25 points more")
    trials.less(simple.training[-1], 0.5, name="30 epochs: one neuron still fails on half")


@claim(
    "pytorch-notes/overfit-memorises",
    finding="A network of 128 hidden neurons learns 100 random labels within 40 epochs, and of other digits it "
    "recognises some 10 %, as a guess would (median).",
    controls=[override("a single neuron", hidden=TOO_SMALL)],
    trials=TRIALS,
)
def test_a_large_network_learns_random_labels_by_heart(learned, trials, evidence, hidden=(128,)):
    curves = learned(hidden=hidden, samples=100, wrong=1.0, epochs=40)
    series = {"training": curves.training.median(1).values, "held out": curves.held_out.median(1).values}
    evidence.curve("median accuracy, random labels", curves.epochs, series, x_label="epoch")
    trials.less(0.9, curves.training[-1], name="the training labels are learned")
    assert abs(curves.held_out[-1].median() - 0.1) < 0.05
