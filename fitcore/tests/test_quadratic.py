import hypothesis.strategies as st
import mpmath
import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis.extra.numpy import arrays
from torch.optim.lr_scheduler import ConstantLR, MultiStepLR, StepLR
from torch.testing import assert_close

from fitcore.ensembles import QuadraticDynamics
from fitcore.models.polynomial import legendre_features

X = torch.linspace(-5, 5, 40, dtype=torch.float64)
Y = X**3 / 10 - X + torch.sin(3 * X)
POWERS = torch.arange(1, 11)
RAW = X[:, None] ** POWERS
HEAVY_BALL, NESTEROV = {"momentum": 0.9}, {"momentum": 0.9, "nesterov": True}


def tensors(*shape):
    return arrays(np.float64, shape, elements=st.integers(-20, 20).map(lambda k: k / 4)).map(torch.from_numpy)


@st.composite
def regressions(draw, batches=((), (2,), (2, 3))):
    """Features, targets and a start, with fewer or more samples than parameters."""
    batch, n, p = draw(st.sampled_from(batches)), draw(st.integers(1, 6)), draw(st.integers(1, 4))
    return draw(tensors(*batch, n, p)), draw(tensors(*batch, n)), draw(tensors(*batch, p))


def loss(features, targets, l2, params):
    residuals = (features @ params[..., None]).squeeze(-1) - targets
    return residuals.square().mean(-1) + l2 * params.square().sum(-1)


def loop(problem, l2, lr, steps):
    """Losses and parameters before each of ``steps`` updates and after the last, by taking them."""
    features, targets, start = problem
    params, losses, path = start.clone().requires_grad_(), [], []
    for _ in range(steps + 1):
        value = loss(features, targets, l2, params)
        losses.append(value.detach())
        path.append(params.detach().clone())
        (slope,) = torch.autograd.grad(value.sum(), params)
        with torch.no_grad():
            params -= lr[..., None] * slope
    return torch.stack(losses, -1), torch.stack(path, -2)


def sgd(problem, rates, **options):
    """Errors and parameters of ``torch.optim.SGD`` before each update, one at each of ``rates``, and after the last."""
    features, targets, start = problem
    params = start.clone().requires_grad_()
    optimizer = torch.optim.SGD([params], **options)
    losses, path = [], []
    for rate in [*rates, 0.0]:
        value = loss(features, targets, 0.0, params)
        losses.append(value.detach())
        path.append(params.detach().clone())
        optimizer.zero_grad()
        value.backward()
        optimizer.param_groups[0]["lr"] = float(rate)
        optimizer.step()
    return torch.stack(losses), torch.stack(path)


def in_fifty_digits(problem, l2, lr, steps, *, momentum, nesterov=False):
    """Losses and parameters before each of ``steps`` updates and after the last."""
    features, targets, start = (mpmath.matrix(tensor.tolist()) for tensor in problem)
    n, p = features.rows, features.cols
    hessian = 2 * (features.T * features) / n + 2 * mpmath.mpf(l2) * mpmath.eye(p)
    slope, constant = 2 * (features.T * targets) / n, (targets.T * targets)[0] / n
    params, buffer, losses, path = start, mpmath.zeros(p, 1), [], []
    for _ in range(steps + 1):
        losses.append(float((params.T * hessian * params)[0] / 2 - (slope.T * params)[0] + constant))
        path.append([float(entry) for entry in params])
        gradient = hessian * params - slope
        buffer = mpmath.mpf(momentum) * buffer + gradient
        params = params - mpmath.mpf(lr) * (gradient + mpmath.mpf(momentum) * buffer if nesterov else buffer)
    return torch.tensor(losses, dtype=torch.float64), torch.tensor(path, dtype=torch.float64)


def assert_same_course(actual, expected, rtol=1e-10):
    """Equal at each step within ``rtol`` of the largest so far: of that, rounding keeps a trace."""
    size = expected.reshape(len(expected), -1).norm(dim=1).cummax(0).values
    assert ((actual - expected).reshape(len(expected), -1).norm(dim=1) <= rtol * (1 + size)).all()


settings_of_sgd = st.fixed_dictionaries(
    {"momentum": st.sampled_from([0.0, 0.5, 0.9, 0.99]), "nesterov": st.booleans()}
).filter(lambda options: options["momentum"] > 0 or not options["nesterov"])


@given(
    problem=regressions(batches=[()]),
    weight_decay=st.sampled_from([0.0, 0.01, 1.0]),
    options=settings_of_sgd,
    pieces=st.lists(st.tuples(st.floats(0, 1.02), st.integers(0, 10)), min_size=1, max_size=4),
)
def test_equals_torch_sgd_step_by_step_whatever_the_schedule(problem, weight_decay, options, pieces):
    features, targets, start = problem
    dynamics = QuadraticDynamics.from_regression(features, targets, l2=weight_decay / 2)
    limit = dynamics.stability_limit(**options).clamp(max=1.0)
    schedule = [(share * limit, updates) for share, updates in pieces]
    rates = [rate for rate, updates in schedule for _ in range(updates)]
    losses, path = sgd(problem, rates, weight_decay=weight_decay, **options)

    exact = dynamics.parameters(start, schedule, range(len(rates) + 1), **options)
    penalised = losses + weight_decay / 2 * path.square().sum(1)
    assert_same_course(exact, path)
    assert_same_course(dynamics.losses(start, schedule, range(len(rates) + 1), **options), penalised)
    assert_same_course(QuadraticDynamics.from_regression(features, targets).loss(exact), losses)


@pytest.mark.parametrize("options", [{}, HEAVY_BALL, NESTEROV], ids=["plain", "heavy ball", "Nesterov"])
@pytest.mark.parametrize(
    ("scheduler", "schedule"),
    [
        (
            lambda optimizer: StepLR(optimizer, step_size=30, gamma=0.1),
            [(0.1, 30), (0.01, 30), (0.001, 30), (0.0001, 10)],
        ),
        (lambda optimizer: MultiStepLR(optimizer, [10, 90], gamma=0.5), [(0.1, 10), (0.05, 80), (0.025, 10)]),
        (lambda optimizer: ConstantLR(optimizer, factor=0.5, total_iters=7), [(0.05, 7), (0.1, 93)]),
    ],
    ids=["StepLR", "MultiStepLR", "ConstantLR"],
)
def test_piecewise_constant_schedulers_are_schedules(scheduler, schedule, options):
    dummy = torch.optim.SGD([torch.zeros(1)], lr=0.1)
    rule, rates = scheduler(dummy), []
    for _ in range(100):
        rates += rule.get_last_lr()
        dummy.step()
        rule.step()
    problem = legendre_features(X, 5, -5, 5), Y, torch.ones(6, dtype=torch.float64)
    losses, path = sgd(problem, rates, **options)
    dynamics = QuadraticDynamics.from_regression(*problem[:2])
    assert_close(dynamics.losses(problem[2], schedule, range(101), **options), losses, rtol=1e-10, atol=0)
    assert_close(dynamics.parameters(problem[2], schedule, range(101), **options), path, rtol=1e-10, atol=1e-12)


@pytest.mark.parametrize("momentum", [0.0, 0.5, 0.9, 0.99])
@pytest.mark.parametrize("nesterov", [False, True])
@pytest.mark.parametrize("l2", [0.0, 0.1])
def test_the_stability_limit_parts_decay_from_growth(momentum, nesterov, l2):
    dynamics = QuadraticDynamics.from_regression(legendre_features(X, 5, -5, 5), Y, l2)
    limit, options = dynamics.stability_limit(momentum, nesterov), {"momentum": momentum, "nesterov": nesterov}
    start = dynamics.minimiser + dynamics.eigenvectors[:, 0]
    below, at, above = (
        (dynamics.losses(start, share * limit, [0, 10_000, 20_000], **options) - dynamics.minimum).tolist()
        for share in (0.99, 1.0, 1.01)
    )
    assert below[0] > 1e6 * below[1]
    assert at[1] == pytest.approx(at[2], rel=1e-6)
    assert above[1] > 1e6 * above[0]


@pytest.mark.parametrize("options", [{}, HEAVY_BALL, NESTEROV], ids=["plain", "heavy ball", "Nesterov"])
def test_shared_features_rates_and_penalties_broadcast(options):
    """Three problems in one call are the three alone, whether they share their features or not."""
    targets, start = torch.stack([Y, Y.sin(), Y.flip(0)]), torch.eye(3, 6, dtype=torch.float64)
    features, l2, lr = legendre_features(X, 5, -5, 5), torch.tensor([0.0, 0.1, 1.0]), torch.tensor([0.1, 0.2, 0.3])
    schedule, steps = [(lr, 5), (0.01, 50)], [0, 1, 5, 6, 50]
    alone = [
        QuadraticDynamics.from_regression(features, targets[copy], l2[copy])
        .parameters(start[copy], [(lr[copy], 5), (0.01, 50)], steps, **options)
        for copy in range(3)
    ]  # fmt: skip
    for design in (features, features.expand(3, -1, -1)):
        together = QuadraticDynamics.from_regression(design, targets, l2)
        path = together.parameters(start, schedule, steps, **options)
        assert_close(path, torch.stack(alone), rtol=1e-12, atol=1e-12)
        assert_close(together.losses(start, schedule, steps, **options), together.loss(path), rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize(
    "features", [RAW, (X[:, None] / 5) ** POWERS, legendre_features(X, 10, -5, 5)], ids=["raw", "scaled", "Legendre"]
)
@pytest.mark.parametrize("options", [HEAVY_BALL, NESTEROV], ids=["heavy ball", "Nesterov"])
@pytest.mark.parametrize("l2", [0.0, 0.01])
def test_degree_ten_is_right_to_ten_digits(features, options, l2):
    """Against fifty digits, up to a condition number of the Hessian of 1e13 with raw powers on [-5, 5]."""
    start = torch.linspace(-0.1, 0.1, features.shape[1], dtype=torch.float64)
    dynamics = QuadraticDynamics.from_regression(features, Y, l2)
    lr = 0.9 * dynamics.stability_limit(**options).item()
    with mpmath.workdps(50):
        losses, path = in_fifty_digits((features, Y, start), l2, lr, 60, **options)
    assert_close(dynamics.losses(start, lr, range(61), **options), losses, rtol=1e-10, atol=0)
    assert_same_course(dynamics.parameters(start, lr, range(61), **options), path, rtol=1e-11)


@pytest.mark.parametrize(
    ("options", "updates"), [({}, 14), (HEAVY_BALL, 14), (NESTEROV, 13)], ids=["plain", "heavy ball", "Nesterov"]
)
def test_raw_powers_leave_float64_at_the_step_where_sgd_does(options, updates):
    dynamics = QuadraticDynamics.from_regression(RAW, Y)
    start = torch.linspace(-0.1, 0.1, 10, dtype=torch.float64)
    losses, _ = sgd((RAW, Y, start), [0.01] * 30, **options)
    exact = dynamics.losses(start, 0.01, range(31), **options)
    assert losses.isfinite().sum() == updates
    assert_close(exact[:updates], losses[:updates], rtol=1e-10, atol=0)
    assert exact[updates:].isinf().all()


@given(steps=st.lists(st.integers(0, 10**6), min_size=1, max_size=8))
def test_any_steps_in_any_order_follow_the_power_law(steps):
    dynamics = QuadraticDynamics.from_regression(torch.tensor([[1.0], [1.0]]), torch.tensor([3.0, 3.0]))
    schedule = [(5e-7, 700_000), (1e-7, 300_000)]
    expected = [3 - 3 * (1 - 1e-6) ** min(t, 700_000) * (1 - 2e-7) ** max(t - 700_000, 0) for t in steps]
    for times in (steps, torch.tensor(steps, dtype=torch.float64)):
        path = dynamics.parameters(torch.zeros(1), schedule, times)
        assert path.squeeze(-1).tolist() == pytest.approx(expected, rel=1e-9)


@settings(max_examples=40)
@given(problem=regressions(), l2=st.sampled_from([0.0, 0.01, 1.0]), share=st.floats(0.01, 1.05))
def test_equals_the_loop_step_by_step(problem, l2, share):
    features, targets, start = problem
    dynamics = QuadraticDynamics.from_regression(features, targets, l2)
    lr = share * dynamics.largest_stable_lr.clamp(max=1.0)
    losses, path = loop(problem, l2, lr, steps=30)
    assert_close(dynamics.losses(start, lr, range(31)), losses, rtol=1e-9, atol=1e-9)
    assert_close(dynamics.parameters(start, lr, range(31)), path, rtol=1e-9, atol=1e-9)


@given(problem=regressions(batches=[()]), l2=st.sampled_from([0.0, 0.1]))
def test_the_hessian_is_that_of_the_loss(problem, l2):
    features, targets, start = problem
    hessian = torch.autograd.functional.hessian(lambda params: loss(features, targets, l2, params), start)
    assert_close(QuadraticDynamics.from_regression(features, targets, l2).hessian, hessian)


@given(problem=regressions(), l2=st.sampled_from([0.0, 0.1]))
def test_the_gradient_vanishes_at_the_minimiser(problem, l2):
    features, targets, _ = problem
    dynamics = QuadraticDynamics.from_regression(features, targets, l2)
    params = dynamics.minimiser.clone().requires_grad_()
    value = loss(features, targets, l2, params)
    (slope,) = torch.autograd.grad(value.sum(), params)
    assert_close(value.detach(), dynamics.minimum)
    assert_close(slope, torch.zeros_like(slope), rtol=0, atol=1e-9)


def test_a_direction_without_curvature_never_moves():
    features, targets = torch.tensor([[1.0, 1.0]]), torch.tensor([2.0])
    dynamics = QuadraticDynamics.from_regression(features, targets)
    end = dynamics.parameters(torch.tensor([5.0, 0.0]), 0.1, [10_000])
    assert dynamics.eigenvalues.tolist() == pytest.approx([4.0, 0.0])
    assert dynamics.largest_stable_lr.item() == pytest.approx(2 / 4)
    assert dynamics.stability_limit(0.5).item() == pytest.approx(2 * 1.5 / 4)
    assert dynamics.minimiser.tolist() == pytest.approx([1.0, 1.0])
    assert end[0].tolist() == pytest.approx([3.5, -1.5])


def test_without_any_curvature_every_rate_is_stable():
    dynamics = QuadraticDynamics.from_regression(torch.zeros(2, 1), torch.ones(2))
    assert dynamics.largest_stable_lr == torch.inf
    assert dynamics.losses(torch.ones(1), 1.0, [0, 5]).tolist() == [1.0, 1.0]


def test_columns_that_repeat_each_other_leave_directions_without_curvature_and_the_shortest_minimiser():
    features = X[:, None] * torch.tensor([1.0, 1 / 3, 0.1, 7.0], dtype=torch.float64)
    dynamics = QuadraticDynamics.from_regression(features, Y)
    assert (dynamics.eigenvalues == 0).tolist() == [False, True, True, True]
    assert_close(dynamics.minimiser, torch.linalg.pinv(features) @ Y)


def test_features_may_be_shared_by_problems_of_any_dimensions():
    targets = torch.stack([Y * factor for factor in range(6)]).unflatten(0, (2, 3))
    dynamics = QuadraticDynamics.from_regression(X[:, None], targets)
    expected = (targets @ X / X.square().sum())[..., None]
    assert_close(dynamics.minimiser, expected)


def test_ill_conditioned_features_keep_their_digits():
    """A minimiser exact to 1e-9 at a condition number of 1e6, whose square would leave four digits."""
    features = torch.linspace(0, 1, 50, dtype=torch.float64)[:, None] ** torch.arange(8)
    truth = torch.arange(1.0, 9.0, dtype=torch.float64)
    dynamics = QuadraticDynamics.from_regression(features, features @ truth)
    assert torch.linalg.cond(features) > 1e5
    assert_close(dynamics.minimiser, truth, rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize(
    ("features", "targets", "l2", "message"),
    [
        (torch.ones(3, 2), torch.ones(2), 0.0, r"got \(3, 2\) and \(2,\)"),
        (torch.ones(3), torch.ones(3), 0.0, r"features must have shape"),
        (torch.ones(3), torch.tensor(1.0), 0.0, r"features must have shape"),
        (torch.ones(3, 4, 2), torch.ones(2, 3, 4), 0.0, r"features must have shape"),
        (torch.ones(3, 2), torch.ones(2, 3), torch.tensor([0.1, -0.1]), "l2 must not be negative"),
        (torch.ones(3, 2), torch.ones(3), -0.1, "l2 must not be negative, got -0.1"),
    ],
)
def test_errors_name_the_argument(features, targets, l2, message):
    with pytest.raises(ValueError, match=message):
        QuadraticDynamics.from_regression(features, targets, l2)


@pytest.mark.parametrize(
    ("steps", "message"),
    [([], "at least one"), ([3, -1], r"none negative, got \[3, -1\]"), ([7], "within the 5 updates .* got 7")],
)
def test_errors_name_the_steps(steps, message):
    dynamics = QuadraticDynamics.from_regression(torch.ones(2, 1), torch.ones(2))
    with pytest.raises(ValueError, match=message):
        dynamics.losses(torch.zeros(1), [(0.1, 2), (0.01, 3)], steps)
