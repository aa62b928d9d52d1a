"""Section 16.2: what momentum does to the steps, to local minima and to noise."""

from functools import partial

import hypothesis.strategies as st
import torch
from hypothesis import given, settings
from torch.testing import assert_close

from fitcore.optimizers import Momentum, descend, descend_with
from fitcore.testing import CONDITIONAL, REFUTED, claim, override

sizes = st.floats(-100, -0.01) | st.floats(0.01, 100)


def sgd(lr, momentum=0.0, **options):
    return partial(torch.optim.SGD, lr=lr, momentum=momentum, **options)


def double(value):
    return torch.tensor(value, dtype=torch.float64)


@claim(
    "pytorch-notes/momentum-step-grows-to-ten-times",
    finding="With any momentum μ step t is 1 - μᵗ over 1 - μ times the plain one.",
    controls=[override("a weighted mean of the gradients in place of their sum", options={"dampening": 0.9})],
)
@settings(max_examples=10)
@given(
    gradient=sizes,
    lr=st.just(0.01) | st.floats(1e-4, 1),
    momentum=st.just(0.9) | st.floats(0.1, 0.99),
    options=st.just({}),
)
def test_under_a_constant_gradient_steps_grow_towards_the_sum_of_a_series(gradient, lr, momentum, options):
    moves = descend_with(sgd(lr, momentum, **options), double(0.0), lambda *_: double(gradient), 30).diff()
    t = torch.arange(1, 31, dtype=torch.float64)
    assert_close(moves, -lr * gradient * (1 - momentum**t) / (1 - momentum), rtol=1e-9, atol=1e-9)


@claim(
    "pytorch-notes/momentum-rolls-faster-and-faster",
    verdict=CONDITIONAL,
    finding="As long as the slope keeps its direction, and up to a limit of ten times the plain step: step 7 has half "
    "of that, and step 44 99 %. It is a ball in syrup. In a bowl the steps shrink again before the bottom is reached.",
    controls=[override("no momentum", momentum=0.0)],
)
def test_steps_grow_up_to_ten_times_the_plain_step(evidence, momentum=0.9):
    down_a_slope = descend_with(sgd(0.01, momentum), double(0.0), lambda *_: double(1.0), 200).diff().abs()
    in_a_bowl = descend_with(sgd(0.01, momentum), double(1.0), lambda w, _: w, 200)
    series = {"constant slope": down_a_slope / 0.01, "bowl": in_a_bowl.diff().abs() / 0.01}
    evidence.curve("size of a step, in plain first steps", range(1, 201), series, x_label="step")
    assert (down_a_slope.diff()[:100] > 0).all()
    assert down_a_slope[6] > 0.05
    assert_close(down_a_slope[43], double(0.099), rtol=1e-3, atol=0)
    assert_close(down_a_slope[99:], torch.full((101,), 0.1, dtype=torch.float64), rtol=1e-4, atol=0)
    fastest = in_a_bowl.diff().abs().argmax()
    assert 0.3 < in_a_bowl[fastest] < 0.9


def two_valleys(tilt):
    """Slope of (x² - 1)² + tilt · x, with a good minimum near -1 and for tilt > 0 a poorer one near 1."""
    return lambda x, _: 4 * x * (x.square() - 1) + tilt


@claim(
    "pytorch-notes/momentum-escapes-local-minimum",
    finding="On (x² - 1)² + c x, with c from 0.1 to 0.5 and lr 0.01, SGD from x = 2 is caught in the poorer minimum "
    "near 1, and momentum 0.9 rolls on into the better one. It must arrive with speed: from 1.2 it is caught too. And "
    "it does not know good from bad: from -2 it leaves the better minimum for the poorer one, unlike SGD.",
    controls=[override("no momentum", momentum=0.0)],
)
@settings(max_examples=4)
@given(tilt=st.floats(0.1, 0.5), momentum=st.just(0.9))
def test_momentum_leaves_the_valley_that_it_enters_fast_be_it_good_or_bad(tilt, momentum, evidence):
    starts = torch.tensor([1.2, 2.0, -2.0], dtype=torch.float64)
    plain, rolling = (
        descend(Momentum(lr=0.01, momentum=mu), starts, two_valleys(tilt), 400)[-1] for mu in (0, momentum)
    )
    assert (plain.sign() == starts.sign()).all()
    assert (rolling.sign() == torch.tensor([1, -1, 1])).all()
    assert two_valleys(tilt)(torch.stack([plain, rolling]), 0).abs().max() < 1e-3
    x = torch.linspace(-2.5, 2.5, 201, dtype=torch.float64)
    ends = {f"momentum {mu}": descend(Momentum(lr=0.01, momentum=mu), x, two_valleys(0.3), 400)[-1] for mu in (0, 0.9)}
    evidence.curve("where a descent on (x² - 1)² + 0.3 x ends, after its start", x, ends, x_label="start")


@claim(
    "pytorch-notes/momentum-passes-inflection-of-quartic",
    finding="Momentum passes x = 0 at step 5 and is within 0.01 of 2.25 after 100. SGD can't pass it: there x becomes "
    "x + 0.09 x² (1 - 4x/9), which has the sign of x. After 100 steps it is at -0.09, and after 400 at -0.026.",
    controls=[override("no momentum", momentum=0.0)],
)
def test_momentum_passes_the_inflection_at_which_sgd_stays(evidence, momentum=0.9):
    start = torch.tensor([-1.0])
    plain, rolling = (
        descend_with(sgd(0.01, mu), start, lambda x, _: 4 * x**3 - 9 * x**2, 400)[:, 0] for mu in (0.0, momentum)
    )
    evidence.curve("x", range(401), {"SGD": plain, f"momentum {momentum}": rolling}, x_label="step")
    assert (plain < 0).all()
    assert_close(plain[[100, 400]], torch.tensor([-0.0896, -0.0258]), rtol=0, atol=1e-3)
    assert rolling[4] < 0
    assert (rolling[5:] > 0).all()
    assert (rolling[100:] - 2.25).abs().max() < 0.01


@claim(
    "pytorch-notes/momentum-less-jitter-same-lr",
    verdict=REFUTED,
    finding="It makes it ten times as large: the variance is about 0.050 with momentum 0.9 and 0.005 without, as the "
    "theory of linear filters has it. A tenth of the rate, with which momentum takes the same way on average, gives "
    "0.005 again: at equal speed the noise is the same.",
    controls=[override("no momentum", momentum=0.0)],
)
def test_momentum_at_the_same_rate_makes_noise_ten_times_as_large(trials, evidence, momentum=0.9):
    noise = torch.from_numpy(trials.map(lambda _: torch.randn(2000, dtype=torch.float64))).T
    lr, mu = torch.tensor([[0.01, 0.01, 0.001], [0.0, momentum, 0.9]], dtype=torch.float64)[..., None]
    start = torch.zeros_like(noise[0]).expand(3, -1)
    path = descend(Momentum(lr=lr, momentum=mu), start, lambda w, t: w + noise[t], len(noise))
    plain, rolling, slower = path[500:].square().mean(0)
    evidence.compare("variance of w", {"SGD": plain, "with momentum": rolling, "and a tenth of lr": slower})
    trials.less(5 * plain, rolling, name="more than five times the variance")
    trials.equivalent(plain.log(), slower.log(), within=0.2, name="the same with a tenth of the rate")
    assert abs(plain.mean() / (0.01 / 1.99) - 1) < 0.4
    assert abs(rolling.mean() / (1.9 * 0.01 / (0.1 * 3.79)) - 1) < 0.25
