"""Section 11.1: a model remembers what is sent along, and a window of the last messages is what is."""

import weakref
from collections import deque

import hypothesis.strategies as st
import numpy as np
import pytest
import torch
from hypothesis import given
from torch import nn

from fitcore.testing import claim, override

VOCABULARY = 50


class Attention(nn.Module):
    """An encoder of tokens (1, length), all of which attend to all."""

    def __init__(self):
        super().__init__()
        self.embedding = nn.Embedding(VOCABULARY, 16)
        layer = nn.TransformerEncoderLayer(16, nhead=2, dim_feedforward=32, batch_first=True)
        self.encoder = nn.TransformerEncoder(layer, num_layers=1, enable_nested_tensor=False)

    def forward(self, tokens):
        return self.encoder(self.embedding(tokens))


class Recurrent(nn.Module):
    def __init__(self):
        super().__init__()
        self.embedding = nn.Embedding(VOCABULARY, 16)
        self.lstm = nn.LSTM(16, 16, batch_first=True)

    def forward(self, tokens):
        return self.lstm(self.embedding(tokens))[0]


def as_it_is(model):
    return model


def with_a_memory(model):
    """The model, which reads all that it has read before once more."""
    read = []

    def call(tokens):
        read.append(tokens)
        return model(torch.cat(read, dim=1))[:, -tokens.shape[1] :]

    return call


@claim(
    "pytorch-notes/history-only-reaches-model-through-input",
    finding="Whatever the model was called with in between, it answered a message to the bit as before. Put in front "
    "of the message, the same history changes the output. An LSTM, too, starts afresh with each call.",
    controls=[override("a model that remembers", calling=with_a_memory)],
    trials=20,
)
@pytest.mark.parametrize("Model", [Attention, Recurrent])
def test_a_message_is_read_as_if_it_were_the_first(Model, trials, evidence, calling=as_it_is):
    @torch.no_grad()
    def run(seed):
        model = calling(Model().eval())
        history, message = torch.randint(VOCABULARY, (1, 6)), torch.randint(VOCABULARY, (1, 4))
        first = model(message)
        model(history)
        again = model(message)
        informed = model(torch.cat([history, message], dim=1))[:, -4:]
        return (again - first).abs().max(), (informed - first).abs().max()

    after_history, with_history = trials.map(run).T
    arms = {"history read before": after_history, "history in the input": with_history}
    evidence.compare("largest change of the output", arms)
    trials.always(after_history == 0)
    trials.always(with_history > 1e-4)


class Message:
    """What a weak reference can tell to be gone."""


class OldestFirst(deque):
    def extend(self, messages):
        super().extend(messages[: self.maxlen])


def newest(n):
    return deque(maxlen=n)


def whole(n):
    return deque()


def oldest(n):
    return OldestFirst(maxlen=n)


lengths = st.just(8) | st.integers(1, 15)


@claim(
    "pytorch-notes/window-keeps-exactly-last-n-messages",
    finding="collections.deque(maxlen=n) is such a window, and of a message that has fallen out of it nothing is left.",
    controls=[override("no limit", window=whole), override("the oldest kept", window=oldest)],
)
@given(sent=st.just(20) | st.integers(16, 40), n=lengths, window=st.just(newest))
def test_a_window_is_all_that_is_left_of_the_messages(sent, n, window):
    messages, kept = [Message() for _ in range(sent)], window(n)
    kept.extend(messages)
    references = [weakref.ref(message) for message in messages]
    del messages
    assert [reference() for reference in references] == [None] * (sent - n) + list(kept)


def messages_read(rounds, history):
    """How many messages the model has read after each round, if the history is sent along, (rounds,)."""
    read = []
    for message in range(rounds):
        history.append(message)
        read.append(len(history))
    return np.cumsum(read)


@claim(
    "pytorch-notes/full-history-tokens-grow-quadratically",
    finding="After n rounds n(n + 1)/2 messages have been read, against 8n - 28 with a window of 8: after fifty rounds "
    "1275 against 372.",
    controls=[override("only a window resent", resent=newest), override("a window without limit", window=whole)],
)
@given(rounds=st.just(50) | st.integers(20, 100), n=lengths, resent=st.just(whole), window=st.just(newest))
def test_the_whole_history_costs_the_square_of_the_rounds_and_a_window_their_number(
    evidence, rounds, n, resent, window
):
    everything, windowed = messages_read(rounds, resent(n)), messages_read(rounds, window(n))
    fifty = {"the whole history": messages_read(50, resent(8)), "a window of 8": messages_read(50, window(8))}
    evidence.curve("messages read", range(1, 51), fifty, x_label="rounds")
    assert set(np.diff(everything, 2)) == {1}
    assert everything[-1] == rounds * (rounds + 1) / 2
    assert set(np.diff(windowed[n - 1 :])) == {n}
    assert windowed[-1] == n * rounds - n * (n - 1) / 2
