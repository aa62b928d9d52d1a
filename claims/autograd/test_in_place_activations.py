"""Section 19: the in-place activations by which training saves memory, and the layers that they must not follow."""

import hypothesis.strategies as st
import pytest
import torch
from hypothesis import given
from torch import nn

from fitcore.evaluation.memory import shares_storage
from fitcore.seeding import seeded
from fitcore.testing import claim, error_of, override

WIDTH = 4
SAVING_ITS_RESULT = {"Sigmoid": nn.Sigmoid, "Tanh": nn.Tanh, "Softmax": lambda: nn.Softmax(-1)}
SAVING_ITS_INPUT = {
    "Linear": lambda: nn.Linear(WIDTH, WIDTH),
    "LayerNorm": lambda: nn.LayerNorm(WIDTH),
    "BatchNorm1d": lambda: nn.BatchNorm1d(WIDTH),
    "Softplus": nn.Softplus,
}

seeds = st.integers(0, 2**32 - 1)


def layers_named(layers):
    return pytest.mark.parametrize("before", layers.values(), ids=layers.keys())


def network(seed, before, inplace):
    """A network with a ReLU behind ``before``, and inputs."""
    with seeded(seed):
        model = nn.Sequential(nn.Linear(WIDTH, WIDTH), before(), nn.ReLU(inplace), nn.Linear(WIDTH, 1))
        return model, torch.randn(5, WIDTH)


def gradients(model, x):
    model(x).sum().backward()
    return [parameter.grad for parameter in model.parameters()]


@claim(
    "pytorch-notes/inplace-risk",
    finding="An in-place ReLU overwrites the result of a sigmoid, tanh or softmax, from which these compute their "
    "gradient: backward stops with a RuntimeError, so that here no wrong gradient goes unnoticed. Out of place it "
    "passes.",
    controls=[override("out of place", inplace=False)],
)
@layers_named(SAVING_ITS_RESULT)
@given(seed=seeds, inplace=st.just(True))
def test_an_in_place_relu_breaks_backward_behind_a_layer_that_saves_its_result(seed, inplace, before):
    error = error_of(gradients, *network(seed, before, inplace))
    assert isinstance(error, RuntimeError)
    assert "modified by an inplace operation" in str(error)
    assert error_of(gradients, *network(seed, before, inplace=False)) is None


@claim(
    "pytorch-notes/inplace-risk",
    finding="Behind an affine layer, a normalisation or softplus, which need their input alone, it gives the same "
    "gradients to the bit and takes no memory of its own.",
    controls=[override("behind a sigmoid", before=nn.Sigmoid)],
)
@layers_named(SAVING_ITS_INPUT)
@given(seed=seeds)
def test_an_in_place_relu_is_safe_behind_a_layer_that_saves_its_input(seed, before):
    assert error_of(gradients, *network(seed, before, inplace=True)) is None
    in_place, out_of_place = (gradients(*network(seed, before, inplace)) for inplace in (True, False))
    assert all(map(torch.equal, in_place, out_of_place))
    model, x = network(seed, before, inplace=True)
    behind = model[:2](x)
    assert shares_storage(model[2](behind), behind)
