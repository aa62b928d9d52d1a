"""Section 16.3: Adam's step, what it adapts and what it does not see."""

from functools import partial

import hypothesis.strategies as st
import torch
from hypothesis import given, settings
from torch.optim import SGD, Adam, RMSprop
from torch.testing import assert_close

from fitcore import optimizers
from fitcore.optimizers import descend, descend_with
from fitcore.testing import claim, override, replace
from fitcore.testing.strategies import tensors

STEPS = 5
rates = st.just(0.001) | st.floats(1e-4, 1)
QUICK = partial(Adam, betas=(0.9, 0.99))  # forgets squares in hundreds of steps, not in thousands
few = settings(max_examples=8)


def moves(optimizer, gradients, **options):
    """Updates of parameters that are given these gradients, one after the other."""
    start = torch.zeros_like(gradients[0])
    path = descend_with(lambda params: optimizer(params, **options), start, lambda _, t: gradients[t], len(gradients))
    return path.diff(dim=0)


@claim(
    "pytorch-notes/adam-is-momentum-plus-rmsprop-16-3",
    finding="Take one of the two away, and the other is left: with β₁ = 0 Adam's steps are RMSprop's, and with an eps "
    "that drowns the squares those of momentum, each but for a factor that makes up for averages that start at 0. "
    "RMSprop with its own option momentum is another rule: it adds up scaled gradients.",
    controls=[override("momentum in place of none", without_momentum=0.9), override("no momentum", momentum=0.0)],
)
@few
@given(
    gradients=tensors((STEPS, 2), torch.float64, st.integers(1, 9)),
    momentum=st.just(0.9),
    without_momentum=st.just(0.0),
)
def test_adam_is_left_with_rmsprop_or_with_momentum(gradients, momentum, without_momentum):
    gradients = gradients * torch.tensor([1.0, -1.0, 1.0, 1.0, -1.0], dtype=torch.float64)[:, None]
    t = torch.arange(1, STEPS + 1, dtype=torch.float64)[:, None]
    no_momentum = moves(Adam, gradients, lr=0.01, betas=(without_momentum, 0.99))
    assert_close(no_momentum, moves(RMSprop, gradients, lr=0.01, alpha=0.99) * (1 - 0.99**t).sqrt())
    no_squares = moves(Adam, gradients, lr=0.01 * 1e12, eps=1e12, betas=(momentum, 0.99))
    assert_close(no_squares, moves(SGD, gradients, lr=0.001, momentum=0.9) / (1 - 0.9**t))
    option, plain = (moves(RMSprop, gradients, lr=0.01, alpha=0.99, momentum=mu) for mu in (0.9, 0.0))
    assert_close(option[1:], 0.9 * option[:-1] + plain[1:])


def left_as_it_is(average, beta, t):
    """The average, too small as long as it remembers that it started at 0."""
    return average


@claim(
    "pytorch-notes/adam-update-formula",
    finding="Step by step to rounding, also with weight decay.",
    controls=[replace("fitcore.optimizers.unbiased", left_as_it_is, name="without bias correction")],
)
@few
@given(
    gradients=tensors((STEPS, 2), torch.float64, st.integers(1, 9) | st.floats(-9, -0.1)),
    lr=rates,
    betas=st.just((0.9, 0.999)) | st.tuples(st.floats(0, 0.99), st.floats(0.5, 0.999)),
    decay=st.just(0.0) | st.floats(0, 1),
)
def test_adam_takes_the_steps_of_its_formula(gradients, lr, betas, decay):
    rule = optimizers.Adam(lr=lr, betas=betas, weight_decay=decay)
    written_out = descend(rule, torch.zeros_like(gradients[0]), lambda _, t: gradients[t], STEPS)
    torchs = moves(Adam, gradients, lr=lr, betas=betas, weight_decay=decay)
    assert_close(torchs, written_out.diff(dim=0), rtol=1e-7, atol=1e-9)


@claim(
    "pytorch-notes/adam-step-size-about-lr",
    finding="Each of the first 30 steps, for gradients from 0.0001 to 100,000. It is half of lr where the gradient is "
    "as small as eps = 1e-8.",
    controls=[override("plain SGD", optimizer=SGD), override("RMSprop", optimizer=RMSprop)],
)
@few
@given(gradient=st.floats(1e-4, 1e5) | st.floats(-1e5, -1e-4), lr=rates, optimizer=st.just(Adam))
def test_under_a_constant_gradient_each_step_of_adam_is_the_learning_rate(gradient, lr, optimizer):
    constant = torch.full((30, 1), gradient, dtype=torch.float64)
    assert_close(moves(optimizer, constant, lr=lr), -lr * constant.sign(), rtol=1e-3, atol=0)
    tiny = torch.full((1, 1), 1e-8, dtype=torch.float64)
    assert_close(moves(Adam, tiny, lr=lr), torch.full_like(tiny, -lr / 2))


@claim(
    "pytorch-notes/adam-auto-adjusts-learning-rate",
    finding="Its effective rate, step over gradient, is lr / |gradient|: for gradients of 0.01, 1 and 100 it is 100, 1 "
    "and 0.01 times lr. It follows when they change: ten times smaller, they have ten times the rate after some 1,000 "
    "steps with β₂ = 0.99. The common factor lr stays yours to choose: doubled, it doubles every step.",
    controls=[override("plain SGD", optimizer=SGD)],
)
def test_adam_gives_each_parameter_its_own_rate(evidence, optimizer=QUICK):
    sizes = torch.tensor([0.01, 1.0, 100.0], dtype=torch.float64)
    gradients = torch.cat([sizes.expand(50, 3), 0.1 * sizes.expand(1000, 3)])
    taken = moves(optimizer, gradients, lr=0.01)
    effective = -taken / gradients / 0.01
    curves = {f"first gradient {size:g}": effective[:, i].log10() for i, size in enumerate(sizes)}
    evidence.curve("log10 of the effective rate over lr", range(1, 1051), curves, x_label="step")
    assert_close(effective[49], 1 / sizes, rtol=1e-3, atol=0)
    assert_close(effective[-1], 10 / sizes, rtol=1e-2, atol=0)
    assert_close(moves(optimizer, gradients[:20], lr=0.02), 2 * taken[:20])


@claim(
    "pytorch-notes/adam-invariant-to-loss-scale",
    finding="On a loss of log cosh, to 1e-5. Only what gradients are compared with sees the scale: where it makes them "
    "smaller than eps = 1e-8, Adam goes a tenth of the way, and with weight_decay=0.1 the paths part.",
    controls=[override("plain SGD", optimizer=SGD)],
)
@few
@given(
    start=tensors((3,), torch.float64, st.integers(1, 9) | st.integers(-9, -1)),
    scale=st.sampled_from([1e-3, 1e3]) | st.floats(1e-3, 1e3),
    optimizer=st.just(Adam),
)
def test_adam_takes_the_same_path_whatever_the_loss_is_multiplied_by(start, scale, optimizer):
    def path(scale, **options):
        make = lambda params: optimizer(params, lr=0.01, **options)  # noqa: E731
        return descend_with(make, start, lambda w, _: scale * w.tanh(), 20)

    assert_close(path(scale), path(1.0), rtol=0, atol=1e-5)
    assert (path(1e-9) - start)[-1].abs().max() < 0.2 * (path(1.0) - start)[-1].abs().min()
    assert (path(1e-3, weight_decay=0.1) - path(1e3, weight_decay=0.1)).abs().max() > 1e-4
