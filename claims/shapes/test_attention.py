"""Section 19: the attention of a Transformer in NumPy, made of broadcasting, views and axes alone."""

import hypothesis.strategies as st
import numpy as np
import torch
from hypothesis import given
from scipy.special import softmax
from torch import nn
from torch.testing import assert_close

from fitcore.seeding import seeded
from fitcore.testing import claim, error_of, override


def split(x, heads):
    """(batch, length, width) as (batch, heads, length, width of a head): a view."""
    return x.reshape(*x.shape[:2], heads, -1).swapaxes(1, 2)


def split_without_swapping(x, heads):
    """The shape is right, and the elements are in other places."""
    return x.reshape(x.shape[0], heads, x.shape[1], -1)


def causal(length):
    """(length, length): no position sees those after it; it broadcasts over batch and heads."""
    return np.triu(np.full((length, length), -np.inf), 1)


def backwards(length):
    return causal(length).T


def attention(x, layer, heads, *, split, mask, axis):
    """softmax(QKᵀ/√d + mask) V of each head, side by side, through the layer's own weights; all in NumPy."""
    state = {name: tensor.numpy() for name, tensor in layer.state_dict().items()}
    q, k, v = np.split(x @ state["in_proj_weight"].T + state["in_proj_bias"], 3, axis=-1)
    q, k, v = split(q, heads), split(k, heads), split(v, heads)
    scores = q @ k.swapaxes(-1, -2) / np.sqrt(q.shape[-1]) + mask(x.shape[1])
    mixed = (softmax(scores, axis=axis) @ v).swapaxes(1, 2).reshape(x.shape)
    return mixed @ state["out_proj.weight"].T + state["out_proj.bias"]


def make(seed, size, length, heads, width):
    with seeded(seed):
        layer = nn.MultiheadAttention(heads * width, heads, batch_first=True, dtype=torch.float64)
        return layer, torch.randn(size, length, heads * width, dtype=torch.float64)


at_least_two = st.integers(2, 4)
sides = st.tuples(st.integers(1, 3), at_least_two, at_least_two, at_least_two)


@claim(
    "pytorch-notes/transformer-relies-on-numpy",
    finding="Multi-head attention in a few lines of NumPy, with a mask that broadcasts, heads split by a swap of axes "
    "and a softmax over the axis of the keys, gives what torch's layer gives, to float64.",
    controls=[
        override("softmax over the queries", axis=-2),
        override("heads split without the swap", how=split_without_swapping),
        override("a mask along the other axis", mask=backwards),
    ],
)
@given(
    seed=st.integers(0, 2**32 - 1),
    sides=sides,
    how=st.just(split),
    mask=st.just(causal),
    axis=st.just(-1),
)
def test_attention_is_broadcasting_views_and_axes(seed, sides, how, mask, axis):
    layer, x = make(seed, *sides)
    _, length, heads, _ = sides
    with torch.no_grad():
        expected, _ = layer(x, x, x, attn_mask=torch.from_numpy(causal(length)))
    by_hand = attention(x.numpy(), layer, heads, split=how, mask=mask, axis=axis)
    assert_close(torch.from_numpy(by_hand), expected)


def as_a_view(x):
    return x


@claim(
    "pytorch-notes/transformer-relies-on-numpy",
    finding="Splitting into heads copies nothing, merging them again copies: .view() refuses that, .reshape() does it.",
    controls=[override("heads made contiguous", between=torch.Tensor.contiguous)],
)
@given(sides=sides, between=st.just(as_a_view))
def test_splitting_heads_is_a_view_and_merging_them_a_copy(sides, between):
    size, length, heads, width = sides
    x = torch.arange(size * length * heads * width).view(size, length, heads * width)
    parts = between(x.view(size, length, heads, width).transpose(1, 2))
    assert "view size is not compatible" in str(error_of(parts.view, size, -1))
    assert np.shares_memory(split(x.numpy(), heads), x.numpy())
    merged = split(x.numpy(), heads).swapaxes(1, 2).reshape(x.shape)
    assert np.array_equal(merged, x.numpy())
    assert not np.shares_memory(split(x.numpy(), heads).reshape(size, -1), x.numpy())
