"""Lines fitted together are lines fitted one by one."""

import torch
from torch.testing import assert_close

from fitcore.ensembles import QuadraticDynamics
from fitcore.gradients import mse
from fitcore.models import design_matrix, linear
from fitcore.seeding import seeded
from fitcore.training import autograd_step, train
from fitcore.training.lines import descend_lines, line_losses


def lines():
    with seeded(0):
        x = torch.randn(3, 10, dtype=torch.float64)
        return x, 2 * x + torch.randn(3, 10, dtype=torch.float64), torch.randn(3, 2, dtype=torch.float64)


def test_losses_are_those_of_each_line():
    x, y, params = lines()
    one_by_one = [mse(linear(*of_line), t) for *of_line, t in zip(x, *params.T, y, strict=True)]
    assert_close(line_losses(params, x, y), torch.stack(one_by_one))
    assert_close(line_losses(params[1], x[1], y[1]), one_by_one[1])


def test_each_line_descends_as_if_alone():
    x, y, starts = lines()
    together = descend_lines(x, y, starts, 0.1, 20)
    alone = starts[1].clone().requires_grad_()
    assert_close(together[:, 1], train(autograd_step(lambda p: mse(linear(x[1], *p), y[1]), alone, 0.1), 20).trajectory)
    exact = QuadraticDynamics.from_regression(design_matrix(x), y)
    assert_close(together.transpose(0, 1), exact.parameters(starts, 0.1, range(21)))
