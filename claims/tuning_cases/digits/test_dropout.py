"""Case 1: what its dropout layer does, the loss, and the weight decay of Adam."""

from functools import partial

import hypothesis.strategies as st
import torch
from hypothesis import given, settings
from torch import nn
from torch.testing import assert_close

from fitcore.models import CNN, MLP, number_of_parameters
from fitcore.seeding import seeded
from fitcore.testing import claim, override, replace
from fitcore.testing.strategies import tensors

ONES = 1_000_000
dropout, log_softmax = nn.functional.dropout, nn.functional.log_softmax


def nothing_dropped(x, p=0.5, training=True, inplace=False):
    return x.clone()


def a_third_dropped(x, p=0.5, training=True, inplace=False):
    return dropout(x, 1 / 3, training, inplace)


def dropped_in_evaluation_too(x, p=0.5, training=True, inplace=False):
    return dropout(x, p, True, inplace)


class WithLayer(nn.Module):
    """The head of the case: each layer has a name, as in the document."""

    def __init__(self, layer):
        super().__init__()
        self.fc1, self.fc2, self.dropout = nn.Linear(1600, 128), nn.Linear(128, 10), layer

    def forward(self, features):
        return self.fc2(self.dropout(self.fc1(features).relu()))


def in_a_sequence(*layer):
    return nn.Sequential(nn.Linear(1600, 128), nn.ReLU(), *layer, nn.Linear(128, 10))


@claim(
    "tuning-cases/dropout-adds-no-parameters",
    finding="The checkpoint of the one network is one of the other, and in evaluation both then say the same. So it is "
    "where layers have names; within nn.Sequential a new layer renumbers those behind it, and the checkpoint doesn't "
    "fit.",
    controls=[
        override("batch normalisation instead", layer=lambda p: nn.BatchNorm1d(128)),
        override("a learned slope instead", layer=lambda p: nn.PReLU()),
    ],
)
@given(p=st.just(0.5) | st.floats(0, 1), seed=st.integers(0, 2**32 - 1), layer=st.just(nn.Dropout))
@settings(max_examples=8)
def test_dropout_adds_nothing_to_a_checkpoint(p, seed, layer):
    with seeded(seed):
        without, dropped, features = WithLayer(nn.Identity()), WithLayer(layer(p)), torch.rand(3, 1600)
    assert dropped.state_dict().keys() == without.state_dict().keys()
    assert number_of_parameters(dropped) == number_of_parameters(without)
    dropped.load_state_dict(without.state_dict())
    assert torch.equal(dropped.eval()(features), without.eval()(features))
    assert in_a_sequence(nn.Dropout(p)).state_dict().keys() != in_a_sequence().state_dict().keys()


@claim(
    "tuning-cases/dropout-half-zeroes-half",
    finding="500,000 of a million ones, give or take 500, and of the hidden activations of the network half of those "
    "that ReLU has let through. What stays is doubled.",
    controls=[
        replace("torch.nn.functional.dropout", nothing_dropped),
        replace("torch.nn.functional.dropout", a_third_dropped),
    ],
    trials=5,
)
def test_dropout_zeroes_half_of_what_it_receives(trials, evidence):
    def shares(seed):
        ones = nn.Dropout(0.5)(torch.ones(ONES))
        head = CNN(widths=(2, 4), padding=0, hidden=128).classifier[:2]
        alive = head(torch.randn(500, 100))
        kept = nn.Dropout(0.5)(alive)
        assert_close(kept[kept > 0], 2 * alive[kept > 0])
        return torch.stack([(ones == 0).float().mean(), (kept[alive > 0] == 0).float().mean(), ones.max()])

    of_ones, of_alive, largest = trials.map(shares).T
    evidence.observe("share of a million ones that is zeroed", of_ones, limit=0.5)
    evidence.observe("share of positive activations that is zeroed", of_alive, limit=0.5)
    trials.always(abs(of_ones - 0.5) < 6 * 0.5 / ONES**0.5, name="half of the ones, within six standard errors")
    trials.always(abs(of_alive - 0.5) < 6 * 0.5 / 20_000**0.5, name="half of the positive activations likewise")
    trials.always(largest == 2, name="what stays is doubled")


@claim(
    "tuning-cases/dropout-only-active-in-train-mode",
    finding="After eval() the layer hands on every bit; in training two passes of one input differ. That is so for "
    "the layer: functional.dropout drops at any time, unless it is told training=False.",
    controls=[
        replace("torch.nn.functional.dropout", dropped_in_evaluation_too),
        replace("torch.nn.functional.dropout", nothing_dropped),
    ],
)
@given(x=tensors((3, 4)), p=st.floats(0.3, 0.7), seed=st.integers(0, 2**32 - 1))
def test_dropout_acts_in_train_mode_alone(x, p, seed):
    with seeded(seed):
        model, wide = nn.Sequential(nn.Linear(4, 4), nn.Dropout(p)), torch.ones(1000)
        evaluated = model.eval()(x)
        assert torch.equal(evaluated, model[0](x))
        assert torch.equal(evaluated, model(x))
        assert torch.equal(model[1](wide), wide)
        layer = model.train()[1]
        assert not torch.equal(layer(wide), layer(wide))
        assert not torch.equal(nn.functional.dropout(wide, p), wide)


def plain_softmax(x, dim=None):
    return x.softmax(dim)


@claim(
    "tuning-cases/nll-on-log-softmax-is-cross-entropy",
    finding="So are their gradients. NLLLoss takes whatever it is given: without log_softmax it returns minus the mean "
    "logit of the labels.",
    controls=[
        replace("torch.nn.functional.log_softmax", plain_softmax),
        replace("torch.nn.functional.log_softmax", lambda x, dim=None: log_softmax(x, 0), name="along the batch"),
    ],
)
@given(
    logits=tensors((7, 5), torch.float64, st.floats(-30, 30), requires_grad=True),
    labels=tensors((7,), torch.int64, st.integers(0, 4)),
)
def test_nll_of_log_softmax_is_the_cross_entropy_of_logits(logits, labels):
    separate = nn.NLLLoss()(nn.functional.log_softmax(logits, dim=1), labels)
    at_once = nn.CrossEntropyLoss()(logits, labels)
    assert_close(separate, at_once)
    assert_close(*(torch.autograd.grad(loss, logits)[0] for loss in (separate, at_once)))
    assert_close(nn.NLLLoss()(logits, labels), -logits.gather(1, labels[:, None]).mean())


ADAM = partial(torch.optim.Adam, lr=1e-3)


def path(seed, make_optimizer, penalty):
    """Parameters of an 8-16-3 network after each of 50 updates on the loss + ``penalty`` · Σw², (50, parameters)."""
    with seeded(seed):
        model = MLP([8, 16, 3], nn.ReLU).double()
        x, y = torch.randn(64, 8, dtype=torch.float64), torch.randint(3, (64,))
    optimizer, parameters, visited = make_optimizer(model.parameters()), [*model.parameters()], []
    for _ in range(50):
        optimizer.zero_grad()
        squares = sum(parameter.square().sum() for parameter in parameters)
        (nn.functional.cross_entropy(model(x), y) + penalty * squares).backward()
        optimizer.step()
        visited.append(nn.utils.parameters_to_vector(parameters).detach())
    return torch.stack(visited)


@claim(
    "tuning-cases/adam-weight-decay-is-l2-half-lambda",
    finding="The multiple is half of weight_decay, biases included: over 50 updates no parameter is off by more than "
    "1e-9. With the whole of it the two part, and AdamW's weight_decay is another thing.",
    controls=[
        override("the whole weight_decay as multiple", multiple=1.0),
        override("AdamW", optimizer=partial(torch.optim.AdamW, lr=1e-3)),
    ],
    trials=1,
)
def test_adams_weight_decay_is_a_penalty_of_half_its_size(trials, evidence, multiple=0.5, optimizer=ADAM):
    def distances(seed):
        decayed = path(seed, partial(optimizer, weight_decay=0.1), 0.0)
        penalised = (path(seed, ADAM, share * 0.1) for share in (multiple, 1.0))
        return torch.stack([(decayed - by_hand).abs().max() for by_hand in penalised])

    half, whole = trials.map(distances).T
    evidence.compare("largest distance from the path with weight_decay=0.1", {"0.05 Σw²": half, "0.1 Σw²": whole})
    trials.always(half < 1e-9, name="the same path with half")
    trials.always(whole > 1e-5, name="another with the whole")
