"""Section 11.1: what a longer context costs."""

from time import thread_time

import hypothesis.strategies as st
import torch
from hypothesis import given, settings
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

from fitcore.evaluation.throughput import least_seconds
from fitcore.testing import claim, override

LENGTHS = (256, 512, 1024, 2048)


def operations(call, *shape):
    """Floating-point operations of the matrix products in one call: on the device "meta" nothing is computed."""
    with FlopCounterMode(display=False) as counter:
        call(torch.empty(shape, device="meta"))
    return counter.get_total_flops()


def encoder(device):
    return nn.TransformerEncoderLayer(32, nhead=2, dim_feedforward=64, batch_first=True, device=device).eval()


def everything(context):
    return context


def last_256(context):
    return context[:, -256:]


@claim(
    "pytorch-notes/longer-context-costs-more",
    finding="A Transformer layer of 32 channels takes 13 million operations for 256 tokens and 570 million for 2048: "
    "eight times the tokens are 45 times the work. With four times the tokens it took more than twice as long.",
    controls=[override("a window of 256 tokens", sent=last_256)],
)
def test_a_longer_context_takes_more_operations_and_more_time(evidence, sent=everything):
    layer, counted = encoder("cpu"), encoder("meta")
    work = [operations(lambda context: counted(sent(context)), 1, length, 32) for length in LENGTHS]
    evidence.curve("operations", LENGTHS, {"a Transformer layer": work}, x_label="tokens")
    short, long = (torch.ones(1, length, 32) for length in (256, 1024))
    calls = {"short": lambda: layer(sent(short)), "long": lambda: layer(sent(long))}
    with torch.no_grad():
        seconds = least_seconds(calls, clock=thread_time)
    evidence.observe("time for 1024 tokens over that for 256", seconds["long"] / seconds["short"])
    assert work == sorted(set(work))
    assert seconds["long"] > 2 * seconds["short"]


def self_attention(x):
    """Attention of x (..., length, size) to itself, and the scores of each token with each."""
    scores = (x @ x.mT).softmax(-1)
    return scores @ x, scores


def linear_attention(x):
    """Attention with a feature map in place of the softmax: keys and values are summed up once (Katharopoulos 2020)."""
    features = nn.functional.elu(x) + 1
    state = features.mT @ x
    return features @ state, state


@claim(
    "pytorch-notes/attention-cost-superlinear-in-context",
    finding="Twice the context makes four times the scores and four times the operations, whatever the length. The "
    "projections around them grow with the context only: nn.MultiheadAttention with 128 channels takes 3.0 times as "
    "many from 256 tokens to 512, 3.8 times from 2048 on, and hardly more than twice as many for a few tokens.",
    controls=[override("linear attention", attention=linear_attention)],
)
@settings(max_examples=8)
@given(length=st.sampled_from(LENGTHS) | st.integers(1, 2048), attention=st.just(self_attention))
def test_twice_the_context_is_four_times_the_attention(evidence, length, attention):
    assert operations(attention, 1, 4, 2 * length, 32) == 4 * operations(attention, 1, 4, length, 32)
    once, twice = (attention(torch.empty(1, 4, side, 32, device="meta")) for side in (length, 2 * length))
    assert twice[1].numel() == 4 * once[1].numel()
    layer = nn.MultiheadAttention(128, num_heads=4, batch_first=True, device="meta")
    work, more = (operations(lambda x: layer(x, x, x), 1, side, 128) for side in (length, 2 * length))
    evidence.observe("operations of nn.MultiheadAttention for twice the context", more / work, limit=4)
    assert 2 * work < more < 4 * work
