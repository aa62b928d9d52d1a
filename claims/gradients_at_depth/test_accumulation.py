"""Section 15.3: when gradients that add up over small batches are those of one large batch."""

from copy import deepcopy

import hypothesis.strategies as st
import pytest
import torch
from hypothesis import given, settings
from torch import nn
from torch.autograd.graph import saved_tensors_hooks
from torch.nn.functional import cross_entropy, l1_loss, mse_loss

from fitcore.evaluation.memory import allocated_bytes
from fitcore.models import number_of_parameters
from fitcore.seeding import seeded
from fitcore.testing import CONDITIONAL, REFUTED, claim, override
from fitcore.testing.strategies import tensors

SPLIT = (8, 8, 8, 8)


def large_model(between=nn.Identity):
    """The listing's model: ten linear layers, one after the other."""
    return nn.Sequential(*(nn.Sequential(nn.Linear(100, 100), between()) for _ in range(10)))


def normalised(norm=nn.BatchNorm1d):
    return nn.Sequential(nn.Linear(100, 32), norm(32), nn.ReLU(), nn.Linear(32, 100))


def evenly(sizes):
    """Divide each loss by the number of batches, as the listing does."""
    return [1 / len(sizes) for _ in sizes]


def by_size(sizes):
    return [size / sum(sizes) for size in sizes]


def undivided(sizes):
    return [1.0 for _ in sizes]


def gradient(model, x, y, sizes, *, weights=evenly, loss=mse_loss):
    """What is in the gradients after a backward pass of each batch's weighted loss."""
    model.zero_grad()
    for inputs, targets, weight in zip(x.split(sizes), y.split(sizes), weights(sizes), strict=True):
        (weight * loss(model(inputs), targets)).backward()
    return torch.cat([parameter.grad.flatten() for parameter in model.parameters()])


def deviation(model, x, y, sizes, *, weights=evenly, loss=mse_loss):
    """Distance of the accumulated gradient from the large batch's, in units of that one's norm."""
    whole = gradient(model, x, y, [len(x)], loss=loss)
    return float((gradient(model, x, y, list(sizes), weights=weights, loss=loss) - whole).norm() / whole.norm())


def samples(count=32):
    return torch.randn(count, 100).double(), torch.randn(count, 100).double()


def of_rows(loss):
    """Some loss, of 100 outputs a sample, as a mean over samples."""
    return {
        "mse": mse_loss,
        "l1": l1_loss,
        "cross-entropy": lambda outputs, targets: cross_entropy(outputs, targets.argmax(1)),
    }[loss]


@claim(
    "pytorch-notes/accumulation-equals-large-batch-gradient",
    finding="To rounding, for every mean over samples, number of batches and size, as long as the network treats each "
    "sample by itself.",
    controls=[
        override("losses not divided", weights=undivided),
        override("with batch normalisation", make=normalised),
    ],
)
@settings(max_examples=10)
@given(
    seed=st.integers(0, 2**32 - 1),
    sizes=st.just(SPLIT) | st.builds(lambda size, steps: (size,) * steps, st.integers(2, 8), st.integers(2, 6)),
    loss=st.sampled_from(["mse", "l1", "cross-entropy"]),
    weights=st.just(evenly),
    make=st.just(large_model),
)
def test_accumulated_gradients_are_those_of_the_large_batch(seed, sizes, loss, weights, make):
    with seeded(seed):
        model, (x, y) = make().double(), samples(sum(sizes))
    assert deviation(model, x, y, sizes, weights=weights, loss=of_rows(loss)) < 1e-10


@claim(
    "pytorch-notes/accumulation-needs-equal-batches",
    verdict=REFUTED,
    finding="Of 10, 10, 10 and 2 samples, each loss divided by 4, the last two samples weigh five times as much as the "
    "others: the gradient is off by half of its norm and more. Each loss times its share of the samples is exact "
    "for every split.",
    controls=[override("equal batches", sizes=SPLIT), override("weighted by size", listed=by_size)],
    trials=5,
)
def test_unequal_batches_need_weights(trials, evidence, sizes=(10, 10, 10, 2), listed=evenly):
    def deviations(_):
        model, (x, y) = large_model().double(), samples()
        return [deviation(model, x, y, sizes, weights=weights) for weights in (listed, by_size)]

    divided, weighted = trials.map(deviations).T
    evidence.observe("relative error of the gradient, each loss divided by 4", divided)
    trials.always(divided > 0.2, name="divided by the number of batches: another gradient")
    trials.always(weighted < 1e-10, name="weighted by size: the gradient of the large batch")


@claim(
    "pytorch-notes/accumulation-equivalent-with-batchnorm",
    verdict=REFUTED,
    finding="Not for layers that look at the batch: batch normalisation takes mean and variance of 8 samples instead "
    "of 32, and the gradient is off by half of its norm and more. In eval mode, or with LayerNorm, it is exact.",
    controls=[override("LayerNorm", norm=nn.LayerNorm)],
    trials=10,
)
def test_with_batch_normalisation_the_gradient_is_another(trials, evidence, norm=nn.BatchNorm1d):
    def deviations(_):
        batch, layer = normalised(norm).double(), normalised(nn.LayerNorm).double()
        x, y = samples()
        return [deviation(model, x, y, SPLIT) for model in (batch, layer, deepcopy(batch).eval())]

    batch, layer, evaluating = trials.map(deviations).T
    evidence.observe("relative error of the gradient with BatchNorm1d", batch)
    trials.always(batch > 0.2, name="BatchNorm1d: another gradient")
    trials.always(layer < 1e-10, name="LayerNorm: the same")
    trials.always(evaluating < 1e-10, name="BatchNorm1d in eval mode: the same")


def first_step(make_optimizer, model, x, y, weights):
    """How long the first step of an optimizer is."""
    with torch.no_grad():
        before = nn.utils.parameters_to_vector(model.parameters())
    gradient(model, x, y, SPLIT, weights=weights)
    make_optimizer(model.parameters(), lr=0.001).step()
    with torch.no_grad():
        length = (nn.utils.parameters_to_vector(model.parameters()) - before).norm()
        nn.utils.vector_to_parameters(before, model.parameters())
    return length


@claim(
    "pytorch-notes/accumulation-needs-loss-scaling",
    finding="Exactly four times: a division by 4 doesn't round. SGD's step is four times as long then. Adam's, as in "
    "the listing, is as long as with the division, within 1 %: it divides by the gradient's size.",
    controls=[override("divided after all", weights=evenly)],
    trials=5,
)
def test_without_dividing_the_gradient_is_four_times_as_large(trials, evidence, weights=undivided):
    def ratios(_):
        model, (x, y) = large_model(), (part.float() for part in samples())
        exact = torch.equal(gradient(model, x, y, SPLIT, weights=weights), 4 * gradient(model, x, y, SPLIT))
        longer = (
            first_step(kind, model, x, y, weights) / first_step(kind, model, x, y, evenly)
            for kind in (torch.optim.SGD, torch.optim.Adam)
        )
        return [exact, *longer]

    exact, sgd, adam = trials.map(ratios).T
    evidence.compare("length of the first step, undivided to divided", {"SGD": sgd, "Adam": adam})
    trials.always(exact == 1, name="four times, to the bit")
    trials.always(abs(sgd - 4) < 0.01, name="SGD: four times as far")
    trials.always(abs(adam - 1) < 0.01, name="Adam: as far")


def multiplied(value, steps):
    return value * steps


@claim(
    "pytorch-notes/accumulation-restores-original-loss",
    finding="To the bit for 2, 4, 8 ... batches, and else to the rounding of float32, 6e-8 of its value.",
    controls=[override("not multiplied back", restore=lambda value, steps: value)],
)
@given(
    outputs=tensors((8, 3), elements=st.floats(-100, 100, width=32)),
    steps=st.sampled_from([4, 3]) | st.integers(2, 64),
    restore=st.just(multiplied),
)
def test_multiplying_restores_the_loss(outputs, steps, restore):
    loss = mse_loss(outputs, torch.full_like(outputs, 0.5))
    restored, two_to_the_n = (restore((loss / divisor).item(), divisor) for divisor in (steps, 2 ** (steps % 7 + 1)))
    assert restored == pytest.approx(loss.item(), rel=6e-8)
    assert two_to_the_n == loss.item()


@claim(
    "pytorch-notes/accumulation-leftover-handled-correctly",
    verdict=CONDITIONAL,
    finding="None of it is lost, and none gets into the next epoch; each sample even counts as much as any other, "
    "1/32. But it is not what a loop over large batches does, which averages over those that are there: of r batches "
    "left it has r/4 of that gradient, in the listing (125 batches, so 1 left) a quarter. Divided by the number that "
    "are left, it is the same.",
    controls=[override("divided by the number left", last_divisor=len)],
)
@settings(max_examples=10)
@given(
    seed=st.integers(0, 2**32 - 1), left=st.just(1) | st.integers(1, 3), last_divisor=st.just(lambda sizes: len(SPLIT))
)
def test_the_leftover_gradient_is_a_quarter_for_each_batch_left(seed, left, last_divisor):
    def as_listed(sizes):
        return [1 / last_divisor(sizes) for _ in sizes]

    with seeded(seed):
        model, (x, y) = large_model().double(), samples(8 * left)
    sizes = [8] * left
    large, listed, repaired = (
        gradient(model, x, y, into, weights=how)
        for into, how in (([8 * left], evenly), (sizes, as_listed), (sizes, evenly))
    )
    torch.testing.assert_close(listed, left / 4 * large)
    torch.testing.assert_close(repaired, large)


@claim(
    "pytorch-notes/accumulation-large-model-is-linear",
    finding="Without activations in between it is one map Wx + b: 101,000 parameters for what 10,100 can do.",
    controls=[override("with ReLU in between", between=nn.ReLU)],
)
@settings(max_examples=10)
@given(seed=st.integers(0, 2**32 - 1), between=st.just(nn.Identity))
def test_ten_linear_layers_are_one(seed, between):
    with seeded(seed):
        model, x = large_model(between=between).double(), 10 * torch.randn(16, 100).double()
    one = nn.Linear(100, 100).double()
    with torch.no_grad():
        one.bias.copy_(model(torch.zeros(100).double()))
        one.weight.copy_((model(torch.eye(100).double()) - one.bias).mT)
    torch.testing.assert_close(model(x), one(x), rtol=1e-6, atol=1e-12)
    assert (number_of_parameters(model), number_of_parameters(one)) == (101_000, 10_100)


def backward_of_each(model, x, y, size):
    """As the listing does: the graph of a batch is gone before the next is made."""
    for inputs, targets in zip(x.split(size), y.split(size), strict=True):
        yield mse_loss(model(inputs), targets)


def backward_of_the_sum(model, x, y, size):
    """Add the losses up, and go backward once: all graphs are alive together."""
    batches = zip(x.split(size), y.split(size), strict=True)
    yield torch.stack([mse_loss(model(inputs), targets) for inputs, targets in batches]).mean()


def most_kept(model, x, y, size, passes=backward_of_each):
    """The most bytes that are kept for one backward pass, besides parameters and data."""
    existing, most = (x, y, *model.parameters()), []
    saved = []
    with saved_tensors_hooks(lambda tensor: saved.append(tensor) or tensor, lambda tensor: tensor):
        for loss in passes(model, x, y, size):
            most.append(allocated_bytes(*existing, *saved) - allocated_bytes(*existing))
            loss.backward()
            saved.clear()
    return max(most)


@claim(
    "pytorch-notes/accumulation-saves-activation-memory",
    finding="Exactly a quarter: 32 kB are kept for the backward pass instead of 128. The weights, 404 kB, their "
    "gradients and Adam's averages are as large either way.",
    controls=[override("one backward pass of the sum", passes=backward_of_the_sum)],
)
def test_a_batch_of_8_keeps_a_quarter_of_what_32_keep(evidence, passes=backward_of_each):
    model = large_model(between=nn.Identity)
    x, y = (part.float() for part in samples())
    kept = {size: most_kept(model, x, y, size, passes) for size in (8, 32)}
    evidence.table("kept for backward", [{"batch": size, "kB": value / 1000} for size, value in kept.items()])
    assert 4 * kept[8] == kept[32]
    assert sum(parameter.nbytes for parameter in model.parameters()) == 404_000
