"""Sections 10.6, 10.6.1, 10.6.4, 10.6.5 and 13.1: what the kernels of the document's network have learned."""

from itertools import accumulate

import torch
from torch import nn
from torch.nn.functional import cosine_similarity, normalize

from fitcore.data import mnist
from fitcore.testing import CONDITIONAL, REFUTED, claim, override

BRIGHTNESS = torch.ones(3, 3)
EDGES = torch.stack([torch.tensor([[-1.0, 0.0, 1.0]] * 3), torch.tensor([[-1.0, 0.0, 1.0]] * 3).T])


def trained_copies(learned):
    return learned.networks


def fresh_copies(learned):
    return [learned.fresh.module(copy) for copy in range(len(learned.fresh))]


def one_kernel_for_all(learned):
    networks = learned.networks
    for network in networks:
        network.features[0].weight.data[:] = network.features[0].weight.data[:1]
    return networks


def kernels(network):
    """The 16 kernels of the first convolution, (16, 9)."""
    return network.features[0].weight.detach().flatten(1)


def cosines(vectors):
    """Cosine of each vector with the others, (n, n), zeros on the diagonal."""
    directions = normalize(vectors)
    return (directions @ directions.T).fill_diagonal_(0)


def in_squares(network):
    """The kernels side by side, grey where they are zero."""
    weights = network.features[0].weight.detach()
    pictures = nn.functional.pad(0.5 + weights / weights.abs().max() / 2, (1, 1, 1, 1), value=0.5)
    return pictures.squeeze(1).permute(1, 0, 2).flatten(1).repeat_interleave(8, 0).repeat_interleave(8, 1)


@claim(
    "pytorch-notes/each-kernel-learns-a-different-feature",
    verdict=CONDITIONAL,
    finding="No two are the same, but they were drawn so, and learning turns most of them little: the median cosine "
    "between before and after is 0.95, and 0.91 after 8,000 digits and five epochs (measured once, apart). More than "
    "nine can't be independent of 3x3 numbers: before ReLU every further map is a weighted sum of others and a "
    "constant.",
    controls=[override("one kernel sixteen times", copies_of=one_kernel_for_all)],
)
def test_kernels_differ_as_they_were_drawn_and_only_nine_are_independent(learn, evidence, copies_of=trained_copies):
    learned = learn()
    networks, fresh = copies_of(learned), fresh_copies(learned)
    evidence.image("the kernels of one network before learning", in_squares(fresh[0]))
    evidence.image("and after", in_squares(networks[0]))
    closest = torch.stack([cosines(kernels(network)).max() for network in networks])
    turned = torch.stack([cosine_similarity(kernels(a), kernels(b)) for a, b in zip(fresh, networks, strict=True)])
    evidence.observe("cosine of the two most similar kernels of a network", closest)
    evidence.observe("cosine between a kernel before and after", turned)
    assert (closest < 0.9999).all()
    assert turned.median() > 0.85
    assert all(torch.linalg.matrix_rank(kernels(network)) == 9 for network in networks)


def accuracies_without(network, images, labels):
    """Share recognised without each of the 16 kernels in turn, (16,)."""
    maps = network.features[:3](images)  # pooled already: a channel of zeros is one after pooling, too
    rest = [network.features[3:], nn.Flatten(), network.classifier]
    kept = 1 - torch.eye(16)
    answers = [nn.Sequential(*rest)(maps * mask[:, None, None]).argmax(1) for mask in kept]
    return torch.stack([(answer == labels).float().mean() for answer in answers])


@claim(
    "pytorch-notes/every-learned-kernel-is-needed",
    verdict=REFUTED,
    finding="Without any one of its kernels a network recognises about as many digits as before: the median loss is 0 "
    "and the largest 1 to 2.5 points (2 to 5 of 200 digits), and without some of them it recognises more.",
    controls=[override("all rest on one kernel", copies_of=one_kernel_for_all)],
)
@torch.no_grad()
def test_the_network_does_as_well_without_most_of_its_kernels(learn, evidence, copies_of=trained_copies):
    learned = learn()
    images, labels = learned.test_x[:200], learned.test_y[:200]
    networks = learned.networks[:4]
    before = torch.stack([(net(images).argmax(1) == labels).float().mean() for net in copies_of(learned)[:4]])
    without = torch.stack([accuracies_without(net, images, labels) for net in networks])
    losses = before[:, None] - without
    evidence.observe("share of digits no longer recognised without one kernel", losses)
    assert losses.median().abs() < 0.015
    assert (losses.mean(1) < 0.05).all()


def share_of(directions, network):
    """Mean share of the kernels' squared length in the span of orthogonal ``directions``."""
    basis = normalize(directions.reshape(-1, 9))
    return (normalize(kernels(network)) @ basis.T).square().sum(1).mean()


def nearest_mean(known, known_labels, asked, labels):
    """Share of those asked that are nearest to the mean of their own class."""
    means = torch.stack([known[known_labels == label].flatten(1).mean(0) for label in range(10)])
    return (torch.cdist(asked.flatten(1), means).argmin(1) == labels).float().mean()


def shares_by_step(network, digits, images, labels):
    """Share nearest to the mean of their own class: pixels, first pooling, second pooling, outputs; and share of which
    the largest output is right; (5,).
    """
    steps = [network.features[:3], network.features[3:], nn.Sequential(nn.Flatten(), network.classifier)]
    known, asked = (list(accumulate(steps, lambda x, step: step(x), initial=x)) for x in (digits.scaled, images))
    nearest = [nearest_mean(a, digits.labels, b, labels) for a, b in zip(known, asked, strict=True)]
    return torch.stack([*nearest, (asked[-1].argmax(1) == labels).float().mean()])


@claim(
    "pytorch-notes/training-makes-conv1-edge-detectors",
    verdict=REFUTED,
    finding="There is a tendency: of the kernels' squared length upright and level edges make 28 to 36 %, after 20 to "
    "24 % at first. But brightness makes 16 to 22 %, after 10 to 12 %, and half of it stays neither.",
    controls=[override("before learning", copies_of=fresh_copies)],
)
def test_the_first_kernels_turn_towards_edges_and_stay_half_other(learn, evidence, copies_of=trained_copies):
    learned = learn()
    networks, fresh = copies_of(learned), fresh_copies(learned)
    edges, edges_at_first = (torch.stack([share_of(EDGES, net) for net in nets]) for nets in (networks, fresh))
    brightness, at_first = (torch.stack([share_of(BRIGHTNESS, net) for net in nets]) for nets in (networks, fresh))
    evidence.compare("share of edges in the first kernels", {"before": edges_at_first, "after": edges})
    evidence.compare("share of plain brightness", {"before": at_first, "after": brightness})
    assert (edges + brightness).mean() > (edges_at_first + at_first).mean() + 0.03
    assert (edges + brightness).mean() < 0.75
    assert edges.mean() < 0.5


@claim(
    "pytorch-notes/cnn-flow-metaphors",
    finding="Between the poolings clearly, and from there to the outputs by two or three points: 76 % by the nearest "
    "of ten means of pixels, 79 % after the first pooling, 82 to 83 % after the second, 85 to 86 % by the ten outputs; "
    "the largest of these is right for 88 to 90 %. So by learning: before it the features tell no more than the first "
    "maps.",
    controls=[override("before learning", copies_of=fresh_copies)],
)
@torch.no_grad()
def test_the_digit_can_be_told_more_clearly_from_step_to_step(learn, data_root, evidence, copies_of=trained_copies):
    learned, digits = learn(), mnist(data_root)[:500]
    images, labels = learned.test_x[:500], learned.test_y[:500]
    networks = copies_of(learned)
    *nearest, decided = torch.stack([shares_by_step(net, digits, images, labels) for net in networks]).T
    names = "pixels", "first pooling", "second pooling", "outputs"
    evidence.compare("share nearest to the mean of its class", dict(zip(names, nearest, strict=True)))
    evidence.observe("share of which the largest output is right", decided)
    pixels, first, second, _ = nearest
    assert pixels.mean() < first.mean() < second.mean()
    assert decided.mean() > second.mean()
