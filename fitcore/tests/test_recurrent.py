import hypothesis.strategies as st
import pytest
import torch
from hypothesis import given
from torch.testing import assert_close

from fitcore.models import RecurrentModel


@given(
    sizes=st.tuples(*[st.integers(1, 5)] * 3, st.integers(1, 3)),
    n=st.integers(1, 3),
    length=st.integers(2, 5),
    at=st.integers(1, 4),
)
def test_a_sequence_may_be_read_in_two_pieces(sizes, n, length, at):
    model, tokens = RecurrentModel(*sizes), (torch.arange(n * length) % sizes[0]).view(n, length)
    whole, state = model(tokens)
    assert whole.shape == (n, sizes[0])
    assert [part.shape for part in state] == [(sizes[3], n, sizes[2])] * 2
    cut = min(at, length - 1)
    _, half_way = model(tokens[:, :cut])
    assert_close(model(tokens[:, cut:], half_way)[0], whole)


def test_the_scores_are_of_the_last_step():
    model, tokens = RecurrentModel(7, 3, 4, 2), torch.tensor([[1, 2, 3]])
    outputs, _ = model.lstm(model.embedding(tokens))
    assert_close(model(tokens)[0], model.output(outputs[:, 2]))


@pytest.mark.parametrize("name", ["vocabulary_size", "embedding_size", "hidden_size", "num_layers"])
def test_sizes_must_be_positive(name):
    sizes = {"vocabulary_size": 5, "embedding_size": 5, "hidden_size": 5, "num_layers": 2} | {name: 0}
    with pytest.raises(ValueError, match=f"{name} must be at least 1, got 0"):
        RecurrentModel(**sizes)


def test_a_single_layer_has_nothing_to_drop_from():
    assert RecurrentModel(5, 5, 5, num_layers=2, dropout=0.2).lstm.dropout == 0.2
    with pytest.raises(ValueError, match=r"dropout acts between layers: with num_layers=1 it must be 0, got 0\.2"):
        RecurrentModel(5, 5, 5, dropout=0.2)
