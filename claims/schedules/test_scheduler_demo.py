"""Section 17.2: the demo of eight schedulers, each for a hundred epochs of SGD(lr=0.1) on Linear(10, 1)."""

import hypothesis.strategies as st
import numpy as np
import pytest
import torch
from hypothesis import example, given
from torch import nn
from torch.optim import SGD
from torch.optim.lr_scheduler import (
    CosineAnnealingLR,
    CyclicLR,
    LambdaLR,
    MultiStepLR,
    OneCycleLR,
    PolynomialLR,
    ReduceLROnPlateau,
    StepLR,
)

from fitcore.schedulers import learning_rates
from fitcore.testing import REFUTED, claim, error_of, override

EPOCHS = 100
NAMES = [
    "StepLR",
    "MultiStepLR",
    "ExponentialLR",
    "CosineAnnealingLR",
    "ReduceLROnPlateau",
    "CosineAnnealingWarmRestarts",
    "CyclicLR",
    "OneCycleLR",
]


def random_number(model):
    return torch.randn(1)


def random_leaf(model):
    return torch.randn(1, requires_grad=True)


def loss_of_the_model(model):
    return model(torch.randn(8, 10)).square().mean()


def history(model, make, loss_of):
    """The rates of the epochs, in each of which the loss is propagated back and both take a step."""
    optimizer, rates = SGD(model.parameters(), lr=0.1), []
    scheduler = make(optimizer)
    for _ in range(EPOCHS):
        rates.append(optimizer.param_groups[0]["lr"])
        optimizer.zero_grad()
        loss = loss_of(model)
        loss.backward()
        optimizer.step()
        scheduler.step(*[loss.item()] * isinstance(scheduler, ReduceLROnPlateau))
    return rates


@claim(
    "pytorch-notes/listing-scheduler-demo-runs",
    verdict=REFUTED,
    finding="It ends in the first epoch of the first scheduler: the loss, torch.randn(1), depends on no parameter, and "
    "backward() refuses it. With requires_grad=True the listing runs to the end, and shows its curves without training "
    "the model; a loss of the model's output trains it too.",
    controls=[override("requires_grad=True", loss_of=random_leaf)],
)
@pytest.mark.parametrize("name", NAMES)
def test_the_loss_of_the_demo_cannot_be_propagated_back(name, demo, loss_of=random_number):
    model = nn.Linear(10, 1)
    before = model.weight.detach().clone()
    error = error_of(history, model, demo[name], loss_of)
    assert isinstance(error, RuntimeError)
    assert "does not require grad" in str(error)
    assert len(history(model, demo[name], random_leaf)) == EPOCHS
    assert torch.equal(model.weight, before)
    assert error_of(history, model, demo[name], loss_of_the_model) is None
    assert not torch.equal(model.weight, before)


@claim(
    "pytorch-notes/demo-plots-nine-schedulers",
    verdict=REFUTED,
    finding="There are eight schedulers for nine panels; the last one stays empty.",
    controls=[override("one scheduler more", others={"PolynomialLR": lambda optimizer: PolynomialLR(optimizer, 100)})],
)
def test_one_of_nine_panels_stays_empty(demo, sgd, pyplot, others=()):
    schedulers = demo | dict(others)
    _, axes = pyplot.subplots(3, 3)
    for panel, (name, make) in zip(axes.ravel(), schedulers.items(), strict=False):
        losses = [1.0] * EPOCHS if name == "ReduceLROnPlateau" else None
        panel.plot(learning_rates(make(sgd(0.1)), EPOCHS, losses)[:, 0])
        panel.set_title(name)
    assert [panel.get_title() for panel in axes.ravel()] == [*NAMES, ""]
    assert [len(panel.lines) for panel in axes.ravel()] == [1] * 8 + [0]


def multiples(size, count):
    return [size * (index + 1) for index in range(count)]


def multiples_but_the_last(size, count):
    return [*multiples(size, count - 1), size * count - 1]


@claim(
    "pytorch-notes/multistep-same-curve-as-step",
    verdict=REFUTED,
    finding="The two panels show the same curve. The milestones are the multiples of 30 that the demo reaches; only "
    "from epoch 120 on, where StepLR divides a fourth time, do they differ.",
    controls=[override("a milestone one epoch earlier", milestones=multiples_but_the_last)],
)
@example(size=30, count=3, gamma=0.1, milestones=multiples)
@given(size=st.integers(2, 20), count=st.integers(1, 5), gamma=st.floats(0.1, 0.9), milestones=st.just(multiples))
def test_milestones_at_all_multiples_give_the_curve_of_steplr(sgd, size, count, gamma, milestones):
    end = (count + 1) * size
    steps = learning_rates(StepLR(sgd(0.1), size, gamma), end + 1)
    at_milestones = learning_rates(MultiStepLR(sgd(0.1), milestones(size, count), gamma), end + 1)
    assert torch.equal(steps[:end], at_milestones[:end])
    assert steps[end] < at_milestones[end]


def annealed(optimizer, epochs):
    return CosineAnnealingLR(optimizer, T_max=epochs)


def in_steps(optimizer, epochs):
    return StepLR(optimizer, step_size=max(1, epochs // 3))


@claim(
    "pytorch-notes/cosine-declines-smoothly",
    finding="Over the demo's 100 epochs, which T_max is set to, each rate is below the one before, by 0.0016 at most, "
    "where StepLR(30) falls by 0.09 at once. Beware of training for longer: the rate rises again as smoothly, and is "
    "back at 0.1 in epoch 200.",
    controls=[override("in steps", make=in_steps)],
)
@example(lr=0.1, epochs=EPOCHS, make=annealed)
@given(lr=st.floats(0.01, 1), epochs=st.integers(9, 100), make=st.just(annealed))
def test_the_cosine_falls_gently_to_t_max_and_rises_after(sgd, lr, epochs, make):
    changes = learning_rates(make(sgd(lr), epochs), 2 * epochs + 1)[:, 0].diff()
    falling, rising = changes[:epochs], changes[epochs:]
    assert (falling < 0).all()
    assert falling.abs().max() <= np.pi / (2 * epochs) * lr
    assert (rising > 0).all()
    assert changes.sum().item() == pytest.approx(0, abs=1e-10)
    assert learning_rates(StepLR(sgd(lr), 30), 31)[:, 0].diff().min().item() == pytest.approx(-0.9 * lr)


def momenta(scheduler, epochs=EPOCHS):
    """The momentum of each epoch."""
    seen = []
    for _ in range(epochs):
        seen.append(scheduler.optimizer.param_groups[0]["momentum"])
        scheduler.optimizer.step()
        scheduler.step()
    return seen


def way_of_two_updates(make):
    """How far the second of two updates under the gradient 1 goes, in units of the first one's rate."""
    weight = torch.zeros((), dtype=torch.float64, requires_grad=True)
    optimizer = SGD([weight], lr=0.1)
    if make is not None:
        make(optimizer)
    rate = optimizer.param_groups[0]["lr"]
    for _ in range(2):
        weight.grad = torch.ones_like(weight)
        before = weight.item()
        optimizer.step()
    return (before - weight.item()) / rate


@claim(
    "pytorch-notes/cyclic-turns-on-momentum",
    verdict=REFUTED,
    finding="By default CyclicLR cycles the momentum too, against the rate: the plain SGD of the demo has 0.9 from the "
    "start, 0.8 where the rate is highest. Only cycle_momentum=False leaves it without.",
    controls=[override("cycle_momentum=False", settings={"cycle_momentum": False})],
)
def test_cyclic_gives_plain_sgd_a_momentum(sgd, evidence, settings=()):
    def cyclic(optimizer, **settings):
        return CyclicLR(optimizer, 0.001, 0.1, step_size_up=20, **settings)

    seen = momenta(cyclic(sgd(0.1), **dict(settings)))
    evidence.curve("momentum", range(EPOCHS), {"CyclicLR": seen}, x_label="epoch")
    triangle = np.abs((np.arange(EPOCHS) / 20 + 1) % 2 - 1)
    assert seen == pytest.approx(0.9 - 0.1 * triangle)
    assert way_of_two_updates(lambda optimizer: cyclic(optimizer, **dict(settings))) == pytest.approx(1.9)
    assert way_of_two_updates(None) == pytest.approx(1.0)
    assert momenta(cyclic(sgd(0.1), cycle_momentum=False)) == [0] * EPOCHS


def one_cycle(optimizer, **settings):
    return OneCycleLR(optimizer, max_lr=0.1, total_steps=EPOCHS, **settings)


def left_alone(optimizer, **settings):
    return LambdaLR(optimizer, lambda _: 1.0)


@claim(
    "pytorch-notes/onecycle-overrides-lr-and-momentum",
    verdict=REFUTED,
    finding="Whatever the optimizer was given, it begins with max_lr / 25 = 0.004 and a momentum of 0.95, which falls "
    "to 0.85 where the rate is highest, in epoch 29, and rises back. cycle_momentum=False leaves the momentum; the "
    "rate is set in any case.",
    controls=[override("a scheduler that leaves both", make=left_alone)],
)
@given(lr=st.floats(0.01, 10), momentum=st.floats(0, 0.8), make=st.just(one_cycle))
def test_one_cycle_sets_rate_and_momentum_whatever_they_were(lr, momentum, make):
    def optimizer():
        return SGD([torch.zeros(1, requires_grad=True)], lr=lr, momentum=momentum)

    first, without = make(optimizer()), one_cycle(optimizer(), cycle_momentum=False)
    assert [scheduler.get_last_lr() for scheduler in (first, without)] == [pytest.approx([0.004])] * 2
    seen = momenta(first)
    assert [seen[epoch] for epoch in (0, 29, 99)] == pytest.approx([0.95, 0.85, 0.95])
    assert set(momenta(without)) == {momentum}


@claim(
    "pytorch-notes/onecycle-100-steps-limit",
    finding="The 101st raises a ValueError with both numbers. The demo makes 100, one more than the schedule has "
    "changes: after the hundredth the rate is not 4e-7 but 5e-5 and rising, and with "
    'anneal_strategy="linear" it is below zero, -0.0014. No epoch of the demo uses it.',
    controls=[override("made for one step more", margin=1)],
)
@example(total=EPOCHS, margin=0)
@given(total=st.integers(10, 150), margin=st.just(0))
def test_one_cycle_allows_as_many_steps_as_it_was_made_for(sgd, total, margin):
    scheduler = OneCycleLR(sgd(0.1), max_lr=0.1, total_steps=total + margin)
    line = OneCycleLR(sgd(0.1), max_lr=0.1, total_steps=total, anneal_strategy="linear")
    smallest, below = learning_rates(scheduler, total)[-1, 0], learning_rates(line, total)[-1, 0]
    error = error_of(scheduler.step)
    assert isinstance(error, ValueError)
    assert f"step {total + 1} times" in str(error)
    assert f"total steps is {total}" in str(error)
    assert smallest.item() == pytest.approx(4e-7)
    assert scheduler.get_last_lr()[0] > 50 * smallest
    assert line.get_last_lr()[0] < 0 < below
