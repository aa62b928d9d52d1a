"""Section 3: what the optimizer takes over."""

import hypothesis.strategies as st
import torch
from hypothesis import given, settings
from torch.testing import assert_close

from fitcore.testing import REFUTED, claim, override
from fitcore.training import autograd_step, optimizer_step, train
from fitcore.training.thermometer import thermometer_loss

LOSS = thermometer_loss(scale=0.1, dtype=torch.float64)

starts = st.tuples(st.floats(-10, 10), st.floats(-50, 50))


def leaf(values):
    return torch.tensor(values, dtype=torch.float64, requires_grad=True)


@claim(
    "linear-model/sgd-step-equals-manual-update",
    finding="The same update, to the last rounding: SGD may fuse multiplication and subtraction, so that single "
    "losses differ in the last bit; after 10,000 epochs both print the same figures.",
    controls=[
        override("with momentum", options={"momentum": 0.9}),
        override("with weight decay", options={"weight_decay": 1e-2}),
    ],
)
@given(values=starts, lr=st.floats(1e-4, 0.03), options=st.just({}))
def test_sgd_takes_the_path_of_the_manual_update(values, lr, options):
    params = leaf(values)
    sgd = torch.optim.SGD([params], lr=lr, **options)
    optimized = train(optimizer_step(LOSS, params, sgd), 20)
    manual = train(autograd_step(LOSS, leaf(values), lr), 20)
    assert_close(optimized.trajectory, manual.trajectory, rtol=1e-12, atol=1e-12)


@claim(
    "linear-model/zero-grad-sets-gradients-to-zero",
    verdict=REFUTED,
    finding="Since PyTorch 2.0 zero_grad() sets the gradient to None; zeros come with set_to_none=False. In this loop "
    "it comes to the same, as every step follows a new backward pass.",
    controls=[override("set_to_none=False", options={"set_to_none": False})],
)
@settings(max_examples=40)
@given(values=starts, options=st.just({}))
def test_zero_grad_removes_the_gradient(values, options):
    params = leaf(values)
    sgd = torch.optim.SGD([params], lr=1e-2)
    LOSS(params).backward()
    sgd.zero_grad(**options)
    assert params.grad is None
    LOSS(params).backward()
    sgd.zero_grad(set_to_none=False)
    assert torch.equal(params.grad, torch.zeros(2, dtype=torch.float64))
