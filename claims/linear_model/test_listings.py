"""The complete listings (1.3, 2.2, 3.2, 6.2), rebuilt: do they run to the end, and what do they show there?"""

from functools import partial

import numpy as np
import pytest
import torch

from fitcore.data import normalise, thermometer_readings, train_validation_split
from fitcore.gradients import averaged_chain_rule, mse
from fitcore.models import linear
from fitcore.testing import REFUTED, claim, error_of, override
from fitcore.training import autograd_step, manual_step, optimizer_step

T_U, T_C = thermometer_readings()
T_UN = normalise(T_U)


def squared_error(x, y):
    return lambda params: mse(linear(x, *params), y)


def manual_listing(x, y):
    return manual_step(partial(averaged_chain_rule, x=x, y=y), torch.tensor([1.0, 0.0]), 1e-2)


def autograd_listing(x, y):
    return autograd_step(squared_error(x, y), torch.tensor([1.0, 0.0], requires_grad=True), 1e-2)


def assigning_listing(x, y):
    params = torch.tensor([1.0, 0.0], requires_grad=True)
    return autograd_step(
        squared_error(x, y), params, 1e-2, descend=lambda params, lr: params.detach() - lr * params.grad
    )


def optimizer_listing(x, y):
    params = torch.tensor([1.0, 0.0], requires_grad=True)
    return optimizer_step(squared_error(x, y), params, torch.optim.SGD([params], lr=1e-2))


def split_listing(x, y):
    training, _ = train_validation_split(len(x))
    return optimizer_listing(x[training], y[training])


def run(listing, n_epochs, plt):
    """Train, print and plot as the listings do."""
    step = listing(T_UN, T_C)
    for epoch in range(1, n_epochs + 1):
        print("Epoch %d, Loss %f" % (epoch, float(step())))  # noqa: UP031
    print(step.params)
    plt.plot(T_U.numpy(), linear(T_UN, *step.params).detach().numpy())
    plt.plot(T_U.numpy(), T_C.numpy(), "o")
    plt.xlabel("Temperature (°Fahrenheit)")
    plt.ylabel("Temperature (°Celsius)")
    plt.legend(["Prediction", "Observation"])


@claim(
    "linear-model/full-listings-run-as-printed",
    finding="All four train, print every epoch and draw; what they print is not always what stands below them.",
    controls=[override("'=' in place of '-='", listing=assigning_listing)],
)
@pytest.mark.parametrize("listing", [manual_listing, autograd_listing, optimizer_listing, split_listing])
def test_each_listing_trains_prints_and_plots(listing, pyplot, capsys, evidence):
    assert error_of(run, listing, 300, pyplot) is None
    lines = capsys.readouterr().out.splitlines()
    assert lines[-2].startswith("Epoch 300, Loss ")
    assert lines[-1].startswith("tensor([")
    pyplot.gcf().canvas.draw()
    evidence.image("the plot", np.asarray(pyplot.gcf().canvas.buffer_rgba())[..., :3])


@claim(
    "linear-model/print-params-without-requires-grad",
    verdict=REFUTED,
    finding="print(params) ends with requires_grad=True, as in the output of section 6.1. The tensor printed below "
    "these listings is that of the manual one.",
    controls=[override("the manual listing", listing=manual_listing)],
)
@pytest.mark.parametrize("listing", [autograd_listing, optimizer_listing])
def test_printed_parameters_say_that_they_require_a_gradient(listing):
    step, without_autograd = listing(T_UN, T_C), manual_listing(T_UN, T_C)
    step()
    without_autograd()
    assert str(step.params).endswith(", requires_grad=True)")
    assert str(without_autograd.params).endswith("])")


@claim(
    "linear-model/plot-needs-detach",
    finding="numpy() refuses a tensor that requires a gradient. numpy(force=True), or computing t_p under no_grad, "
    "does as well as detach().",
    controls=[override("the manual listing", listing=manual_listing)],
)
@pytest.mark.parametrize("listing", [autograd_listing, optimizer_listing])
def test_a_prediction_must_be_detached_for_numpy(listing):
    prediction = linear(T_UN, *listing(T_UN, T_C).params)
    with pytest.raises(RuntimeError, match="requires grad"):
        prediction.numpy()
    assert np.array_equal(prediction.detach().numpy(), prediction.numpy(force=True))
