"""Section 18.2: weight decay as an idea unlike dropout, and where the two meet."""

import hypothesis.strategies as st
import torch
from hypothesis import given, settings
from torch import nn
from torch.nn.utils import parameters_to_vector
from torch.testing import assert_close

from fitcore.models import MLP
from fitcore.regularizers import l2_penalty
from fitcore.seeding import seeded
from fitcore.testing import claim, override, replace

LR = 0.01
dropout = nn.functional.dropout


def nothing_dropped(x, p=0.5, training=True, inplace=False):
    return x.clone()


@claim(
    "pytorch-notes/weight-decay-is-different-from-dropout",
    finding="Weight decay multiplies every parameter by 1 - lr·λ, whatever the data, and leaves the outputs as certain "
    "as they were. Dropout moves no parameter of its own accord, and makes the outputs of training random.",
    controls=[
        replace("torch.nn.functional.dropout", nothing_dropped),
        override("no decay", decay=0.0),
    ],
)
@settings(max_examples=15)
@given(seed=st.integers(0, 2**32 - 1), decay=st.floats(0.01, 0.5))
def test_weight_decay_shrinks_parameters_and_dropout_makes_outputs_random(seed, decay):
    def after_a_step(network, weight_decay):
        optimizer = torch.optim.SGD(network.parameters(), lr=LR, weight_decay=weight_decay)
        for parameter in network.parameters():
            parameter.grad = torch.zeros_like(parameter)
        before = parameters_to_vector(network.parameters()).detach().clone()
        optimizer.step()
        return before, parameters_to_vector(network.parameters()).detach()

    with seeded(seed), torch.no_grad():
        plain, dropping = MLP([5, 64, 1], nn.ReLU), MLP([5, 64, 1], nn.ReLU, dropout=0.5)
        x = torch.randn(50, 5)
        assert torch.equal(plain.train()(x), plain(x))
        untouched = parameters_to_vector(dropping.parameters()).clone()
        assert not torch.equal(dropping.train()(x), dropping(x))
        assert torch.equal(parameters_to_vector(dropping.parameters()), untouched)
    before, after = after_a_step(plain, decay)
    assert not torch.equal(before, after)
    assert_close(after, before * (1 - LR * decay))


@claim(
    "pytorch-notes/weight-decay-is-different-from-dropout",
    finding="For a linear model the two are kin: on average over its masks, dropout of the inputs adds "
    "p/(1-p) Σ w²·mean(x²) to the squared error, a weight decay of each weight by the size of its own feature. "
    "That is the difference: in other units it is the same penalty, which plain weight decay is not.",
    controls=[override("survivors not scaled up", scaled=False)],
)
@settings(max_examples=10)
@given(
    seed=st.integers(0, 2**32 - 1),
    features=st.integers(1, 5),
    p=st.floats(0.1, 0.8),
    unit=st.floats(2, 10),
    scaled=st.just(True),
)
def test_dropout_before_a_linear_model_is_a_weight_decay_scaled_by_the_data(seed, features, p, unit, scaled):
    with seeded(seed):
        x, w, y = (torch.randn(*shape, dtype=torch.float64) for shape in ((20, features), (features,), (20,)))
    kept = torch.cartesian_prod(*[torch.tensor([0.0, 1.0], dtype=torch.float64)] * features).view(-1, features)
    chances = ((1 - p) ** kept * p ** (1 - kept)).prod(1)
    survivors = kept / (1 - p) if scaled else kept

    def penalty(x, w):
        errors = ((x * survivors[:, None]) @ w - y).square().mean(1)
        return chances @ errors - (x @ w - y).square().mean()

    assert_close(penalty(x, w), p / (1 - p) * (w.square() * x.square().mean(0)).sum())
    assert_close(penalty(unit * x, w / unit), penalty(x, w))
    assert l2_penalty([w / unit]) < 0.3 * l2_penalty([w])
