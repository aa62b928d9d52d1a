"""Sections 11.1, 11.2, 11.4 and 11.5: the memories most similar to a query; images of digits stand in for texts."""

import torch
from torch import nn

from fitcore.evaluation.retrieval import cosine_similarities, most_similar
from fitcore.testing import CONDITIONAL, claim, override

TRIALS = 40


def pixels(images, classes):
    return images


def noise(images, classes):
    """Embeddings that say nothing of what they are of."""
    return torch.randn_like(images)


def nothing_but_the_class(images, classes):
    return nn.functional.one_hot(classes).double()


def hit_rate(relevant):
    """Share of queries with at least one relevant memory."""
    return relevant.any(1).double().mean()


@claim(
    "pytorch-notes/retrieval-finds-old-facts-that-window-lost",
    finding="Of a hundred memories the three most similar had one of the query's class in 96 % of cases, the three "
    "newest in 27 %, as chance has it, and the newest eight in 57 %. With embeddings of noise similarity does no "
    "better than the window.",
    controls=[override("embeddings of noise", embed=noise)],
    trials=TRIALS,
)
def test_similarity_finds_what_the_newest_messages_lack(recollect, trials, evidence, embed=pixels):
    def hit_rates(seed):
        drawn, newest = recollect(embed), torch.arange(100).flip(0)
        recalled = most_similar(drawn.queries, drawn.memories, 3), newest[:3], newest[:8]
        return torch.stack([hit_rate(drawn.relevant(indices)) for indices in recalled])

    similar, newest, window = trials.map(hit_rates).T
    arms = {"3 most similar": similar, "3 newest": newest, "8 newest": window}
    evidence.compare("share of queries with a relevant memory", arms)
    trials.less(newest, similar, by=0.5)
    trials.less(window, similar, by=0.1)


@claim(
    "pytorch-notes/top-k-hit-rate-grows-precision-falls",
    finding="From three recalled to five, the queries with a relevant memory rise from 96 % to 98 %, and the relevant "
    "among the recalled fall from 83 % to 75 %. The first can't fall. The second falls for want of as similar ones: it "
    "stays at 10 % with embeddings of noise, and at 100 % with those of nothing but the class.",
    controls=[override("embeddings of noise", embed=noise), override("of nothing else", embed=nothing_but_the_class)],
)
def test_five_instead_of_three_recall_more_and_less_of_it_is_relevant(recollect, trials, evidence, embed=pixels):
    def hits_and_precisions(seed):
        drawn = recollect(embed)
        five = drawn.relevant(most_similar(drawn.queries, drawn.memories, 5))
        recalled = five[:, :3], five
        return torch.stack([score(part.double()) for score in (hit_rate, torch.mean) for part in recalled])

    hits_of_3, hits_of_5, precision_of_3, precision_of_5 = trials.map(hits_and_precisions).T
    evidence.compare("share of queries with a relevant memory", {"among 3": hits_of_3, "among 5": hits_of_5})
    evidence.compare("share of relevant memories", {"among 3": precision_of_3, "among 5": precision_of_5})
    trials.less(hits_of_3, hits_of_5)
    trials.less(precision_of_5, precision_of_3, by=0.02)


def sorted_as_far_as_needed(queries, memories, k):
    return cosine_similarities(queries, memories).topk(k).indices


def at_random(queries, memories, k):
    return torch.rand(len(queries), len(memories)).argsort()[:, :k]


def share_nested(recall, queries, memories):
    """Share of queries whose three memories are all among the five."""
    three, five = recall(queries, memories, 3), recall(queries, memories, 5)
    return (three[:, :, None] == five[:, None]).any(2).all(1).double().mean()


@claim(
    "pytorch-notes/top-k-results-are-nested",
    verdict=CONDITIONAL,
    finding="Always where no two memories are equally similar, and with a stable sort also where some are. But "
    "messages repeat, and torch.topk breaks a tie one way for three and another for five: where a store of 200 has "
    "forty different ones, some 30 % of queries found one of the three missing among the five.",
    controls=[
        override("recalled at random", exact=at_random),
        override("a stable sort for torch.topk", fast=most_similar),
    ],
    trials=TRIALS,
)
def test_the_three_are_among_the_five_unless_a_tie_is_broken_anew(
    trials, evidence, exact=most_similar, fast=sorted_as_far_as_needed
):
    def shares(seed):
        queries, memories = torch.randn(30, 16), torch.randn(200, 16)
        repeated = memories[torch.randint(40, (200,))]
        cases = (exact, memories), (fast, memories), (exact, repeated), (fast, repeated)
        return torch.stack([share_nested(recall, queries, store) for recall, store in cases])

    distinct, distinct_by_topk, repeated, repeated_by_topk = trials.map(shares).T
    arms = {"stable sort": repeated, "torch.topk": repeated_by_topk}
    evidence.compare("share of queries whose three are among the five, in a store of repeated messages", arms)
    trials.always((distinct == 1) & (distinct_by_topk == 1) & (repeated == 1))
    trials.less(repeated_by_topk, repeated, by=0.05)


@claim(
    "pytorch-notes/fixed-settings-belong-in-system-prompt",
    finding="As one of a hundred memories a setting is among the five recalled for 5 % of messages, where a system "
    "prompt would have it each time. The others do well with similarity: five lines in place of a hundred, and 98 % of "
    "messages get a relevant one.",
    controls=[override("a store of five", stored=5)],
    trials=TRIALS,
)
def test_what_every_reply_needs_may_not_depend_on_similarity(recollect, trials, evidence, stored=100):
    def shares(seed):
        drawn = recollect(pixels)
        recalled = most_similar(drawn.queries, drawn.memories[:stored], 5)
        return torch.stack([hit_rate(recalled == 0), hit_rate(drawn.relevant(recalled))])

    of_the_setting, of_a_relevant_one = trials.map(shares).T
    arms = {"a setting in the store": of_the_setting, "a relevant memory": of_a_relevant_one}
    evidence.compare("share of messages that recall", arms, limit=1)
    trials.less(of_the_setting, 0 * of_the_setting + 1, by=0.5)
    trials.less(0 * of_a_relevant_one + 0.8, of_a_relevant_one)
