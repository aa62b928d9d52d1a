"""Section 16.4: seven optimizers descend x⁴ - 3x³ + 2 from x = 5; its minimum is at 2.25, and at 0 it is flat."""

from functools import partial

import pytest
import torch
from matplotlib.figure import Figure
from torch import optim

from fitcore import optimizers
from fitcore.optimizers import descend, descend_with
from fitcore.testing import REFUTED, claim, error_of, override

MINIMUM = 2.25
STEPS = 100
ENTRIES = {
    "SGD": optim.SGD,
    "SGD+Momentum": partial(optim.SGD, momentum=0.9),
    "Adam": optim.Adam,
    "AdamW": partial(optim.AdamW, weight_decay=0.01),
    "RMSprop": optim.RMSprop,
    "Adagrad": optim.Adagrad,
    "Adadelta": optim.Adadelta,
}


def slope(x, _=None):
    return 4 * x**3 - 9 * x**2


def path(entry, start=5.0, lr=0.01, steps=STEPS):
    """x after 0, 1, ... steps, which nothing stops, in float32 as printed."""
    return descend_with(partial(entry, lr=lr), torch.tensor([start]), slope, steps)[:, 0]


def before_the_step(x):
    """What the listing tests: the gradient that the last step was made of, |f'| at x_0, x_1, ..."""
    return slope(x[:-1]).abs()


def after_the_step(x):
    """The gradient where the step has led to."""
    return slope(x[1:]).abs()


def stopped(x, gradient=before_the_step):
    """The path up to the first step whose gradient is below 1e-5."""
    small = (gradient(x) < 1e-5).nonzero()
    return x[: small[0, 0] + 2] if len(small) else x


@pytest.fixture
def race(shared):
    """Paths by the repaired listing's seven optimizers, which a small gradient stops."""

    def run(gradient=before_the_step):
        return {name: stopped(shared(path, entry), gradient) for name, entry in ENTRIES.items()}

    return run


def listing(momentum_entry):
    """The comparison as printed, but for what the table of optimizers has for momentum."""
    paths = {}
    for name, entry in (ENTRIES | {"SGD+Momentum": momentum_entry}).items():
        x = torch.tensor([5.0], requires_grad=True)
        optimizer = entry([x], lr=0.01)
        paths[name] = [x.item()]
        for _ in range(STEPS):
            optimizer.zero_grad()
            (x**4 - 3 * x**3 + 2).backward()
            optimizer.step()
            paths[name].append(x.item())
            if abs(x.grad.item()) < 1e-5:
                break
    axes = Figure().subplots(1, 2)
    for values in paths.values():
        axes[0].plot(values, [value**4 - 3 * value**3 + 2 for value in values], "o-")
    axes[1].bar(paths.keys(), [len(values) - 1 for values in paths.values()])
    return paths


def without_lr(params):
    return optim.SGD(params, lr=0.01, momentum=0.9)


def with_lr(params, lr):
    return optim.SGD(params, lr=lr, momentum=0.9)


@claim(
    "pytorch-notes/listing-optimizers-runs",
    verdict=REFUTED,
    finding="The entry for momentum is a function of params alone, but each entry is called with lr=0.01 too: a "
    "TypeError stops it after SGD's run, before anything is printed or drawn. With a second argument lr it runs, and "
    "2 optimizers of 7 stop within 100 steps, of which SGD alone is at the minimum.",
    controls=[override("an entry that takes lr", as_printed=with_lr)],
)
def test_the_entry_for_momentum_takes_no_learning_rate(race, evidence, as_printed=without_lr):
    error = error_of(listing, as_printed)
    assert isinstance(error, TypeError)
    assert "unexpected keyword argument 'lr'" in str(error)
    paths = listing(with_lr)
    rows = [{"optimizer": name, "x at the end": x[-1], "iterations": len(x) - 1} for name, x in paths.items()]
    evidence.table("what the repaired listing prints", rows)
    assert [name for name, x in paths.items() if len(x) <= STEPS] == ["SGD", "SGD+Momentum"]
    assert [name for name, x in paths.items() if abs(x[-1] - MINIMUM) < 0.1] == ["SGD"]
    assert [x[-1].item() for x in race().values()] == pytest.approx([x[-1] for x in paths.values()], abs=1e-3)


@claim(
    "pytorch-notes/sgd-lands-exactly-in-one-step",
    finding="The slope at 5 is 275, and 5 - 0.01 · 275 is 2.25 also in float32, to the bit. That is a coincidence of "
    "the numbers chosen: with 0.011, or from 4.5, the first step misses by 0.2 or more, and with 0.02 it ends at -0.5, "
    "from where SGD only creeps up to the flat point at 0.",
    controls=[override("Adam", optimizer=optim.Adam)],
)
def test_sgds_first_step_happens_to_end_at_the_minimum(evidence, optimizer=optim.SGD):
    x = path(optimizer)
    assert x[1] == MINIMUM
    assert slope(x[1]) == 0
    assert torch.equal(x[1:], torch.full((STEPS,), MINIMUM))
    others = torch.stack([path(optimizer, lr=0.009), path(optimizer, lr=0.011), path(optimizer, start=4.5)])
    assert (others[:, 1] - MINIMUM).abs().min() > 0.2
    assert -0.6 < path(optimizer, lr=0.02)[1:].min() < path(optimizer, lr=0.02)[1:].max() < 0
    rates = torch.linspace(0.001, 0.03, 146, dtype=torch.float64)
    ends = descend(optimizers.SGD(lr=rates), torch.full_like(rates, 5.0), slope, STEPS)
    evidence.curve("x of SGD", rates, {"after 1 step": ends[1], "after 100": ends[100]}, x_label="lr")


@claim(
    "pytorch-notes/repaired-listing-early-stop-means-converged",
    verdict=REFUTED,
    finding="Momentum stops after 2 iterations, at -0.225, where the slope is -0.50. The gradient tested is the one "
    "before the step, 0 at 2.25, but its momentum carries x on; let run, it settles at 2.25 after 113 steps. And from "
    "x = 0, which is no minimum, every optimizer stops at once.",
    controls=[override("the gradient after the step", gradient=after_the_step)],
)
def test_momentum_is_stopped_in_full_flight(race, evidence, gradient=before_the_step):
    paths = race(gradient)
    momentum, unstopped = paths["SGD+Momentum"], path(ENTRIES["SGD+Momentum"], steps=200)
    evidence.curve("x of SGD with momentum, let run", range(201), {"x": unstopped}, x_label="step")
    assert [name for name, x in paths.items() if len(x) - 1 < STEPS] == ["SGD", "SGD+Momentum"]
    assert paths["SGD"][-1] == MINIMUM
    assert len(momentum) - 1 == 2
    assert abs(momentum[-1] + 0.225) < 1e-4
    assert slope(momentum[-1]).abs() > 0.4
    assert (unstopped[113:] - MINIMUM).abs().max() < 0.01
    assert slope(torch.zeros(())) == 0
    assert {len(stopped(path(entry, start=0.0, steps=2), gradient)) - 1 for entry in ENTRIES.values()} == {1}


def iterations(entry):
    """What the chart shows."""
    return len(stopped(path(entry))) - 1


def steps_to_converge(entry):
    """The step from which x stays within 0.01 of the minimum, 701 if there is none before."""
    return int(((path(entry, steps=700) - MINIMUM).abs() >= 0.01).nonzero()[-1]) + 1


@claim(
    "pytorch-notes/iterations-bar-chart-ranks-convergence-speed",
    verdict=REFUTED,
    finding="Two bars are 2, and five are 100, the limit. Of the seven only SGD has converged: momentum, its equal in "
    "the chart, needs 113 steps to stay within 0.01, and RMSprop, the best of the other five, 594. Of the 2.75 to go "
    "the five equals are still 1.24 (RMSprop) to 2.75 (Adadelta) away.",
    controls=[override("bars of the steps to the minimum", bar=steps_to_converge)],
)
def test_the_bars_count_iterations_and_not_convergence(race, shared, evidence, bar=iterations):
    bars = {name: shared(bar, entry) for name, entry in ENTRIES.items()}
    left = {name: abs(x[-1].item() - MINIMUM) for name, x in race().items()}
    evidence.table("the bars", [{"optimizer": name, "bar": bars[name], "distance left": left[name]} for name in bars])
    assert list(bars.values()) == [2, 2, *[STEPS] * 5]
    assert [name for name in left if left[name] < 1] == ["SGD"]
    assert left["RMSprop"] + 0.5 < min(left["Adam"], left["AdamW"]) < max(left.values()) - 0.5
    needed = [shared(steps_to_converge, entry) for entry in ENTRIES.values()]
    assert needed == pytest.approx([1, 113, 701, 701, 594, 701, 701], abs=3)


RULES = {
    "SGD": optimizers.SGD,
    "SGD+Momentum": optimizers.Momentum,
    "Adam": optimizers.Adam,
    "AdamW": optimizers.AdamW,
    "RMSprop": optimizers.RMSprop,
    "Adagrad": optimizers.Adagrad,
    "Adadelta": optimizers.Adadelta,
}
OWN_RATES = {"RMSprop": 0.1, "Adagrad": 1.0, "Adadelta": 50.0}


def distances(lr, start=5.0):
    """Distance from the minimum after 100 steps of each rule, for many rates or many starts; 10 where it is more."""
    x = torch.as_tensor(start, dtype=torch.float64) + 0 * lr
    ends = {name: descend(rule(lr=lr), x, slope, STEPS)[-1] for name, rule in RULES.items()}
    return {name: (end - MINIMUM).abs().nan_to_num(nan=10).clamp(max=10) for name, end in ends.items()}


@claim(
    "pytorch-notes/iterations-bar-chart-ranks-convergence-speed",
    verdict=REFUTED,
    finding="The chart compares them all at one rate, 0.01, which suits SGD from this start: within 100 steps RMSprop "
    "arrives too with 0.1, Adagrad with 1 and Adadelta, whose default is 1, with 50; and SGD, the winner, diverges "
    "with 0.1.",
    controls=[override("one rate for all", rates=dict.fromkeys(OWN_RATES, 0.01))],
)
def test_at_rates_of_their_own_others_arrive_too(evidence, rates=OWN_RATES):
    grid = torch.logspace(-4, 3, 71, dtype=torch.float64)
    evidence.curve("distance from the minimum after 100 steps", grid.log10(), distances(grid), x_label="log10 of lr")
    starts = torch.linspace(-2, 6, 81, dtype=torch.float64)
    common = distances(torch.tensor(0.01), starts)
    evidence.curve("the same with lr = 0.01, after the start", starts, common, x_label="start")
    own = distances(torch.tensor([*rates.values(), 0.1], dtype=torch.float64))
    assert max(own[name][i] for i, name in enumerate(rates)) < 0.01
    assert own["SGD"][-1] == 10


@claim(
    "pytorch-notes/adam-unconverged-after-100-steps",
    finding="No step is longer than lr, so that it goes 1.0 of the 2.75 at most; after 100 it is at 4.13. At ten times "
    "the rate it passes the minimum on the way, and is within 0.2 of it after 100.",
    controls=[override("ten times the rate", lr=0.1)],
)
def test_adam_can_not_come_so_far_in_100_steps(evidence, lr=0.01):
    x, larger = path(optim.Adam, lr=lr), path(optim.Adam, lr=0.1)
    evidence.curve("x", range(STEPS + 1), {f"lr = {lr}": x, "lr = 0.1": larger}, x_label="step")
    assert x.diff().abs().max() < lr * 1.001
    assert x.min() > 4
    assert larger.min() < MINIMUM
    assert (larger[-1] - MINIMUM).abs() < 0.2
