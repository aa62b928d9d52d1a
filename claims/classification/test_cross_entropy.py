"""Sections 9.2, 10.3 and 12: what softmax and CrossEntropyLoss compute, and which labels the loss takes."""

import math
from functools import partial

import hypothesis.strategies as st
import pytest
import torch
from hypothesis import example, given, settings
from torch import nn
from torch.nn import functional
from torch.testing import assert_close

from fitcore.testing import CONDITIONAL, claim, error_of, override, replace
from fitcore.testing.strategies import FLOATING, shapes, tensors

cross_entropy = functional.cross_entropy


@st.composite
def classifications(draw, bound=20, dtype=torch.float64, classes=(2, 10)):
    """Logits (n, classes) of size ``bound`` at most, and labels (n,)."""
    count, width = draw(st.integers(1, 6)), draw(st.integers(*classes))
    logits = draw(tensors((count, width), dtype, st.integers(-100, 100).map(lambda step: step * bound / 100)))
    return logits, draw(tensors((count,), torch.int64, st.integers(0, width - 1)))


def picked(rows, labels):
    """The element of each row that its label names, (n,)."""
    return rows.gather(1, labels[:, None])[:, 0]


def without_softmax(logits, labels, label_smoothing=0.0, **settings):
    return functional.nll_loss(logits, labels, **settings)


def of_probabilities(logits, labels, label_smoothing=0.0, **settings):
    return functional.nll_loss(logits.log(), labels, **settings)


@claim(
    "pytorch-notes/ce-includes-softmax",
    finding="The loss is -log softmax(logits)[label], so that adding a constant to all logits changes nothing, and "
    "log-probabilities do as well as logits. Probabilities don't: taken for logits, even perfect ones cost "
    "log(1 + (C - 1)/e), which is 0.313 for two classes and 1.461 for ten.",
    controls=[
        replace("torch.nn.functional.cross_entropy", without_softmax),
        replace("torch.nn.functional.cross_entropy", of_probabilities),
    ],
)
@given(case=classifications(), shift=st.integers(1, 9))
def test_cross_entropy_takes_the_softmax_itself(case, shift):
    (logits, labels), loss_fn = case, nn.CrossEntropyLoss()
    loss, probabilities = loss_fn(logits, labels), logits.softmax(1)
    assert_close(loss, -picked(probabilities, labels).log().mean())
    assert_close(loss_fn(logits + shift, labels), loss)
    assert_close(loss_fn(probabilities.log(), labels), loss)
    perfect = functional.one_hot(labels, logits.shape[1]).double()
    floor = torch.tensor(math.log1p((logits.shape[1] - 1) / math.e), dtype=torch.float64)
    assert_close(loss_fn(perfect, labels), floor)
    assert loss_fn(probabilities, labels) >= floor - 1e-12


@claim(
    "pytorch-notes/ce-equals-softmax-plus-nllloss",
    verdict=CONDITIONAL,
    finding="As mathematics it is: -log softmax(x)[label]. As modules it is not: nn.NLLLoss takes no logarithm, and "
    "given the output of softmax returns -p, which is below the cross-entropy by 1 at least. It wants log_softmax. Nor "
    "is it so in float32 with a label 104 behind the largest logit: there log(softmax) is -inf, and "
    "CrossEntropyLoss gives 104.",
    controls=[
        replace("torch.softmax", torch.log_softmax),
        replace("torch.nn.functional.cross_entropy", without_softmax),
    ],
)
@given(case=classifications(), behind=st.integers(104, 10_000))
def test_cross_entropy_is_log_softmax_and_nll_loss_rather_than_softmax_and_nll_loss(case, behind):
    logits, labels = case
    loss, nll_loss = nn.CrossEntropyLoss()(logits, labels), nn.NLLLoss()
    probabilities = torch.softmax(logits, dim=1)
    assert_close(nll_loss(probabilities, labels), -picked(probabilities, labels).mean())
    assert nll_loss(probabilities, labels) <= loss - 1 + 1e-12
    assert_close(nll_loss(probabilities.log(), labels), loss)
    assert_close(nll_loss(logits.log_softmax(1), labels), loss)
    far, label = torch.tensor([[0.0, behind]]), torch.tensor([0])
    assert nll_loss(torch.softmax(far, dim=1).log(), label) == math.inf
    assert nn.CrossEntropyLoss()(far, label) == behind


def log_of_softmax(logits, dim):
    return logits.softmax(dim).log()


@claim(
    "pytorch-notes/cross-entropy-is-logsoftmax-plus-nll",
    finding="To the bit in float32, with logits up to 10,000 in size, class weights and ignored labels too. With label "
    "smoothing e it is (1 - e) times that plus e times the mean of -log p over all classes.",
    controls=[replace("torch.log_softmax", torch.softmax), replace("torch.log_softmax", log_of_softmax)],
)
@example(
    case=(torch.tensor([[0.0, 500.0], [1.0, 2.0]]), torch.tensor([0, 1])), weights=list(range(1, 11)), smoothing=0.1
)
@given(
    case=classifications(bound=10_000, dtype=torch.float32),
    weights=st.lists(st.integers(1, 9), min_size=10, max_size=10),
    smoothing=st.sampled_from([0.1, 0.5, 1.0]),
)
def test_cross_entropy_is_log_softmax_and_nll_loss(case, weights, smoothing):
    logits, labels = case
    logs = torch.log_softmax(logits, dim=1)
    taken = {"weight": torch.tensor(weights[: logits.shape[1]]).float(), "ignore_index": int(labels[-1])}
    exactly = partial(assert_close, rtol=0, atol=0, equal_nan=True)  # where every label is ignored, both are 0/0
    exactly(cross_entropy(logits, labels), functional.nll_loss(logs, labels))
    exactly(cross_entropy(logits, labels, **taken), functional.nll_loss(logs, labels, **taken))
    smoothed = (1 - smoothing) * functional.nll_loss(logs, labels) - smoothing * logs.mean()
    assert_close(cross_entropy(logits, labels, label_smoothing=smoothing), smoothed)


def sigmoid(logits, dim):
    return logits.sigmoid()


def of_exponentials(logits, dim):
    return logits.exp() / logits.exp().sum(dim, keepdim=True)


@claim(
    "pytorch-notes/softmax-range-and-sum",
    finding="In all four floating dtypes, for logits up to 10,000 in size and along any dimension, within rounding. "
    "Both ends are reached: probabilities too small for the dtype are 0, and one beside them is 1.",
    controls=[override("a sigmoid", softmax=sigmoid), override("exponentials that overflow", softmax=of_exponentials)],
)
@example(logits=torch.tensor([0.0, 1000.0]), dim=0, softmax=torch.softmax)
@given(
    logits=tensors(shapes(min_dims=1), st.sampled_from(FLOATING), st.integers(-10_000, 10_000) | st.integers(-9, 9)),
    dim=st.integers(0, 3),
    softmax=st.just(torch.softmax),
)
def test_softmax_is_a_distribution_along_its_dimension(logits, dim, softmax):
    probabilities = softmax(logits, dim % logits.ndim)
    assert ((probabilities >= 0) & (probabilities <= 1)).all()
    totals = probabilities.double().sum(dim % logits.ndim)
    assert_close(totals, torch.ones_like(totals), rtol=0, atol=8 * torch.finfo(logits.dtype).eps)
    assert torch.softmax(torch.tensor([0.0, 1000.0]), 0).tolist() == [0, 1]


@claim(
    "pytorch-notes/ce-returns-scalar",
    finding='A tensor of shape (), the mean over the samples, for any number of them. With reduction="none" there is '
    "one loss a sample.",
    controls=[override("without reduction", loss_fn=nn.CrossEntropyLoss(reduction="none"))],
)
@given(case=classifications(), loss_fn=st.just(nn.CrossEntropyLoss()))
def test_the_loss_is_one_number_for_the_whole_batch(case, loss_fn):
    loss = loss_fn(*case)
    assert loss.shape == ()
    assert error_of(loss.item) is None
    assert_close(loss, cross_entropy(*case, reduction="none").mean())


def of_the_common_part(logits, labels):
    common = min(len(logits), len(labels))
    return cross_entropy(logits[:common], labels[:common])


@claim(
    "pytorch-notes/ce-loss-input-target-shapes",
    finding="For every B from 1 on. Another number of labels raises a ValueError that names both, and a label of 10 "
    "an IndexError that names it.",
    controls=[override("of as many as both have", loss_fn=of_the_common_part)],
)
@example(batch=64, other=1, loss_fn=nn.CrossEntropyLoss())
@given(batch=st.integers(1, 70), other=st.integers(1, 70), loss_fn=st.just(nn.CrossEntropyLoss()))
def test_ten_logits_a_sample_go_with_one_label_a_sample(batch, other, loss_fn):
    logits, labels = torch.zeros(batch, 10), torch.arange(batch) % 10
    assert error_of(loss_fn, logits, labels) is None
    assert_close(loss_fn(logits, labels), torch.tensor(math.log(10)))
    surplus = torch.zeros(batch + other, dtype=torch.int64)
    with pytest.raises(ValueError, match=rf"\({batch}\) to match target batch_size \({batch + other}\)"):
        loss_fn(logits, surplus)
    with pytest.raises(IndexError, match="Target 10 is out of bounds"):
        loss_fn(logits, torch.full_like(labels, 10))


def cast_to_long(logits, labels):
    return cross_entropy(logits, labels.long())


REFUSED = {
    torch.int32: "Int",
    torch.int16: "Short",
    torch.int8: "Char",
    torch.bool: "Bool",
    **dict(zip(FLOATING, ("Float", "Double", "Half", "BFloat16"), strict=True)),
}


@claim(
    "pytorch-notes/ce-labels-must-be-long",
    verdict=CONDITIONAL,
    finding="Labels of int32, int16, int8, bool and floating point raise a RuntimeError that asks for Long. But uint8 "
    "is taken for one label a sample, with the same loss and gradient; for one a pixel or a time step, (n, C, d) "
    "against (n, d), it is refused too.",
    controls=[override("cast on the way", loss_fn=cast_to_long)],
)
@pytest.mark.parametrize(("dtype", "name"), REFUSED.items(), ids=REFUSED.values())
@settings(max_examples=4)
@given(case=classifications(classes=(2, 4)), loss_fn=st.just(nn.CrossEntropyLoss()))
def test_class_labels_are_long_or_for_one_a_sample_uint8(case, dtype, name, loss_fn):
    logits, labels = case
    with pytest.raises(RuntimeError, match=rf"Long.* {name}\b"):
        loss_fn(logits, labels.to(dtype))
    long, byte = (torch.func.grad_and_value(loss_fn)(logits, labels.to(dtype)) for dtype in (torch.int64, torch.uint8))
    assert_close(byte, long, rtol=0, atol=0)
    dense = logits[..., None].expand(-1, -1, 2), labels[:, None].expand(-1, 2)
    assert error_of(loss_fn, *dense) is None
    with pytest.raises(RuntimeError, match="Long but found Byte"):
        loss_fn(dense[0], dense[1].byte())


def flattened_on_the_way(logits, labels):
    return cross_entropy(logits, labels.flatten())


@claim(
    "pytorch-notes/ce-column-labels-raise",
    finding="A RuntimeError, that targets of no or one dimension are expected, for labels of any class and even for a "
    "single sample. view(-1), flatten() and squeeze(1) all repair it.",
    controls=[override("flattened by the loss", loss_fn=flattened_on_the_way)],
)
@given(case=classifications(), loss_fn=st.just(nn.CrossEntropyLoss()))
def test_a_column_of_labels_is_refused_until_flattened(case, loss_fn):
    logits, labels = case
    column = labels.view(-1, 1)
    with pytest.raises(RuntimeError, match="0D or 1D target tensor expected, multi-target not supported"):
        loss_fn(logits, column)
    assert all(
        torch.equal(loss_fn(logits, flat), loss_fn(logits, labels))
        for flat in (column.view(-1), column.flatten(), column.squeeze(1))
    )
