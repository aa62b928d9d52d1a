import io
import warnings
from functools import partial

import hypothesis.strategies as st
import pytest
import torch
from hypothesis import given
from torch.optim import SGD, Adam
from torch.optim.lr_scheduler import (
    CosineAnnealingLR,
    CosineAnnealingWarmRestarts,
    CyclicLR,
    ExponentialLR,
    MultiStepLR,
    OneCycleLR,
    PolynomialLR,
    ReduceLROnPlateau,
    StepLR,
)

from fitcore.ensembles.least_squares import excess_losses
from fitcore.schedulers import (
    PolynomialDecayLR,
    WarmupCosineLR,
    cosine_annealing,
    cosine_warm_restarts,
    cyclic,
    exponential_decay,
    learning_rates,
    multi_step_decay,
    one_cycle,
    polynomial_decay,
    reduce_on_plateau,
    step_decay,
    warmup_cosine,
)

close = partial(torch.testing.assert_close, rtol=1e-9, atol=1e-12)
lrs = st.floats(1e-3, 10)
gammas = st.floats(0.1, 0.99)


def sgd(*lrs):
    return SGD([{"params": [torch.zeros(1, requires_grad=True)], "lr": lr} for lr in lrs], momentum=0.9)


def values(schedule, epochs):
    return [schedule(epoch) for epoch in range(epochs)]


small = st.floats(0, 1e-3)
TIMED = {
    "StepLR": (StepLR, step_decay, st.tuples(st.integers(1, 12), gammas)),
    "MultiStepLR": (MultiStepLR, multi_step_decay, st.tuples(st.lists(st.integers(0, 30), max_size=5), gammas)),
    "ExponentialLR": (ExponentialLR, exponential_decay, st.tuples(gammas)),
    "PolynomialLR": (PolynomialLR, polynomial_decay, st.tuples(st.integers(1, 30), st.floats(0.2, 3))),
    "CosineAnnealingLR": (CosineAnnealingLR, cosine_annealing, st.tuples(st.integers(1, 30), small)),
    "CosineAnnealingWarmRestarts": (
        CosineAnnealingWarmRestarts,
        cosine_warm_restarts,
        st.tuples(st.integers(1, 9), st.integers(1, 3), small),
    ),
    "WarmupCosineLR": (
        lambda optimizer, warmup, total, low, first: WarmupCosineLR(
            optimizer, warmup, total, min_lr=low, start_lr=first
        ),
        warmup_cosine,
        st.tuples(st.integers(0, 9), st.integers(10, 30), small, small),
    ),
    "PolynomialDecayLR": (
        lambda optimizer, total, power, low: PolynomialDecayLR(optimizer, total, power=power, min_lr=low),
        polynomial_decay,
        st.tuples(st.integers(1, 30), st.floats(0.2, 3), small),
    ),
}


@pytest.mark.parametrize("name", TIMED)
@given(data=st.data(), lrs=st.lists(lrs, min_size=1, max_size=3), epochs=st.integers(0, 50))
def test_closed_forms_are_what_schedulers_do_in_every_parameter_group(name, data, lrs, epochs):
    scheduler, form, settings = TIMED[name]
    drawn = data.draw(settings)
    rates = learning_rates(scheduler(sgd(*lrs), *drawn), epochs)
    expected = torch.tensor([values(form(lr, *drawn), epochs) for lr in lrs], dtype=torch.float64)
    close(rates, expected.T)


@pytest.mark.parametrize("name", TIMED)
@given(data=st.data(), lr=lrs, before=st.integers(0, 30))
def test_a_scheduler_goes_on_where_its_state_was_saved(name, data, lr, before):
    scheduler, form, settings = TIMED[name]
    drawn = data.draw(settings)
    optimizer = sgd(lr)
    first = scheduler(optimizer, *drawn)
    learning_rates(first, before)
    file = io.BytesIO()
    torch.save({"optimizer": optimizer.state_dict(), "scheduler": first.state_dict()}, file)
    file.seek(0)
    state = torch.load(file)
    optimizer = sgd(lr)
    again = scheduler(optimizer, *drawn)
    optimizer.load_state_dict(state["optimizer"])
    again.load_state_dict(state["scheduler"])
    close(learning_rates(again, 12)[:, 0].tolist(), values(form(lr, *drawn), before + 12)[before:])


@given(lr=lrs, t_0=st.integers(1, 9), t_mult=st.integers(1, 2), eighths=st.lists(st.integers(0, 400), max_size=5))
def test_warm_restarts_take_fractions_of_an_epoch(lr, t_0, t_mult, eighths):
    optimizer = sgd(lr)
    scheduler = CosineAnnealingWarmRestarts(optimizer, t_0, t_mult)
    for eighth in eighths:
        scheduler.step(eighth / 8)
        close(optimizer.param_groups[0]["lr"], cosine_warm_restarts(lr, t_0, t_mult)(eighth / 8))


@given(
    low=st.floats(0, 0.1),
    high=st.floats(0.2, 1),
    up=st.integers(1, 9),
    down=st.none() | st.integers(1, 9),
    mode=st.sampled_from(["triangular", "triangular2", "exp_range"]),
    gamma=gammas,
)
def test_cyclic_is_what_torch_does_in_every_mode(*, low, high, up, down, mode, gamma):
    form = cyclic(low, high, up, down=down, mode=mode, gamma=gamma)
    scheduler = CyclicLR(sgd(0.5), low, high, up, down, mode, gamma)
    close(learning_rates(scheduler, 50)[:, 0].tolist(), values(form, 50))


@given(
    high=lrs,
    total=st.integers(10, 60),
    pct_start=st.floats(0.21, 0.5),
    anneal=st.sampled_from(["cos", "linear"]),
    div_factor=st.floats(2, 100),
    final=st.floats(2, 1e5),
    three_phase=st.booleans(),
)
def test_one_cycle_is_what_torch_does_to_one_step_past_the_end(
    *, high, total, pct_start, anneal, div_factor, final, three_phase
):
    settings = {
        "pct_start": pct_start,
        "anneal_strategy": anneal,
        "div_factor": div_factor,
        "final_div_factor": final,
        "three_phase": three_phase,
    }
    scheduler = OneCycleLR(sgd(0.5), high, total, **settings)
    rates = learning_rates(scheduler, total)[:, 0].tolist()
    close([*rates, *scheduler.get_last_lr()], values(one_cycle(high, total, **settings), total + 1))


DEFAULTS = {
    "StepLR": (StepLR, step_decay, (3,)),
    "MultiStepLR": (MultiStepLR, multi_step_decay, ([2, 5],)),
    "PolynomialLR": (PolynomialLR, polynomial_decay, (7,)),
    "CosineAnnealingLR": (CosineAnnealingLR, cosine_annealing, (7,)),
    "CosineAnnealingWarmRestarts": (CosineAnnealingWarmRestarts, cosine_warm_restarts, (3,)),
    "OneCycleLR": (lambda optimizer, steps: OneCycleLR(optimizer, 0.5, steps), one_cycle, (9,)),
}


@pytest.mark.parametrize(("scheduler", "form", "settings"), DEFAULTS.values(), ids=DEFAULTS)
def test_what_is_not_given_is_as_in_torch(scheduler, form, settings):
    close(learning_rates(scheduler(sgd(0.5), *settings), 9)[:, 0].tolist(), values(form(0.5, *settings), 9))


def test_cycles_are_by_default_as_long_as_in_torch_and_never_damped():
    rates = learning_rates(CyclicLR(sgd(0.5), 0.1, 0.5, mode="exp_range"), 4100)[:, 0]
    close(rates.tolist(), values(cyclic(0.1, 0.5, mode="exp_range"), 4100))


@given(lr=lrs, total=st.integers(1, 30), power=st.floats(0.2, 3), low=small)
def test_a_smallest_rate_lifts_the_polynomial_of_torch(lr, total, power, low):
    rates = learning_rates(PolynomialLR(sgd(lr - low), total, power), total + 5)[:, 0]
    close(values(polynomial_decay(lr, total, power, low), total + 5), (low + rates).tolist())


@given(lr=lrs, warmup=st.integers(0, 9), annealing=st.integers(1, 20), low=small, first=small)
def test_after_a_straight_warm_up_comes_the_cosine_of_torch_and_its_end_stays(lr, warmup, annealing, low, first):
    line = [first + (lr - first) * epoch / warmup for epoch in range(warmup)]
    cosine = learning_rates(CosineAnnealingLR(sgd(lr), annealing, low), annealing)[:, 0].tolist()
    schedule = warmup_cosine(lr, warmup, warmup + annealing, low, first)
    close(values(schedule, warmup + annealing + 3), [*line, *cosine, low, low, low])


def test_by_default_a_warm_up_begins_at_zero_and_its_cosine_ends_there():
    assert values(warmup_cosine(0.5, 2, 4), 6) == [0.0, 0.25, 0.5, 0.25, 0.0, 0.0]


def test_by_default_polynomial_decay_is_that_of_deeplab_where_it_is_a_scheduler():
    close(learning_rates(PolynomialDecayLR(sgd(0.5), 9), 9)[:, 0].tolist(), values(polynomial_decay(0.5, 9, 0.9), 9))


def plateau_rates(losses, **settings):
    scheduler = ReduceLROnPlateau(sgd(0.5), **settings)
    return [*learning_rates(scheduler, len(losses), losses)[:, 0].tolist(), scheduler.get_last_lr()[0]]


WALK = (0.05 * torch.randint(-2, 2, (60,), generator=torch.Generator().manual_seed(0)).cumsum(0)).tolist()


@pytest.mark.parametrize(
    ("begins_with", "sign"), [([], 1), ([], -1), ([float("nan")] * 3, 1)], ids=["down", "up", "nan"]
)
@pytest.mark.parametrize("threshold", [0.0, 0.1])
@pytest.mark.parametrize("mode", ["rel", "abs"])
@pytest.mark.parametrize(("patience", "cooldown"), [(0, 0), (0, 2), (2, 1)])
@pytest.mark.parametrize("limits", [{"min_lr": 0.01}, {"eps": 0.125}])
def test_reduce_on_plateau_follows_torch_over_a_long_walk(
    *, begins_with, sign, threshold, mode, patience, cooldown, limits
):
    losses = [*begins_with, *(sign * loss for loss in WALK)]
    settings = {"factor": 0.5, "threshold": threshold, "threshold_mode": mode, **limits}
    settings |= {"patience": patience, "cooldown": cooldown}
    close(plateau_rates(losses, **settings), reduce_on_plateau(0.5, losses, **settings))


def test_reduce_on_plateau_has_the_defaults_of_torch():
    losses = [1 - 1e-7 * epoch for epoch in range(130)]
    close(plateau_rates(losses), reduce_on_plateau(0.5, losses))


@given(
    losses=st.lists(st.integers(-4, 4).map(float) | st.floats(-1, 1) | st.just(float("nan")), max_size=40),
    factor=st.floats(0.1, 0.9),
    patience=st.integers(0, 4),
    threshold=st.sampled_from([0.0, 1e-4, 0.1]),
    mode=st.sampled_from(["rel", "abs"]),
    cooldown=st.integers(0, 3),
    min_lr=st.sampled_from([0.0, 1e-3]),
    eps=st.sampled_from([1e-8, 1e-3]),
)
def test_reduce_on_plateau_is_what_torch_does(*, losses, factor, patience, threshold, mode, cooldown, min_lr, eps):
    settings = {
        "factor": factor,
        "patience": patience,
        "threshold": threshold,
        "threshold_mode": mode,
        "cooldown": cooldown,
        "min_lr": min_lr,
        "eps": eps,
    }
    close(plateau_rates(losses, **settings), reduce_on_plateau(0.5, losses, **settings))


def test_the_rates_are_read_without_a_warning_and_later_ones_are_heard():
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        before = list(warnings.filters)
        learning_rates(StepLR(sgd(0.5), 3), 5)
        assert warnings.filters == before


@pytest.mark.parametrize("scheduler", [partial(WarmupCosineLR, warmup_epochs=3), PolynomialDecayLR])
def test_a_rate_that_is_a_tensor_stays_one(scheduler):
    rate = torch.tensor(0.5, dtype=torch.float64)
    optimizer = Adam([torch.zeros(1, requires_grad=True)], lr=rate)
    plain = learning_rates(scheduler(sgd(0.5), total_epochs=9), 12)
    close(learning_rates(scheduler(optimizer, total_epochs=9), 12), plain)
    assert optimizer.param_groups[0]["lr"] is rate


@pytest.mark.parametrize("scheduler", [partial(WarmupCosineLR, warmup_epochs=3), PolynomialDecayLR])
def test_rates_are_plain_floats(scheduler):
    made = scheduler(sgd(0.5), total_epochs=9)
    for _ in range(12):
        made.optimizer.step()
        made.step()
        assert {type(rate) for rate in (*made.get_last_lr(), made.optimizer.param_groups[0]["lr"])} == {float}


@pytest.mark.parametrize(
    ("make", "says"),
    [
        (lambda: WarmupCosineLR(sgd(0.1), 0, 0), "total_epochs must be at least 1, got 0"),
        (lambda: WarmupCosineLR(sgd(0.1), 10, 10), "fewer than total_epochs, got 10 of 10"),
        (lambda: WarmupCosineLR(sgd(0.1), -1, 10), "none or more and fewer than total_epochs, got -1 of 10"),
        (lambda: WarmupCosineLR(sgd(0.1), 1, 10, min_lr=-0.1), "min_lr must lie between 0 and .* 0.1, got -0.1"),
        (lambda: WarmupCosineLR(sgd(1.0, 0.1), 1, 10, start_lr=0.2), "start_lr must lie between 0 and .* 0.1, got 0.2"),
        (lambda: PolynomialDecayLR(sgd(0.1), -5), "total_epochs must be at least 1, got -5"),
        (lambda: PolynomialDecayLR(sgd(0.1), 10, power=0.0), "power must be positive, got 0.0"),
        (lambda: PolynomialDecayLR(sgd(0.1), 10, min_lr=float("nan")), "min_lr must lie between 0 and .* 0.1, got nan"),
    ],
)
def test_settings_that_make_no_sense_are_refused(make, says):
    with pytest.raises(ValueError, match=says):
        make()


@pytest.mark.parametrize("batch_size", [None, 4])
def test_excess_losses_are_those_of_torch_sgd_under_a_scheduler(batch_size):
    x, y, epochs = torch.randn(2, 10, 3).double(), torch.randn(2, 10).double(), 6
    rates = torch.stack([learning_rates(StepLR(sgd(lr), 2), epochs)[:, 0] for lr in (0.1, 0.02)])
    with torch.random.fork_rng():
        excess = excess_losses(x, y, rates, batch_size)
    orders = [torch.rand(2, 10).argsort(1)[1] if batch_size else torch.arange(10) for _ in range(epochs)]
    best = (x[1] @ torch.linalg.lstsq(x[1], y[1, :, None]).solution)[:, 0]
    weights = torch.zeros(3, dtype=torch.float64, requires_grad=True)
    optimizer = SGD([weights], lr=0.02)
    scheduler = StepLR(optimizer, 2)
    for epoch, order in enumerate(orders):
        for rows in order.split(batch_size or 10):
            optimizer.zero_grad()
            (x[1, rows] @ weights - y[1, rows]).square().mean().backward()
            optimizer.step()
        scheduler.step()
        expected = (x[1] @ weights - y[1]).square().mean() - (best - y[1]).square().mean()
        close(excess[1, 1, epoch], expected.detach())
