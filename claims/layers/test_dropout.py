"""Section 5: the dropout layer in training and in evaluation, and dropout that the mode doesn't reach."""

import hypothesis.strategies as st
import pytest
import torch
from hypothesis import given
from torch import nn

from fitcore.models import MLP
from fitcore.testing import REFUTED, claim, override, replace
from fitcore.testing.strategies import dtypes, shapes, strided, tensors

PASSES, UNITS = 10_000, 10  # as many draws as the ones(100000) of the document

dropout, train = nn.functional.dropout, nn.Module.train


def nothing_dropped(x, p=0.5, training=True, inplace=False):
    return x.clone()


def twice_as_often(x, p=0.5, training=True, inplace=False):
    return dropout(x, min(2 * p, 0.95), training, inplace)


def whole_passes_dropped(x, p=0.5, training=True, inplace=False):
    return x * dropout(torch.ones_like(x[:, :1]), p, training)


def dropped_in_evaluation_too(x, p=0.5, training=True, inplace=False):
    return dropout(x, p, True, inplace)


def unscaled(x, p=0.5, training=True, inplace=False):
    return x * (dropout(x, p, training) != 0)


def seven_standard_errors(p, draws):
    return 7 * (p * (1 - p) / draws) ** 0.5


@claim(
    "pytorch-notes/dropout-active-in-train",
    "pytorch-notes/dropout-rescales-in-training",
    finding="The share of zeros is p within the error of so many draws, for each unit and for each pair of neighbours "
    "(p²): they are drawn independently. What stays is multiplied by 1 / (1 - p), so that the mean remains.",
    controls=[
        replace("torch.nn.functional.dropout", nothing_dropped),
        replace("torch.nn.functional.dropout", twice_as_often),
        replace("torch.nn.functional.dropout", whole_passes_dropped),
        replace("torch.nn.functional.dropout", unscaled),
    ],
    trials=20,
)
@pytest.mark.parametrize("p", [0.2, 0.3, 0.5])
def test_dropout_zeroes_each_unit_independently_with_probability_p(p, trials, evidence):
    def shares(seed):
        output = nn.Dropout(p).train()(torch.ones(PASSES, UNITS))
        zero = (output == 0).double()
        pairs = zero[:, 1:] * zero[:, :-1]
        survivors = output[output != 0]
        return torch.cat([zero.mean(0), pairs.mean(0), torch.stack([survivors.min(), survivors.max(), output.mean()])])

    results = trials.map(shares)
    zeros, pairs, (smallest, largest, mean) = results[:, :UNITS], results[:, UNITS:-3], results[:, -3:].T
    evidence.observe("share of zeros", zeros.mean(1), limit=p)
    evidence.observe("mean of the output for ones", mean, limit=1)
    trials.always((abs(zeros - p) < seven_standard_errors(p, PASSES)).all(1), name="each unit with probability p")
    trials.always((abs(pairs - p**2) < seven_standard_errors(p**2, PASSES)).all(1), name="and independently")
    trials.always((abs(smallest - 1 / (1 - p)) < 1e-6) & (smallest == largest), name="the others times 1 / (1 - p)")
    trials.always(abs(mean - 1) < seven_standard_errors(p, PASSES * UNITS) / (1 - p), name="so that the mean remains")


@claim(
    "pytorch-notes/dropout-train-passes-differ",
    finding="In every trial: the largest difference is 0.8 in the median. After eval() there is none.",
    controls=[replace("torch.nn.functional.dropout", nothing_dropped)],
    trials=40,
)
def test_two_passes_through_dropout_in_training_differ(trials, evidence):
    @torch.no_grad()
    def difference(seed, mode):
        model, x = MLP([20, 50, 3], nn.ReLU, dropout=0.5).train(mode), torch.randn(8, 20)
        return (model(x) - model(x)).abs().max()

    in_training, in_evaluation = (trials.map(lambda seed, m=mode: difference(seed, m)) for mode in (True, False))
    evidence.compare("largest difference of two passes", {"train()": in_training, "eval()": in_evaluation})
    trials.always(in_training > 0.01, name="they differ in training")
    trials.always(in_evaluation == 0, name="and not in evaluation")


@claim(
    "pytorch-notes/dropout-off-in-eval-5",
    finding="In any dtype and memory layout, for any p, 1 included: not a copy, but the input tensor itself.",
    controls=[replace("torch.nn.functional.dropout", dropped_in_evaluation_too)],
)
@given(x=st.just(torch.ones(1000)) | strided(tensors(shapes(min_dims=1), dtypes(integer=False))), p=st.floats(0.2, 1))
def test_dropout_hands_everything_on_in_evaluation(x, p):
    layer = nn.Dropout(p).eval()
    assert layer(x) is x
    assert torch.equal(layer(x + 1), x + 1)


class FunctionalDropout(nn.Module):
    """Dropout as a call of F.dropout in forward, which hands on ``self.training`` or doesn't."""

    def __init__(self, tells_the_mode):
        super().__init__()
        self.tells_the_mode = tells_the_mode

    def forward(self, x):
        told = {"training": self.training} if self.tells_the_mode else {}
        return nn.functional.dropout(x, 0.5, **told)


def off_unless_asked(x, p=0.5, training=False, inplace=False):
    return dropout(x, p, training, inplace)


@claim(
    "pytorch-notes/eval-disables-functional-dropout",
    verdict=REFUTED,
    finding="F.dropout(x, 0.5) knows no module: its training=True stands by default, and half of the values are zeroed "
    "in eval mode too. F.dropout(x, 0.5, self.training) heeds the mode, as nn.Dropout does.",
    controls=[
        replace("torch.nn.functional.dropout", off_unless_asked),
        override("the mode is told", tells_the_mode=True),
    ],
    trials=20,
)
def test_eval_does_not_reach_functional_dropout_unless_told_the_mode(trials, evidence, tells_the_mode=False):
    def share_of_zeros(seed):
        x = torch.randn(100)
        untold, told = FunctionalDropout(tells_the_mode).eval(), FunctionalDropout(True).eval()
        return torch.stack([(untold(x) == 0).float().mean(), (told(x) != x).float().mean()])

    untold, told = trials.map(share_of_zeros).T
    evidence.compare("share of values changed in eval mode", {"F.dropout(x, 0.5)": untold, "with self.training": told})
    trials.always(untold > 0.1, name="F.dropout(x, 0.5) drops in evaluation")
    trials.always(told == 0, name="with self.training it doesn't")
