"""Every rule is held against ``torch.optim``, step by step in float64, over families of settings and gradients."""

import hypothesis.strategies as st
import pytest
import torch
from hypothesis import given, settings
from torch.testing import assert_close

from fitcore import optimizers
from fitcore.optimizers import Adam, Momentum, descend, descend_with
from fitcore.testing.strategies import shapes, tensors

STEPS = 6
rates = st.sampled_from([0.0, 1e-3, 0.1]) | st.floats(1e-4, 2)
decays = st.sampled_from([0.0, 0.01]) | st.floats(0, 1)
shares = st.sampled_from([0.0, 0.9]) | st.floats(0, 0.999)
epsilons = st.floats(1e-12, 0.1)
settled = {"lr": rates, "weight_decay": decays}
FAMILIES = {
    "SGD": ("SGD", {}, {}),
    "Momentum": ("SGD", {}, {"momentum": shares}),
    "Nesterov": ("SGD", {"nesterov": True}, {"momentum": st.floats(0.01, 0.999)}),
    "Adagrad": ("Adagrad", {}, {"eps": epsilons}),
    "RMSprop": ("RMSprop", {}, {"eps": epsilons, "alpha": shares, "momentum": shares}),
    "Adadelta": ("Adadelta", {}, {"eps": epsilons, "rho": shares}),
    "Adam": ("Adam", {}, {"eps": epsilons, "betas": st.tuples(shares, shares)}),
    "AdamW": ("AdamW", {}, {"eps": epsilons, "betas": st.tuples(shares, shares)}),
}


@st.composite
def series(draw):
    """Where to start, and the gradients of a few steps."""
    shape = draw(shapes(max_dims=2, max_side=3))
    whole, odd = (tensors((STEPS + 1, *shape), torch.float64, values) for values in (None, st.floats(-9, 9)))
    return draw(whole | odd).split([1, STEPS])


@pytest.mark.parametrize("name", FAMILIES)
@settings(max_examples=12)
@given(data=st.data(), given_series=series())
def test_a_rule_is_torchs_optimizer(name, data, given_series):
    (start,), gradients = given_series
    torchs, extra, drawn = FAMILIES[name]
    chosen = data.draw(st.fixed_dictionaries(settled | drawn))
    rule = getattr(optimizers, name)(**chosen)
    expected = descend_with(
        lambda params: getattr(torch.optim, torchs)(params, **chosen, **extra), start, lambda _, t: gradients[t], STEPS
    )
    assert_close(descend(rule, start, lambda _, t: gradients[t], STEPS), expected, rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("name", sorted(set(FAMILIES) - {"SGD", "Momentum", "Nesterov"}))
def test_defaults_are_torchs(name):
    rule, torchs = getattr(optimizers, name)(lr=1.0), getattr(torch.optim, name)([torch.zeros(1)], lr=1.0)
    shared = torchs.defaults.keys() & vars(rule).keys()
    assert {"lr", "weight_decay"} < shared
    assert {setting: vars(rule)[setting] for setting in shared} == {key: torchs.defaults[key] for key in shared}


@settings(max_examples=10)
@given(lrs=tensors((4,), torch.float64, st.floats(0.001, 0.9)))
def test_each_run_has_its_own_rate(lrs):
    together = descend(Momentum(lr=lrs), torch.ones(4, dtype=torch.float64), lambda w, _: w, 5)
    apart = [descend(Momentum(lr=lr.item()), torch.ones((), dtype=torch.float64), lambda w, _: w, 5) for lr in lrs]
    assert_close(together, torch.stack(apart, dim=1))


def test_a_rule_changes_nothing_that_it_is_given():
    params, gradient = torch.ones(2), torch.full((2,), 3.0)
    moved, state = Adam(lr=0.1)(params, gradient)
    again, later = Adam(lr=0.1)(moved, gradient, state)
    assert torch.equal(params, torch.ones(2))
    assert torch.equal(gradient, torch.full((2,), 3.0))
    assert_close(moved, torch.full((2,), 0.9))
    assert_close(again, torch.full((2,), 0.8))
    assert (state[0], later[0]) == (1, 2)


def test_no_steps_stay_at_the_start():
    start = torch.tensor([1.0, 2.0])
    assert torch.equal(descend(Adam(lr=0.1), start, lambda w, _: w, 0), start[None])


@pytest.mark.parametrize(
    ("name", "chosen", "message"),
    [
        ("SGD", {"lr": -0.1}, r"lr must not be negative, got -0.1"),
        ("SGD", {"lr": torch.tensor([0.1, -1.0])}, r"lr must not be negative"),
        ("SGD", {"lr": float("nan")}, r"lr must not be negative, got nan"),
        ("SGD", {"lr": 0.1, "weight_decay": -1.0}, r"weight_decay must not be negative, got -1.0"),
        ("Momentum", {"lr": 0.1, "momentum": 1.0}, r"momentum must be in \[0, 1\), got 1.0"),
        ("Nesterov", {"lr": 0.1, "momentum": -0.5}, r"momentum must be in \[0, 1\), got -0.5"),
        ("Adam", {"lr": 0.1, "betas": (0.9, 1.0)}, r"betas must be in \[0, 1\), got \(0.9, 1.0\)"),
        ("RMSprop", {"lr": 0.1, "alpha": 2}, r"alpha must be in \[0, 1\), got 2"),
        ("Adadelta", {"rho": 1.5}, r"rho must be in \[0, 1\), got 1.5"),
        ("Adagrad", {"lr": 0.1, "eps": -1e-9}, r"eps must not be negative, got -1e-09"),
    ],
)
def test_bad_settings_are_refused_by_name(name, chosen, message):
    with pytest.raises(ValueError, match=message):
        getattr(optimizers, name)(**chosen)
