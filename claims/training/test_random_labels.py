"""Section 5.4.1: the listing's labels are random, and yet it learns them; what that is worth.

So it is in C. Zhang et al., "Understanding deep learning requires rethinking generalization", ICLR 2017.
"""

import numpy as np
import torch

from fitcore.seeding import seeded
from fitcore.testing import REFUTED, claim, override

SEEDS = 2
FRESH = 5_000  # samples that no run has seen


@claim(
    "pytorch-notes/model-memorises-random-labels",
    finding="93 to 96 % are printed after the fifth epoch; the model, looked at in evaluation mode, then has all of "
    "1000 labels by heart, or all but one, for which it has 235,146 parameters. In the first pass, in which every "
    "label is new, the hits are those of chance.",
    controls=[override("every sample seen once", epochs=1, seeds=1)],
)
def test_the_listing_learns_random_labels_by_heart(listing, listings, trials, evidence, *, epochs=5, seeds=SEEDS):
    runs = [listing(epochs=epochs), *listings(seeds, epochs=epochs)]
    printed, afterwards = (
        torch.stack([getattr(run, name) for run in runs]) for name in ("printed_accuracies", "accuracies")
    )
    evidence.compare("printed accuracy", {f"epoch {epoch}": shares for epoch, shares in enumerate(printed.T, 1)})
    evidence.observe("accuracy of the model in the end", afterwards[:, -1])
    assert printed[:, -1].mean() > 0.9
    trials.always((afterwards[:, -1] > 0.98).numpy(), name="above 98 % of the labels are known in the end")
    trials.always((abs(printed[:, 0] - 0.1) < 0.06).numpy(), name="chance in the first pass")


@claim(
    "pytorch-notes/high-training-accuracy-means-learning",
    verdict=REFUTED,
    finding="With 95 % in training, new samples are hit in 10 %, as by guessing: their labels have nothing to do with "
    "the samples. Only samples held out can tell.",
    controls=[override("labels that depend on the samples", informative=True, epochs=2, seeds=1)],
)
def test_new_samples_are_hit_by_chance_whatever_the_training_accuracy(
    listings, sample_data, trials, evidence, *, informative=False, epochs=5, seeds=SEEDS
):
    runs = listings(seeds, informative=informative, epochs=epochs)
    with seeded(int(trials.seeds[0])), torch.no_grad():
        fresh = [sample_data(seed=None, samples=FRESH, informative=informative) for _ in runs]
        hits = [(run.model(x).argmax(1) == y).double().mean() for run, (x, y) in zip(runs, fresh, strict=True)]
    hits, printed = np.array(hits), np.array([run.printed_accuracies[-1] for run in runs])
    evidence.compare("accuracy", {"printed": printed, "new samples": hits}, limit=0.1)
    error = (0.1 * 0.9 / FRESH) ** 0.5
    trials.always(abs(hits - 0.1) < 6 * error, name="a tenth of new samples, within six standard errors")
    assert printed.mean() > 0.9
