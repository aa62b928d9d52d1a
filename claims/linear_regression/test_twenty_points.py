"""Section 4.6: y = 3x + 2 at twenty points from 0 to 10, two hundred hand-written epochs at learning rate 0.01."""

from contextlib import nullcontext

import hypothesis.strategies as st
import torch
from hypothesis import given
from torch.testing import assert_close

from fitcore.gradients import mse
from fitcore.models import linear
from fitcore.testing import REFUTED, claim, error_of, override
from fitcore.testing.strategies import tensors
from fitcore.training import autograd_step, train
from fitcore.training.lines import descend_lines, line_losses

X = torch.linspace(0, 10, 20)
Y = 3 * X + 2
LR, EPOCHS = 0.01, 200
TARGET = torch.tensor([3.0, 2.0])


def draw_start(seed):
    """w and b (2,), drawn one after the other."""
    return torch.cat([torch.randn(1), torch.randn(1)])


def draw_starts(trials):
    return torch.from_numpy(trials.map(draw_start))


def distances(trajectory):
    return (trajectory - TARGET).abs()


@claim(
    "pytorch-notes/linspace-unsqueeze-shape",
    controls=[override("not unsqueezed", as_column=lambda x: x)],
)
def test_unsqueeze_makes_one_row_a_sample(as_column=lambda x: x.unsqueeze(1)):
    column = as_column(torch.linspace(0, 10, 20))
    assert column.shape == (20, 1)
    assert torch.equal(column[:, 0], X)
    assert (column * torch.ones(1) + torch.ones(1)).shape == (20, 1)


def column(values):
    return values.unsqueeze(1)


def flat(values):
    return values


def fit(x, y, start):
    params = start.clone().requires_grad_()
    return train(autograd_step(lambda p: mse(x * p[:1] + p[1:], y), params, LR), EPOCHS).params.detach()


@claim(
    "pytorch-notes/inputs-must-be-two-dimensional",
    verdict=REFUTED,
    finding="With x and y of shape (20,) the run is the same. They must only agree: x of shape (20, 1) with y of shape "
    "(20,) broadcasts to 400 errors, and w goes towards 0 instead of 3. nn.Linear is what asks for rows.",
    controls=[override("y alone is flat", of_x=column)],
    trials=2,
)
def test_flat_inputs_do_as_well(trials, of_x=flat):
    def outcome(seed):
        start = draw_start(seed)
        two_dimensional = fit(column(X), column(Y), start)
        return torch.stack([fit(of_x(X), Y, start), two_dimensional, fit(column(X), Y, start)])

    one_dimensional, two_dimensional, mixed = torch.from_numpy(trials.map(outcome)).unbind(1)
    trials.always((one_dimensional - two_dimensional).abs().amax(-1) < 1e-4, "as with columns")
    trials.always((mixed - two_dimensional)[:, 0] < -1, "mixed, w is too small")


def parabola(x, w, b):
    return w * x**2 + b


@claim("pytorch-notes/w-is-slope-b-is-intercept", controls=[override("a parabola for a model", model=parabola)])
@given(x=tensors(), params=tensors((2,)), by=st.integers(1, 9), model=st.just(linear))
def test_y_changes_by_w_with_each_unit_of_x_and_is_b_at_0(x, params, by, model):
    w, b = params
    assert torch.equal(model(x + by, w, b) - model(x, w, b), torch.full_like(x, by) * w)
    assert torch.equal(model(torch.zeros_like(x), w, b), torch.full_like(x, 1) * b)


@claim(
    "pytorch-notes/regression-46-learns-3-and-2",
    verdict=REFUTED,
    finding="In 7 to 10 % of draws. b is still off by 0.52 to 0.59 in the median draw: the loss is so flat along one "
    "direction that 200 epochs take away two thirds of the distance there. Some 750 epochs bring both within 0.1 in "
    "nearly every draw.",
    controls=[override("x centred, which rounds the valley", shift=5.0)],
    trials=200,
)
def test_two_hundred_epochs_do_not_recover_3_and_2(trials, evidence, shift=0.0):
    x = X - shift
    errors = distances(descend_lines(x, 3 * x + 2, draw_starts(trials), LR, 1_000)).amax(-1)
    evidence.observe("largest error of w and b after 200 epochs", errors[EPOCHS], limit=0.1)
    series = {"median draw": errors.median(-1).values, "worst draw": errors.amax(-1)}
    evidence.curve("largest error of w and b", range(1_001), series, x_label="epoch")
    trials.mostly(errors[EPOCHS] > 0.1, at_least=0.6, name="not within 0.1 after 200 epochs")
    trials.always(errors[-1] < 0.1, "within 0.1 after 1,000 epochs")


@claim(
    "pytorch-notes/regression-46-moves-towards-3-and-2",
    finding="In 98 % of draws; where b happens to start within about 0.1 of 2 it is drawn away, while w is learned. "
    "The distance of the point (w, b) always shrinks.",
    controls=[override("a step along the gradient", lr=-0.001)],
    trials=1_000,
)
def test_w_and_b_end_closer_than_they_began(trials, evidence, lr=LR):
    trajectory = descend_lines(X, Y, draw_starts(trials), lr, EPOCHS)
    before, after = distances(trajectory[0]), distances(trajectory[-1])
    evidence.compare("distance of b to 2", {"before": before[:, 1], "after": after[:, 1]})
    evidence.compare("distance of w to 3", {"before": before[:, 0], "after": after[:, 0]})
    trials.mostly((after < before).all(-1), name="both closer")
    trials.always(after.norm(dim=-1) < before.norm(dim=-1), "the point (w, b) is closer")


@claim(
    "pytorch-notes/regression-46-w-approaches-3",
    finding="Median errors of 0.08 for w and 0.51 to 0.53 for b. What is left lies along the flat direction of the "
    "loss, where b is 6.8 times as far off as w.",
    controls=[override("x centred, where b is as quick as w", shift=5.0)],
    trials=1_000,
)
def test_w_is_close_to_3_while_b_is_not_at_2(trials, evidence, shift=0.0):
    x = X - shift
    of_w, of_b = distances(descend_lines(x, 3 * x + 2, draw_starts(trials), LR, EPOCHS)[-1]).T
    evidence.compare("error after 200 epochs", {"w": of_w, "b": of_b})
    trials.mostly(of_w < 0.2, name="w within 0.2")
    trials.mostly(of_b > 0.2, at_least=0.6, name="b not within 0.2")
    trials.less(5 * of_w, of_b, name="b five times as far off as w")


@claim(
    "pytorch-notes/one-epoch-sees-every-point-once-46",
    finding="Each update is the mean of what the 20 points ask for, each counted once, and an epoch is one update.",
    controls=[override("every second point", stride=2)],
)
@given(start=tensors((2,), torch.float64), stride=st.just(1))
def test_the_update_of_an_epoch_uses_each_of_the_points_once(start, stride):
    x, y = X.double(), Y.double()
    path = descend_lines(x[::stride], y[::stride], start[None], LR, 10)[:, 0]
    errors = path[:-1, :1] * x + path[:-1, 1:] - y
    of_each_point = 2 * torch.stack([errors * x, errors], dim=-1)
    assert of_each_point.shape == (10, 20, 2)
    assert_close(path.diff(dim=0), -LR * of_each_point.mean(1))


def run_listing(seed, guard):
    """Train and print as the listing does."""
    w, b = (value.requires_grad_() for value in draw_start(seed).split(1))
    x, y = column(X), column(Y)
    for epoch in range(EPOCHS):
        loss = ((x * w + b - y) ** 2).mean()
        loss.backward()
        with guard():
            w -= LR * w.grad
            b -= LR * b.grad
        w.grad.zero_()
        b.grad.zero_()
        if epoch % 10 == 0:
            print(f"epoch {epoch}, loss={loss.item():.4f}, w={w.item():.4f}, b={b.item():.4f}")
    return 0


@claim(
    "pytorch-notes/listing-46-prints-every-ten",
    controls=[override("the update outside no_grad", guard=nullcontext)],
    trials=1,
)
def test_the_listing_reports_twenty_times(trials, capsys, guard=torch.no_grad):
    assert error_of(trials.map, lambda seed: run_listing(seed, guard)) is None
    lines = capsys.readouterr().out.splitlines()
    assert [line.split(",")[0] for line in lines] == [f"epoch {epoch}" for epoch in range(0, 200, 10)]


def printed_loss(trajectory):
    """The loss of each epoch, which the listing computes before the update."""
    return line_losses(trajectory[:-1], X, Y)


def loss_after_the_update(trajectory):
    return line_losses(trajectory[1:], X, Y)


@claim(
    "pytorch-notes/listing-46-loss-belongs-to-the-printed-w-and-b",
    verdict=REFUTED,
    finding="The loss is that before the update, w and b are those after it. At epoch 0 the printed loss is 350 to 410 "
    "in the median draw and that of the printed w and b 32 to 38; later the two are 1 % apart.",
    controls=[override("the loss taken again after the update", printed=loss_after_the_update)],
    trials=200,
)
def test_the_printed_loss_is_that_before_the_update(trials, evidence, printed=printed_loss):
    starts = draw_starts(trials)
    trajectory = descend_lines(X, Y, starts, LR, EPOCHS)
    reported, of_the_printed = printed(trajectory)[::10], loss_after_the_update(trajectory)[::10]
    evidence.compare("loss at epoch 0", {"as printed": reported[0], "of the printed w and b": of_the_printed[0]})
    trials.mostly(
        (reported > 1.005 * of_the_printed).all(0), at_least=0.8, name="more than that of the printed w and b"
    )
    history = train(autograd_step(lambda p: mse(linear(X, *p), Y), starts[0].clone().requires_grad_(), LR), EPOCHS)
    assert torch.allclose(history.losses[::10], reported[:, 0], rtol=1e-3)
