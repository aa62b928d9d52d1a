"""Section 19: sentences of different lengths in a DataLoader, with a collate_fn and without."""

import hypothesis.strategies as st
import torch
from hypothesis import given
from torch.nn.utils.rnn import pad_sequence, unpad_sequence
from torch.utils.data import DataLoader, default_collate

from fitcore.testing import claim, error_of, override

UNEQUAL = "stack expects each tensor to be equal size"

sentences = st.lists(st.lists(st.integers(1, 999), min_size=1, max_size=6).map(torch.tensor), min_size=2, max_size=5)


def as_it_is(sentence):
    return sentence


def first_word(sentence):
    return sentence[:1]


def padded(sentences):
    """Sentences (n, longest), filled up with 0, and their lengths (n,)."""
    return pad_sequence(sentences, batch_first=True), torch.tensor([len(sentence) for sentence in sentences])


def one_batch(sentences, collate):
    (batch,) = DataLoader(sentences, batch_size=len(sentences), collate_fn=collate)
    return batch


@claim(
    "pytorch-notes/variable-length-needs-collate",
    finding="By default the loader stacks token ids, which stops with a RuntimeError exactly where lengths in a batch "
    "differ. A collate_fn that pads them makes one tensor of any, and with their lengths nothing is lost. Raw strings "
    "are handed on as a list: the need comes with the token ids.",
    controls=[
        override("cut to one word", cut=first_word),
        override("default_collate", collate=default_collate),
    ],
)
@given(sentences=sentences, cut=st.just(as_it_is), collate=st.just(padded))
def test_sentences_of_different_lengths_need_a_collate_function(sentences, cut, collate):
    lengths = [len(sentence) for sentence in sentences]
    error = error_of(one_batch, [cut(sentence) for sentence in sentences], None)
    assert (UNEQUAL in str(error)) == (len(set(lengths)) > 1)
    assert error_of(one_batch, sentences, collate) is None
    tokens, told = one_batch(sentences, padded)
    assert tokens.shape == (len(sentences), max(lengths))
    assert told.tolist() == lengths
    assert all(map(torch.equal, unpad_sequence(tokens, told, batch_first=True), sentences))
    assert one_batch(["a", "bcd"], None) == ["a", "bcd"]
