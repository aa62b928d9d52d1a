"""Section 9.2: from logits to predicted classes, and from those to the accuracy."""

import hypothesis.strategies as st
import pytest
import torch
from hypothesis import example, given
from torch import nn

from fitcore.testing import CONDITIONAL, claim, error_of, override, replace
from fitcore.testing.strategies import shapes, tensors


def softmax_of_the_negative(logits, dim):
    return (-logits).softmax(dim)


@claim(
    "pytorch-notes/argmax-softmax-equals-argmax-logits",
    finding="Softmax keeps the order, so the class with the largest logit has the largest probability, to the bit. The "
    "logits even know more: 0 and 1e-8 become the same probability in float32, and its argmax is the first.",
    controls=[replace("torch.softmax", softmax_of_the_negative)],
)
@example(logits=torch.tensor([[1.0, 2.0]]))
@given(
    logits=tensors(
        shapes(min_dims=2, max_dims=2, max_side=10), elements=st.floats(-1000, 1000, width=32) | st.integers(-9, 9)
    )
)
def test_the_largest_logit_has_the_largest_probability(logits):
    probabilities, chosen = torch.softmax(logits, dim=1), logits.argmax(1)
    assert torch.equal(probabilities.gather(1, chosen[:, None])[:, 0], probabilities.amax(1))
    apart = logits.round()  # logits that differ by 1 at least, or not at all
    assert torch.equal(torch.softmax(apart.double(), dim=1).argmax(1), apart.argmax(1))
    nearly_equal = torch.tensor([0.0, 1e-8])
    assert nearly_equal.argmax() == 1
    assert torch.softmax(nearly_equal, dim=0).argmax() == 0


@claim(
    "pytorch-notes/argmax-example-0-1-1",
    controls=[override("along the samples", dim=0), override("the smallest", choose=torch.argmin)],
)
def test_the_three_samples_are_of_class_0_1_and_1(evidence, dim=1, choose=torch.argmax):
    logits = torch.tensor([[2.1, -0.3], [0.5, 1.8], [-1.2, 0.4]])
    predictions = choose(logits, dim=dim)
    assert predictions.tolist() == [0, 1, 1]
    assert evidence.figure("predicted classes", reported=[0, 1, 1], measured=predictions, tolerance=0)


@claim(
    "pytorch-notes/argmax-shapes-50",
    controls=[override("along the samples", dim=0), override("with keepdim", keepdim=True)],
)
@example(count=50, dim=1, keepdim=False)
@given(count=st.integers(3, 200), dim=st.just(1), keepdim=st.just(False))
def test_each_of_the_samples_gets_two_logits_and_one_prediction(count, dim, keepdim):
    model, samples = nn.Sequential(nn.Linear(1, 16), nn.Tanh(), nn.Linear(16, 2)), torch.zeros(count, 1)
    assert model(samples).shape == (count, 2)
    assert torch.argmax(model(samples), dim=dim, keepdim=keepdim).shape == (count,)


@claim(
    "pytorch-notes/accuracy-example-0p8-item",
    verdict=CONDITIONAL,
    finding="item() returns a Python float, and it prints as 0.8 with three digits; but it is 0.800000011920929, the "
    "float32 next to 4/5, so that == 0.8 is False. Of double() it would be 0.8 itself.",
    controls=[override("in double precision", to_floating=torch.Tensor.double)],
)
def test_the_accuracy_is_the_float32_next_to_four_fifths(evidence, to_floating=torch.Tensor.float):
    predictions, labels = torch.tensor([0, 1, 1, 0, 1]), torch.tensor([0, 1, 0, 0, 1])
    hits = predictions == labels
    assert hits.tolist() == [True, True, False, True, True]
    assert to_floating(hits).tolist() == [1, 1, 0, 1, 1]
    accuracy = to_floating(hits).mean().item()
    assert type(accuracy) is float
    assert evidence.figure("accuracy", reported=0.8, measured=accuracy, tolerance=0.05)
    assert f"{accuracy:.3f}" == "0.800"
    assert accuracy == 0.800000011920929  # and not 0.8, which is another float64
    assert hits.double().mean().item() == 0.8


mean = torch.Tensor.mean


def mean_of_anything(tensor, **settings):
    return mean(tensor if tensor.is_floating_point() else tensor.float(), **settings)


@claim(
    "pytorch-notes/bool-mean-needs-float",
    finding="mean() of booleans raises a RuntimeError that names the dtype. Beside float() there is double(), or "
    "mean(dtype=torch.float32), with the same accuracy.",
    controls=[replace("torch.Tensor.mean", mean_of_anything)],
)
@given(hits=tensors(shapes(min_dims=1, max_dims=1, max_side=64), torch.bool))
def test_booleans_have_no_mean_until_they_are_numbers(hits):
    with pytest.raises(RuntimeError, match="Bool"):
        hits.mean()
    assert error_of(hits.float().mean) is None
    assert torch.equal(hits.float().mean(), hits.sum() / len(hits))
    assert torch.equal(hits.mean(dtype=torch.float32), hits.float().mean())
    assert torch.equal(hits.double().mean(), hits.sum().double() / len(hits))
