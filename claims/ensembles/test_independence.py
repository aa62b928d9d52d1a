"""Copies keep to themselves: divergence, clipping, chunks; and the formulas that `fit` and the dynamics go by."""

from functools import partial

import hypothesis.strategies as st
import pytest
import torch
from hypothesis import example, given, settings
from torch import nn
from torch.testing import assert_close

from fitcore.ensembles import Ensemble, QuadraticDynamics, cross_entropies, fit, mean_squared_errors
from fitcore.ensembles.gradients import gradients_of
from fitcore.models import MLP
from fitcore.testing import claim, override, replace

COPIES, SAMPLES = 3, 6
SGD = partial(torch.optim.SGD, lr=0.1)
seeds = st.integers(0, 2**31)


def perceptron():
    return MLP([2, 5, 1]).double()


def normalised():
    return nn.Sequential(nn.Linear(2, 5), nn.BatchNorm1d(5), nn.ReLU(), nn.Linear(5, 1)).double()


def with_dropout():
    return nn.Sequential(nn.Linear(2, 5), nn.Dropout(0.5), nn.Linear(5, 1)).double()


def samples(seed, *features):
    """Numbers of every copy, (S, n, *features)."""
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(COPIES, SAMPLES, *features, generator=generator, dtype=torch.float64)


def ensemble_of(network, seed):
    return Ensemble(network, range(seed, seed + COPIES))


def coupled(predictions, targets):
    errors = mean_squared_errors(predictions, targets)
    return errors * errors.detach().mean().clamp(min=1.0)


@claim(
    "fitcore/diverging-copy-leaves-the-others",
    finding="Whatever a copy overflows to, the other copies end with the same bits as beside one that converges.",
    controls=[override("a loss that couples the copies", loss=coupled)],
)
@settings(max_examples=15)
@given(
    seed=seeds,
    wild=st.integers(0, COPIES - 1),
    network=st.sampled_from([perceptron, normalised]),
    max_norm=st.sampled_from([None, 1.0]),
    loss=st.just(mean_squared_errors),
)
def test_a_diverging_copy_leaves_every_bit_of_the_others(seed, wild, network, max_norm, loss):
    x, y = samples(seed, 2), samples(seed + 1, 1)
    scale, others = torch.ones_like(y), torch.arange(COPIES) != wild
    scale[wild] = 1e200
    calm, stormy = ensemble_of(network, seed), ensemble_of(network, seed)
    fit(calm, (x, y), epochs=5, optimizer=SGD, loss=loss, max_norm=max_norm)
    curves = fit(stormy, (x, scale * y), epochs=5, optimizer=SGD, loss=loss, max_norm=max_norm)
    assert torch.equal(curves.diverged, ~others)
    assert torch.equal(stormy.rows()[others], calm.rows()[others])


def norm_of_all_copies(ensemble):
    return ensemble.flat.grad.norm().expand(len(ensemble))


@claim(
    "fitcore/ensemble-clips-each-copy",
    finding="A step of SGD at rate 1 is as long as the copy's own gradient, or max_norm, whichever is less.",
    controls=[
        replace("fitcore.ensembles.per_copy.gradient_norms", norm_of_all_copies),
        override("without clipping", clip=lambda max_norm: None),
    ],
)
@settings(max_examples=15)
@given(
    seed=seeds,
    max_norm=st.floats(0.01, 1.0),
    network=st.sampled_from([perceptron, normalised]),
    clip=st.just(float),
)
def test_every_copy_is_clipped_by_its_own_norm(seed, max_norm, network, clip, evidence):
    x, y = samples(seed, 2), samples(seed + 1, 1) * torch.tensor([1e-3, 1.0, 1e3]).view(-1, 1, 1)
    free, clipped = ensemble_of(network, seed), ensemble_of(network, seed)
    start, unit = free.rows().detach().clone(), partial(torch.optim.SGD, lr=1.0)
    fit(free, (x, y), epochs=1, optimizer=unit)
    fit(clipped, (x, y), epochs=1, optimizer=unit, max_norm=clip(max_norm))
    gradients, steps = (start - free.rows().detach()), (start - clipped.rows().detach())
    shares = (max_norm / gradients.norm(dim=1, keepdim=True)).clamp(max=1.0)
    evidence.observe("share of the gradient left", shares)
    assert (steps.norm(dim=1) <= max_norm * (1 + 1e-9)).all()
    assert_close(steps, gradients * shares, rtol=2e-4, atol=1e-12)  # torch adds 1e-6 to the norm, and so does this


@claim(
    "fitcore/chunks-change-nothing",
    finding="Losses and parameters agree to 1e-10 in float64, with one copy a chunk or all. Dropout is the exception: "
    "masks are drawn a chunk at a time.",
    controls=[override("with dropout", network=with_dropout)],
)
@settings(max_examples=15)
@given(
    seed=seeds,
    chunk_size=st.integers(1, COPIES - 1),
    network=st.sampled_from([perceptron, normalised]),
    shared=st.booleans(),
)
def test_chunks_change_nothing_but_rounding(seed, chunk_size, network, shared):
    x, y = samples(seed, 2), samples(seed + 1, 1)
    whole, cut = ensemble_of(network, seed), ensemble_of(network, seed)
    data = (x[:1].expand(x.shape), y[:1].expand(y.shape)) if shared else (x, y)
    curves = fit(whole, data, epochs=5, optimizer=SGD, chunk_size=COPIES)
    of_cut = fit(cut, data, epochs=5, optimizer=SGD, chunk_size=chunk_size)
    assert_close(of_cut.losses, curves.losses, rtol=1e-10, atol=1e-10)
    assert_close(cut.rows(), whole.rows(), rtol=1e-10, atol=1e-10)


def slope_left_out(layer, g):
    return g


@claim(
    "fitcore/hand-derived-gradients-are-autograds",
    finding="To 1e-12 in float64, for perceptrons of up to three hidden layers with tanh, sigmoid or ReLU, under both "
    "losses.",
    controls=[
        replace("fitcore.gradients.backpropagation.Tanh.backward", slope_left_out),
        replace("fitcore.gradients.backpropagation.Sigmoid.backward", slope_left_out, name="without sigmoid's slope"),
    ],
)
@example(seed=0, hidden=[3], activation=nn.Tanh, loss=mean_squared_errors)
@example(seed=0, hidden=[3], activation=nn.Sigmoid, loss=mean_squared_errors)
@given(
    seed=seeds,
    hidden=st.lists(st.integers(1, 5), min_size=1, max_size=3),
    activation=st.sampled_from([nn.Tanh, nn.Sigmoid, nn.ReLU]),
    loss=st.sampled_from([mean_squared_errors, cross_entropies]),
)
def test_hand_derived_gradients_are_autograds(seed, hidden, activation, loss):
    x, scores = samples(seed, 2), samples(seed + 1, 3)
    targets = scores if loss is mean_squared_errors else scores.argmax(-1)
    ensemble = ensemble_of(lambda: MLP([2, *hidden, 3], activation).double(), seed)
    expected = loss(ensemble(x), targets)
    (autograds,) = torch.autograd.grad(expected.sum(), ensemble.flat)
    by_hand = gradients_of(ensemble, loss, x)
    losses = by_hand(*by_hand.arrange(x, targets))
    assert_close(losses, expected.detach(), rtol=1e-12, atol=1e-12)
    assert_close(ensemble.flat.grad, autograds, rtol=1e-12, atol=1e-12)


def without_momentum(dynamics, start, lr, steps, **_):
    return dynamics.losses(start, lr, steps)


@claim(
    "fitcore/exact-dynamics-equal-the-loop",
    finding="The losses of 40 epochs agree to a relative 1e-8, below and up to 1.5 times the stability limit.",
    controls=[override("without momentum", losses_of=without_momentum)],
)
@pytest.mark.parametrize("nesterov", [False, True])
@settings(max_examples=15)
@given(
    seed=seeds,
    share=st.floats(0.05, 1.5),
    momentum=st.floats(0.1, 0.95),
    losses_of=st.just(QuadraticDynamics.losses),
)
def test_exact_dynamics_are_the_loops_losses(nesterov, seed, share, momentum, losses_of):
    x, y = samples(seed, 3)[0], samples(seed + 1)[0]
    dynamics = QuadraticDynamics.from_regression(x, y)
    lr = share * float(dynamics.stability_limit(momentum, nesterov))
    weights, losses = torch.ones(3, dtype=torch.float64, requires_grad=True), []
    optimizer = torch.optim.SGD([weights], lr=lr, momentum=momentum, nesterov=nesterov)
    for _ in range(40):
        loss = (x @ weights - y).square().mean()
        losses.append(loss.detach())
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    exact = losses_of(dynamics, torch.ones(3, dtype=torch.float64), lr, range(40), momentum=momentum, nesterov=nesterov)
    assert_close(exact, torch.stack(losses), rtol=1e-8, atol=1e-9)
