"""Section 9.2.1: tanh, sigmoid, ReLU and softmax, their values, their slopes, and where they belong."""

import math
from functools import partial
from itertools import accumulate
from time import thread_time

import hypothesis.strategies as st
import pytest
import torch
from hypothesis import example, given
from torch import nn
from torch.nn import functional
from torch.testing import assert_close

from fitcore.evaluation.throughput import least_seconds
from fitcore.seeding import seeded
from fitcore.testing import CONDITIONAL, claim, override, replace
from fitcore.testing.strategies import FLOATING, dtypes, tensors

TRIALS = 40
BITS = {torch.float16: 11, torch.bfloat16: 8, torch.float32: 24, torch.float64: 53}  # of the significand

tanh, sigmoid, relu = torch.tanh, torch.sigmoid, torch.relu


def doubles(limit):
    return tensors(dtype=torch.float64, elements=st.floats(-limit, limit))


def slope(activation, x):
    """Derivative of an elementwise function, as autograd has it."""
    leaf = x.detach().requires_grad_()
    return torch.autograd.grad(activation(leaf).sum(), leaf)[0]


def steeper(x):
    """The tanh of LeCun et al., "Efficient BackProp" (1998), which maps ±1 to ±1."""
    return 1.7159 * tanh(2 / 3 * x)


def centred_sigmoid(x):
    return sigmoid(x) - 0.5


GRID = torch.linspace(-6, 6, 201, dtype=torch.float64)
magnitudes = tensors(dtype=st.sampled_from(FLOATING), elements=st.floats(0, 1000, width=16))
every_magnitude = [example(x=torch.linspace(0, 1000, 4001).to(dtype)) for dtype in FLOATING]


@claim(
    "pytorch-notes/tanh-range",
    finding="Of a real number it lies strictly between. Rounding makes it -1 or 1, in float32 from |x| = 9.01 on, in "
    "float64 from 19.06.",
    controls=[replace("torch.tanh", steeper)],
)
@every_magnitude[0]
@every_magnitude[1]
@given(x=magnitudes)
def test_tanh_stays_within_minus_one_and_one_and_reaches_both_by_rounding(x, evidence):
    evidence.curve("values", GRID, {"tanh": tanh(GRID), "sigmoid": sigmoid(GRID)}, x_label="x")
    values, rounded_from = torch.tanh(x), (BITS[x.dtype] + 2) * math.log(2) / 2
    assert (values.abs() <= 1).all()
    assert (values < 1)[x < 0.95 * rounded_from].all()
    assert (values == 1)[x > 1.05 * rounded_from].all()
    assert torch.equal(torch.tanh(-x), -values)


@claim(
    "pytorch-notes/sigmoid-range-open",
    finding="As a function of real numbers. In float32 σ(x) is rounded to exactly 1 from x = 17 on, though what it "
    "lacks to 1, σ(-x), is still above 0; and to 0 below -104 at the latest. In float64 that happens from 37 on and "
    "below -745.",
    controls=[replace("torch.sigmoid", functional.hardsigmoid)],
)
@every_magnitude[0]
@every_magnitude[1]
@given(x=magnitudes)
def test_sigmoid_lies_strictly_between_zero_and_one_until_it_is_rounded(x):
    values, complements, numbers = torch.sigmoid(x), torch.sigmoid(-x), torch.finfo(x.dtype)
    rounds, underflows = BITS[x.dtype] * math.log(2), -math.log(numbers.smallest_normal)
    assert (values < 1)[x < 0.95 * rounds].all()
    assert (values == 1)[x > 1.05 * (rounds + math.log(2))].all()
    assert (complements > 0)[x < 0.95 * underflows].all()
    assert (complements == 0)[x > 1.05 * (underflows + rounds)].all()


@claim(
    "pytorch-notes/tanh-zero-centred",
    finding="tanh(-x) is -tanh(x), to the bit; σ(-x) is 1 - σ(x), and nothing is negative.",
    controls=[replace("torch.tanh", sigmoid)],
)
@given(x=doubles(30))
def test_tanh_is_odd_and_sigmoid_symmetric_about_one_half(x):
    assert torch.equal(torch.tanh(-x), -torch.tanh(x))
    assert_close(torch.sigmoid(-x) + torch.sigmoid(x), torch.ones_like(x))
    assert (torch.sigmoid(x) > 0).all()


@claim(
    "pytorch-notes/tanh-zero-centred",
    finding="On standard-normal inputs the mean is 0, and 0.5 with sigmoid. It takes centred inputs: of inputs about 1 "
    "tanh's mean is 0.55.",
    controls=[replace("torch.tanh", sigmoid)],
    trials=TRIALS,
)
def test_the_outputs_of_tanh_have_mean_zero_for_centred_inputs(trials, evidence):
    x = torch.from_numpy(trials.map(lambda _: torch.randn(25_000)))
    means = {"tanh": torch.tanh(x).mean(1), "sigmoid": sigmoid(x).mean(1), "tanh(x + 1)": torch.tanh(x + 1).mean(1)}
    evidence.compare("mean output", means)
    trials.equivalent(0, means["tanh"], within=0.02, name="tanh: 0")
    trials.equivalent(0.5, means["sigmoid"], within=0.02, name="sigmoid: 0.5")
    trials.less(0.5, means["tanh(x + 1)"], name="tanh of inputs about 1: above 0.5")


@claim(
    "pytorch-notes/tanh-derivative-range",
    finding="1/cosh² x: exactly 1 at 0, and nowhere else more.",
    controls=[replace("torch.tanh", steeper)],
)
@given(x=doubles(1000))
def test_the_slope_of_tanh_is_one_at_zero_and_between_zero_and_one_elsewhere(x):
    slopes = slope(torch.tanh, x)
    assert ((slopes >= 0) & (slopes <= 1)).all()
    assert_close(slopes, 1 / torch.cosh(x).square(), rtol=1e-7, atol=1e-15)
    assert slope(torch.tanh, torch.zeros(())) == 1


@claim(
    "pytorch-notes/tanh-gradient-larger-than-sigmoid",
    verdict=CONDITIONAL,
    finding="Up to |x| = 1.663, where cosh(x/2) = (1 + √3)/2, and four times as large at its peak, 1 against 1/4. "
    "Farther out tanh saturates earlier: at 3 its slope is 0.010, and sigmoid's 0.045.",
    controls=[replace("torch.tanh", centred_sigmoid)],
)
@given(x=doubles(15))
def test_tanh_is_steeper_than_sigmoid_near_zero_and_flatter_beyond(x, evidence):
    functions = {"tanh": tanh, "sigmoid": sigmoid, "ReLU": relu}
    evidence.curve("slopes", GRID, {name: slope(function, GRID) for name, function in functions.items()}, x_label="x")
    is_steeper, crossing = slope(torch.tanh, x) > slope(torch.sigmoid, x), 2 * math.acosh((1 + math.sqrt(3)) / 2)
    assert is_steeper[x.abs() < crossing - 1e-6].all()
    assert not is_steeper[x.abs() > crossing + 1e-6].any()
    assert slope(torch.tanh, torch.zeros(())) == 4 * slope(torch.sigmoid, torch.zeros(())) == 1


@claim(
    "pytorch-notes/saturated-units-pass-on-no-gradient",
    finding="Less than 1 % beyond |x| = 3 with tanh and 4.6 with sigmoid; in float32 nothing at all beyond 10 and 18, "
    "where the output is rounded to the limit. (Sigmoid's lower end isn't: there the slope is 0 from -104 at the "
    "latest.)",
    controls=[replace("torch.tanh", functional.softsign), replace("torch.sigmoid", functional.softplus)],
)
@given(x=tensors(elements=st.floats(-200, 200, width=32)))
def test_far_from_zero_the_slopes_of_tanh_and_sigmoid_fall_to_exactly_zero(x):
    x = torch.cat([x.flatten(), torch.tensor([3.1, 4.7])])
    of_tanh, of_sigmoid = slope(torch.tanh, x), slope(torch.sigmoid, x)
    assert (of_tanh < 0.01)[x.abs() > 3].all()
    assert (of_sigmoid < 0.01)[x.abs() > 4.6].all()
    assert not of_tanh[x.abs() > 10].any()
    assert not of_sigmoid[(x > 18) | (x < -104)].any()


@claim("pytorch-notes/relu-is-max-0-x", controls=[override("leaky", activation=nn.LeakyReLU())])
@pytest.mark.parametrize("activation", [torch.relu, functional.relu, nn.ReLU()], ids=["torch", "functional", "nn"])
@given(x=tensors(dtype=dtypes(integer=False)))
def test_relu_is_the_maximum_of_zero_and_x_and_passes_the_gradient_where_x_is_positive(activation, x):
    x = torch.cat([x.flatten(), torch.tensor([-1, 0, 1], dtype=x.dtype)])
    assert torch.equal(activation(x), torch.maximum(torch.zeros_like(x), x))
    assert torch.equal(slope(activation, x), (x > 0).to(x.dtype))


@claim(
    "pytorch-notes/relu-cheaper-than-tanh",
    finding="By how much depends on the processor. In place, on one thread, tanh takes 3 times and sigmoid 4 times as "
    "long on a recent Xeon. Where the results need new memory, a million of them, to get it takes that Xeon as long as "
    "any of the three; another processor took 7 to 15 times as long for its tanh there, 2 to 5 times for its sigmoid.",
    controls=[replace("torch.relu_", functional.softplus)],
)
def test_relu_takes_less_time_than_tanh_and_sigmoid(evidence):
    def seconds(activations, numbers, calls=1):
        def repeated(activation):
            x = torch.linspace(-4, 4, numbers)
            return lambda: [activation(x) for _ in range(calls)]

        runs = {name: repeated(activation) for name, activation in activations.items()}
        return least_seconds(runs, rounds=9, clock=thread_time)

    in_place = seconds({"ReLU": torch.relu_, "tanh": torch.tanh_, "sigmoid": torch.sigmoid_}, 20_000, calls=50)
    anew = seconds({"ReLU": torch.relu, "tanh": torch.tanh, "sigmoid": torch.sigmoid}, 1_000_000)
    names = {"in place, 20,000 numbers": in_place, "into new memory, 1,000,000": anew}
    rows = [{"times ReLU's": name} | {f: s[f] / s["ReLU"] for f in ("tanh", "sigmoid")} for name, s in names.items()]
    evidence.table("time on one thread", rows)
    assert in_place["tanh"] > 1.5 * in_place["ReLU"]
    assert in_place["sigmoid"] > 1.5 * in_place["ReLU"]


@claim(
    "pytorch-notes/rnn-uses-tanh",
    finding="h = tanh(W x + b + U h' + c), step by step. The other choice is ReLU, by name.",
    controls=[override("ReLU", recurrent=partial(nn.RNN, nonlinearity="relu"))],
)
@given(
    sizes=st.tuples(*[st.integers(1, 4)] * 4),
    seed=st.integers(0, 2**32 - 1),
    recurrent=st.just(nn.RNN),
)
def test_a_recurrent_layer_applies_tanh_by_default(sizes, seed, recurrent):
    steps, batch, inputs, hidden = sizes
    with seeded(seed):
        layer, x = recurrent(inputs, hidden).double(), torch.randn(steps, batch, inputs).double()
    w, u, b, c = layer.parameters()
    start = torch.zeros(batch, hidden).double()
    states = accumulate(x, lambda state, row: torch.tanh(row @ w.T + b + state @ u.T + c), initial=start)
    assert_close(layer(x)[0], torch.stack(list(states)[1:]))
