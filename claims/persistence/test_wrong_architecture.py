"""Section 7.3: weights that don't fit the model, and what is left of it after they were refused."""

import hypothesis.strategies as st
import pytest
import torch
from hypothesis import given

from fitcore.models import MLP
from fitcore.testing import REFUTED, claim, error_of, override, replace
from fitcore.training.checkpoint import load_weights

widths = st.lists(st.integers(1, 5), min_size=3, max_size=5)


def misfits(wanted, given):
    """Names of the entries that don't fit: of one side alone, or of different shapes."""
    common = wanted.keys() & given.keys()
    return (wanted.keys() ^ given.keys()) | {name for name in common if wanted[name].shape != given[name].shape}


load_state_dict = torch.nn.Module.load_state_dict


def tolerant(module, state_dict, strict=True, assign=False):
    """Load what fits, and keep silent on the rest."""
    own = module.state_dict()
    load_state_dict(module, {name: state_dict[name] for name in own.keys() - misfits(own, state_dict)}, strict=False)


@claim(
    "pytorch-notes/wrong-architecture-is-refused-by-name",
    finding="It names all of them at once: missing and unexpected entries, and both shapes of those that differ. With "
    "strict=False entries may be missing or in excess, but other shapes are refused nevertheless.",
    controls=[replace("torch.nn.Module.load_state_dict", tolerant)],
)
@given(first=widths, second=widths)
def test_weights_of_another_architecture_are_refused_by_name(first, second):
    model, other = MLP([1, *first]), MLP([1, *second, 6])
    wanted, weights = other.state_dict(), model.state_dict()
    with pytest.raises(RuntimeError, match="loading state_dict for MLP") as error:
        other.load_state_dict(weights)
    assert all(name in str(error.value) for name in misfits(wanted, weights))
    refused = error_of(other.load_state_dict, weights, strict=False) is not None
    assert refused == any(wanted[name].shape != weights[name].shape for name in wanted.keys() & weights.keys())


def as_before(model, load, weights):
    """Whether a load that is refused leaves every entry as it was."""
    before = {name: each.clone() for name, each in model.state_dict().items()}
    assert isinstance(error_of(load, model, weights), RuntimeError | ValueError)
    return all(torch.equal(before[name], each) for name, each in model.state_dict().items())


def through_load_state_dict(model, weights):
    model.load_state_dict(weights)


@claim(
    "pytorch-notes/refused-weights-leave-the-model-as-it-was",
    verdict=REFUTED,
    finding="The error comes last: before it, every entry that fits has been copied, and the model is a mixture of "
    "both. fitcore's load_weights compares names and shapes first, and touches nothing.",
    controls=[override("compared before anything is copied", load=load_weights)],
)
@given(hidden=st.integers(1, 8), outputs=st.integers(2, 5), load=st.just(through_load_state_dict))
def test_refused_weights_are_copied_where_they_fit(hidden, outputs, load):
    model, weights = MLP([1, hidden, 1]), MLP([1, hidden, outputs]).state_dict()
    first = next(iter(weights))
    weights[first].fill_(7)
    assert not as_before(model, load, weights)
    assert torch.equal(model.state_dict()[first], weights[first])
    assert as_before(MLP([1, hidden, 1]), load_weights, weights)
