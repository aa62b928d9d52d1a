"""Section 19: what KLDivLoss expects and computes."""

import hypothesis.strategies as st
import pytest
import torch
from hypothesis import given
from scipy import stats
from torch import nn
from torch.testing import assert_close

from fitcore.testing import claim, override, replace
from fitcore.testing.strategies import shapes, tensors

kl_div = nn.functional.kl_div

logits = tensors(shapes(min_dims=2, max_dims=2, min_side=2), torch.float64, st.floats(-8, 8))
pairs = logits.flatmap(lambda first: st.tuples(st.just(first), tensors(tuple(first.shape), torch.float64)))


def taking_probabilities(p, q, *args, **options):
    return kl_div(p.abs().log(), q, *args, **options)


def the_other_way_round(log_p, q, *args, **options):
    return kl_div(q.log(), log_p.exp(), *args, **options)


@claim(
    "pytorch-notes/kldiv-needs-log-probabilities",
    finding="For log p and q it is Σ q (log q - log p) over the batch size, which scipy.stats.entropy(q, p) gives as "
    "well: the divergence of p, the input, from q, the target, in that order.",
    controls=[
        replace("torch.nn.functional.kl_div", taking_probabilities),
        replace("torch.nn.functional.kl_div", the_other_way_round),
        override("summed", reduction="sum"),
    ],
)
@given(pair=pairs, reduction=st.just("batchmean"))
def test_kl_div_of_log_probabilities_is_the_divergence_per_sample(pair, reduction):
    log_p, q = pair[0].log_softmax(1), pair[1].softmax(1)
    loss = nn.KLDivLoss(reduction=reduction)(log_p, q)
    assert_close(loss, (q * (q.log() - log_p)).sum() / len(q))
    assert_close(loss.item(), stats.entropy(q, log_p.exp(), axis=1).mean(), atol=1e-12, rtol=1e-7)


@claim(
    "pytorch-notes/kldiv-needs-log-probabilities",
    finding="It takes probabilities too, without a word, and is then no divergence: below 0 for equal distributions, "
    "where that of log p is 0.",
    controls=[override("log-probabilities", form=torch.log)],
)
@given(logits=logits, form=st.just(torch.clone))
def test_kl_div_of_probabilities_is_negative_for_equal_distributions(logits, form):
    q = logits.softmax(1)
    loss = nn.KLDivLoss(reduction="batchmean")
    assert_close(loss(q.log(), q), torch.zeros((), dtype=torch.float64))
    assert loss(form(q), q) < -1e-3


@claim(
    "pytorch-notes/kldiv-needs-log-probabilities",
    finding="The default reduction, 'mean', divides by the classes as well, and torch warns of it.",
    controls=[override("batchmean", reduction="batchmean")],
)
@given(pair=pairs, reduction=st.just("mean"))
def test_the_default_reduction_divides_by_the_classes_as_well(pair, reduction):
    log_p, q = pair[0].log_softmax(1), pair[1].softmax(1)
    with pytest.warns(UserWarning, match="batchmean"):
        mean = nn.KLDivLoss(reduction=reduction)(log_p, q)
    assert_close(mean * q.shape[1], nn.KLDivLoss(reduction="batchmean")(log_p, q))
