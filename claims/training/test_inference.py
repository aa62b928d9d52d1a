"""Section 5.4.2: what evaluation mode and the softmax make of the trained classifier, and what they don't."""

import hypothesis.strategies as st
import torch
from hypothesis import given
from torch import nn
from torch.testing import assert_close

from fitcore.seeding import seeded
from fitcore.testing import CONDITIONAL, REFUTED, claim, error_of, override
from fitcore.testing.strategies import tensors

SEEDS = 2
FRESH = 500


def infer(model, x):
    """As the listing has it: the class, a number, and the probabilities, a vector."""
    with torch.no_grad():
        output = model(x)
        probabilities = output.softmax(1)
        _, predicted = output.max(1)
    return predicted.item(), probabilities.squeeze()


@claim(
    "pytorch-notes/inference-listing-runs",
    finding="One class and ten probabilities for one input, the same at each call. A batch of two has no .item().",
    controls=[override("two inputs", inputs=2)],
)
@given(seed=st.integers(0, 2**32 - 1), inputs=st.just(1))
def test_the_inference_listing_gives_one_class_and_ten_probabilities(listing, seed, inputs):
    model = listing().model
    with seeded(seed):
        x = torch.randn(inputs, 784)
    assert error_of(infer, model, x) is None
    predicted, probabilities = infer(model, x)
    assert predicted in range(10)
    assert probabilities.shape == (10,)
    assert not probabilities.requires_grad
    assert torch.equal(infer(model, x)[1], probabilities)


@claim(
    "pytorch-notes/softmax-probabilities-sum-to-one",
    finding="To the rounding of float32, for any outputs. Where outputs differ by less than that, several are most "
    "probable; the predicted class is always one of them.",
    controls=[override("over the samples", dim=0)],
)
@given(
    outputs=tensors(st.tuples(st.integers(1, 5), st.just(10)), elements=st.floats(-100, 100, width=32)), dim=st.just(1)
)
def test_probabilities_add_up_to_one_and_the_predicted_class_is_most_probable(listing, outputs, dim):
    with torch.no_grad():
        of_model = listing().model(outputs.repeat(1, 79)[:, :784])
    for logits in (outputs, of_model):
        probabilities, predicted = logits.softmax(dim), logits.max(1).indices
        assert (probabilities >= 0).all()
        assert_close(probabilities.sum(1), torch.ones(len(logits)), atol=1e-6, rtol=0)
        assert torch.equal(probabilities[range(len(logits)), predicted], probabilities.max(1).values)


@claim(
    "pytorch-notes/probabilities-express-confidence-on-noise",
    verdict=REFUTED,
    finding="On noise that has no class the largest probability is 0.41 on average, and above one half for one input "
    "in four, though the prediction is right one time in ten. Before the training it is 0.12.",
    controls=[override("a network that has learned nothing", lr=0.0, epochs=1)],
)
def test_the_trained_classifier_is_confident_on_pure_noise(listings, trials, evidence, lr=1e-3, epochs=5):
    runs, untrained = listings(SEEDS, lr=lr, epochs=epochs), listings(SEEDS, lr=0.0, epochs=1)
    with seeded(int(trials.seeds[0])), torch.no_grad():
        x = torch.randn(FRESH, 784)
        trained, before = (
            torch.stack([run.model(x).softmax(1).max(1).values for run in those]) for those in (runs, untrained)
        )
    evidence.compare("largest probability on noise", {"trained": trained, "untrained": before}, limit=0.1)
    trials.always((before.mean(1) < 0.2).numpy(), name="untrained: close to one tenth")
    trials.always((trained.mean(1) > 0.3).numpy(), name="trained: three tenths and more on average")
    trials.always(((trained > 0.5).double().mean(1) > 0.1).numpy(), name="above one half for a tenth of the inputs")


def by_train(model, modes):
    """As the listing switches back."""
    model.train()


def by_mode(model, modes):
    """Give every module the mode that it had."""
    for module, mode in zip(model.modules(), modes, strict=True):
        module.training = mode


@claim(
    "pytorch-notes/model-train-restores-previous-modes",
    verdict=CONDITIONAL,
    finding="Only where everything was in training before, as in the listing. train() switches on all submodules, and "
    "so thaws a BatchNorm that had been frozen on purpose. Modes that are remembered can be put back.",
    controls=[override("each module's own mode put back", switch_back=by_mode)],
)
@given(modes=st.lists(st.booleans(), min_size=3, max_size=3), switch_back=st.just(by_train))
def test_train_restores_the_modes_only_where_all_were_in_training(modes, switch_back):
    model = nn.Sequential(nn.Linear(3, 2), nn.BatchNorm1d(2), nn.Dropout())
    for module, mode in zip(model, modes, strict=True):
        module.train(mode)
    before = [module.training for module in model.modules()]
    switch_back(model.eval(), before)
    after = [module.training for module in model.modules()]
    assert all(after)
    assert (after == before) == all(modes)
    by_mode(model.eval(), before)
    assert [module.training for module in model.modules()] == before


@claim(
    "pytorch-notes/model-train-restores-previous-modes",
    verdict=CONDITIONAL,
    finding="What that does: the frozen BatchNorm takes up the statistics of the next batch again.",
    controls=[override("each module's own mode put back", switch_back=by_mode)],
)
def test_a_frozen_batchnorm_moves_again_after_train(trials, switch_back=by_train):
    def statistics_moved(seed):
        model = nn.Sequential(nn.Linear(3, 2), nn.BatchNorm1d(2))
        model[1].eval()
        modes = [module.training for module in model.modules()]
        model(torch.randn(4, 3))
        frozen = model[1].running_mean.clone()
        switch_back(model.eval(), modes)
        model(torch.randn(4, 3))
        return [bool(frozen.any()), not torch.equal(model[1].running_mean, frozen)]

    before, after = trials.map(statistics_moved).T
    trials.always(~before, name="frozen by eval()")
    trials.always(after, name="moving after train()")
