"""Section 5.2.3: the LSTM that predicts the next token, its shapes, its state, and what its last time step is."""

import hypothesis.strategies as st
import pytest
import torch
from hypothesis import example, given, settings
from torch import nn
from torch.nn.utils.rnn import pack_padded_sequence
from torch.testing import assert_close

from fitcore.models import RecurrentModel, number_of_parameters
from fitcore.seeding import seeded
from fitcore.testing import CONDITIONAL, REFUTED, claim, error_of, override, replace

SEEDS = st.integers(0, 2**32 - 1)
DOCUMENT = (1000, 64, 128, 2)

LSTM, embedding = nn.LSTM, nn.functional.embedding

SIZES = st.tuples(*[st.integers(1, 6)] * 3, st.integers(1, 3))  # vocabulary, embedding, hidden, layers
BATCHES = st.tuples(st.integers(1, 4), st.integers(1, 6))  # sequences, tokens in each
CASES = st.tuples(SIZES, BATCHES, SEEDS)
AS_DOCUMENTED = (DOCUMENT, (4, 15), 0)


def model_and_tokens(sizes, batch, seed):
    """A model in double precision, in evaluation, and sequences of random tokens."""
    with seeded(seed):
        return RecurrentModel(*sizes).double().eval(), torch.randint(sizes[0], batch)


def both_directions(*arguments, **options):
    return LSTM(*arguments, **options, bidirectional=True)


def time_first(*arguments, **options):
    return LSTM(*arguments, **options | {"batch_first": False})


def summed_over_time(tokens, weight, *_):
    return embedding(tokens, weight).sum(1)


@claim(
    "pytorch-notes/rnn-shapes-through-the-network",
    finding="And the axes are what they are called: each sequence of a batch gives what it gives alone.",
    controls=[
        replace("torch.nn.LSTM", both_directions),
        replace("torch.nn.LSTM", time_first),
        replace("torch.nn.functional.embedding", summed_over_time),
    ],
)
@example(case=AS_DOCUMENTED)
@given(case=CASES)
def test_token_ids_become_vectors_then_states_then_scores(case):
    (vocabulary, width, hidden, _), batch, _ = case
    model, tokens = model_and_tokens(*case)
    embedded = model.embedding(tokens)
    outputs, _ = model.lstm(embedded)
    assert (embedded.shape, outputs.shape) == ((*batch, width), (*batch, hidden))
    scores = model.output(outputs[:, -1])
    assert scores.shape == (batch[0], vocabulary)
    assert_close(scores, torch.cat([model(sequence[None])[0] for sequence in tokens]))


@claim(
    "pytorch-notes/rnn-listing-runs",
    finding="With vocabulary 1000, embedding 64, 128 hidden neurons and 2 layers, for 4 sequences of 15 tokens, int64 "
    "or int32, and a cross-entropy reaches every parameter. Ids beyond the vocabulary are an IndexError, floats a "
    "RuntimeError.",
    controls=[override("tokens as floats", dtype=torch.float32)],
)
@pytest.mark.parametrize("dtype", [torch.int64, torch.int32], ids=str)
@settings(max_examples=5)
@given(seed=SEEDS)
def test_the_recurrent_network_takes_token_ids_and_no_state(dtype, seed):
    with seeded(seed):
        model, tokens, following = RecurrentModel(*DOCUMENT, dropout=0.2), torch.randint(1000, (4, 15)), torch.arange(4)
    assert error_of(model, tokens.to(dtype)) is None
    scores, _ = model(tokens.to(dtype))
    assert scores.shape == (4, 1000)
    nn.functional.cross_entropy(scores, following).backward()
    assert all(parameter.grad is not None for parameter in model.parameters())
    with pytest.raises(IndexError, match="index out of range"):
        model(tokens + 1000)
    with pytest.raises(RuntimeError, match="indices"):
        model(tokens.float())


@claim(
    "pytorch-notes/lstm-hidden-is-a-pair-with-layers-first",
    finding="batch_first=True turns inputs and outputs only. A state with the batch in front is refused, unless there "
    "are as many layers as sequences: then it is taken for what it is not.",
    controls=[replace("torch.nn.LSTM", nn.GRU), replace("torch.nn.LSTM", both_directions)],
)
@example(sizes=DOCUMENT, more=2, seed=0)
@given(sizes=SIZES, more=st.integers(1, 3), seed=SEEDS)
def test_the_state_is_a_pair_of_hidden_and_cell_with_layers_first(sizes, more, seed):
    *_, hidden, layers = sizes
    model, tokens = model_and_tokens(sizes, (layers + more, 5), seed)
    _, state = model.lstm(model.embedding(tokens))
    assert isinstance(state, tuple)
    assert [part.shape for part in state] == [(layers, layers + more, hidden)] * 2
    with pytest.raises(RuntimeError, match=rf"Expected hidden\[0\] size \({layers}, {layers + more}, {hidden}\)"):
        model(tokens, batch_in_front(state))
    as_many = tokens[:layers]
    assert error_of(model, as_many, batch_in_front(model(as_many)[1])) is None


def batch_in_front(state):
    return tuple(part.transpose(0, 1).contiguous() for part in state)


@claim(
    "pytorch-notes/lstm-last-step-equals-final-hidden",
    finding="To the bit, in training with dropout too, which does not act on the top layer. With bidirectional=True it "
    "would be otherwise: the last step then knows the whole sequence in one direction, and one token in the other.",
    controls=[replace("torch.nn.LSTM", both_directions)],
)
@example(case=AS_DOCUMENTED, training=True)
@given(case=CASES, training=st.booleans())
def test_the_last_step_is_the_final_hidden_state_of_the_top_layer(case, training):
    model, tokens = model_and_tokens(*case)
    model.lstm.dropout = 0.5
    outputs, (hidden, _) = model.lstm.train(training)(model.embedding(tokens))
    assert torch.equal(outputs[:, -1], hidden[-1])


def padded(model, tokens):
    """Scores of ten tokens and five zeros, read to the last time step."""
    return model(nn.functional.pad(tokens, (0, 5)))[0]


def packed(model, tokens):
    """Scores of the same, read to the last time step of each sequence."""
    embedded = model.embedding(nn.functional.pad(tokens, (0, 5)))
    lengths = torch.full((len(tokens),), tokens.shape[1])
    return model.output(model.lstm(pack_padded_sequence(embedded, lengths, batch_first=True))[1][0][-1])


@claim(
    "pytorch-notes/last-time-step-is-right-for-padded-batches",
    verdict=REFUTED,
    finding="The zeros are read like any token, and the state moves on: after five of them the scores are 1.5 times as "
    "far from those without padding as another sequence's are (median). With padding_idx=0, which makes their vector "
    "zero, still 0.6 times. pack_padded_sequence, or the output at the last real token, gives what the sequence gives "
    "alone.",
    controls=[override("packed", read=packed)],
    trials=40,
)
@pytest.mark.parametrize("padding_idx", [None, 0])
def test_padding_at_the_end_moves_the_last_time_step(padding_idx, trials, evidence, read=padded):
    def differences(seed):
        model, tokens = RecurrentModel(*DOCUMENT).eval(), torch.randint(1, 1000, (4, 10))
        model.embedding = nn.Embedding(1000, 64, padding_idx=padding_idx)
        with torch.no_grad():
            alone, with_padding = model(tokens)[0], read(model, tokens)
            outputs, _ = model.lstm(model.embedding(nn.functional.pad(tokens, (0, 5))))
            repaired = torch.stack([packed(model, tokens), model.output(outputs[:, 9])])
        between = (alone[0] - alone[1]).square().mean().sqrt()
        return torch.stack([(with_padding - alone).square().mean().sqrt() / between, (repaired - alone).abs().max()])

    moved, repaired = trials.map(differences).T
    evidence.observe("change by padding, relative to the difference of two sequences", moved)
    trials.less(0.25, moved, name="by more than a quarter of that difference")
    trials.always(repaired < 1e-5, name="packed, or at the last token, the scores are those without padding")


def from_zeros(initial, model, tokens):
    zeros = torch.zeros(model.lstm.num_layers, len(tokens), model.lstm.hidden_size, dtype=torch.float64)
    return model(tokens, (zeros + initial, zeros + initial))


@claim("pytorch-notes/lstm-none-hidden-equals-zeros", controls=[override("a state of ones", initial=1.0)])
@given(case=CASES, initial=st.just(0.0))
def test_no_state_is_a_state_of_zeros(case, initial):
    model, tokens = model_and_tokens(*case)
    (scores, state), (others, other_state) = model(tokens), from_zeros(initial, model, tokens)
    assert torch.equal(scores, others)
    assert torch.equal(torch.stack(state), torch.stack(other_state))


def handed_on(state):
    return state


def forgotten(state):
    return None


def hidden_without_cell(state):
    return state[0], torch.zeros_like(state[1])


@claim(
    "pytorch-notes/lstm-hidden-carries-context-across-chunks",
    finding="7 + 8 tokens, and any other division, give the scores and the state of the whole to rounding. It takes "
    "both parts of the state, and evaluation: with dropout, training draws other masks.",
    controls=[override("no state", hand_on=forgotten), override("no cell state", hand_on=hidden_without_cell)],
)
@example(sizes=DOCUMENT, lengths=(7, 8), n=4, seed=0, hand_on=handed_on)
@given(
    sizes=SIZES,
    lengths=st.tuples(*[st.integers(1, 5)] * 2),
    n=st.integers(1, 3),
    seed=SEEDS,
    hand_on=st.just(handed_on),
)
def test_a_sequence_in_two_chunks_gives_what_it_gives_whole(sizes, lengths, n, seed, hand_on):
    model, tokens = model_and_tokens(sizes, (n, sum(lengths)), seed)
    first, second = tokens.split(lengths, dim=1)
    scores, state = model(second, hand_on(model(first)[1]))
    assert_close((scores, *state), (model(tokens)[0], *model(tokens)[1]))


def detached(state):
    return tuple(part.detach() for part in state)


@claim(
    "pytorch-notes/lstm-hidden-can-be-reused-in-the-next-training-step",
    verdict=REFUTED,
    finding="The state carries the graph of the first batch, which its backward has freed: the second backward goes "
    "'through the graph a second time'. retain_graph=True only changes the error once the optimizer has stepped: "
    "'modified by an inplace operation'. Handed on detached, the state works.",
    controls=[override("detached", hand_on=detached)],
)
@pytest.mark.parametrize(
    ("retain_graph", "message"),
    [(False, "through the graph a second time"), (True, "modified by an inplace operation")],
)
@given(case=CASES, hand_on=st.just(handed_on))
def test_a_state_must_be_detached_before_the_next_training_step(retain_graph, message, case, hand_on):
    model, tokens = model_and_tokens(*case)
    optimizer = torch.optim.SGD(model.train().parameters(), lr=0.1)
    scores, state = model(tokens)
    scores.sum().backward(retain_graph=retain_graph)
    optimizer.step()
    assert error_of(model(tokens, detached(state))[0].sum().backward) is None
    with pytest.raises(RuntimeError, match=message):
        model(tokens, hand_on(state))[0].sum().backward()


def dropped_on_top_too(*arguments, **options):
    layer = LSTM(*arguments, **options)
    layer.register_forward_hook(
        lambda module, _, result: (nn.functional.dropout(result[0], 0.2, module.training), result[1])
    )
    return layer


@claim(
    "pytorch-notes/lstm-dropout-acts-with-any-number-of-layers",
    verdict=CONDITIONAL,
    finding="With two layers or more it acts, between them. With one layer there is no 'between': torch warns, and "
    "training gives the same outputs as evaluation, to the bit. The top layer's outputs are never dropped.",
    controls=[replace("torch.nn.LSTM", dropped_on_top_too), override("none dropped", p=0.0)],
)
@given(inputs=st.integers(1, 6), hidden=st.integers(4, 8), more=st.integers(2, 4), seed=SEEDS, p=st.just(0.2))
def test_lstm_dropout_acts_between_layers_only(inputs, hidden, more, seed, p):
    with seeded(seed):
        x = torch.randn(20, 10, inputs)
        several = nn.LSTM(inputs, hidden, more, batch_first=True, dropout=p)
        assert not torch.equal(several.train()(x)[0], several.eval()(x)[0])
        with pytest.warns(UserWarning, match="num_layers greater than 1, but got dropout=0.2 and num_layers=1"):
            one = nn.LSTM(inputs, hidden, 1, batch_first=True, dropout=0.2)
        assert torch.equal(one.train()(x)[0], one.eval()(x)[0])


def one_bias(*arguments, **options):
    return LSTM(*arguments, **options | {"bias": False})


@claim(
    "pytorch-notes/rnn-parameter-count",
    finding="64,000 + 99,328 + 132,096 + 129,000, as torchinfo counts too. Each layer has two biases, of which one "
    "would do: that is the 2 in each bracket.",
    controls=[replace("torch.nn.LSTM", nn.GRU), replace("torch.nn.LSTM", one_bias)],
)
@given(sizes=SIZES)
def test_parameters_of_embedding_lstm_and_output_layer(sizes, evidence, torchinfo):
    model = RecurrentModel(*DOCUMENT)
    measured = number_of_parameters(model)
    assert evidence.figure("parameters", reported=424_424, measured=measured, tolerance=0)
    tokens = torch.zeros(4, 15, dtype=torch.int64)
    assert torchinfo.summary(model, input_data=tokens, verbose=0).total_params == measured
    vocabulary, width, hidden, layers = sizes
    lstm = 4 * hidden * (width + hidden + 2) + (layers - 1) * 4 * hidden * (2 * hidden + 2)
    expected = vocabulary * width + lstm + (hidden + 1) * vocabulary
    assert number_of_parameters(RecurrentModel(*sizes)) == expected
