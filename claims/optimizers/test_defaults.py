"""Section 16.5: the settings that the guide recommends, and those that torch has where none are given."""

import pytest
import torch

from fitcore.testing import REFUTED, claim, override, parameter, replace

INITIALISE = torch.optim.Optimizer.__init__


def with_other_defaults(optimizer, params, defaults):
    """Keep twice the settings that are to be kept."""
    INITIALISE(
        optimizer, params, {name: 2 * value if isinstance(value, float) else value for name, value in defaults.items()}
    )


def defaults_of(optimizer):
    """The settings of an optimizer that is made without any."""
    return getattr(torch.optim, optimizer)([torch.zeros(1, requires_grad=True)]).defaults


RECOMMENDED = {
    "pytorch-notes/adam-recommended-values-are-defaults": (
        "Adam",
        {"lr": 0.001, "betas": (0.9, 0.999), "eps": 1e-8},
    ),
    "pytorch-notes/adagrad-recommended-lr-is-default": ("Adagrad", {"lr": 0.01}),
    "pytorch-notes/adamw-recommended-values-are-defaults": ("AdamW", {"lr": 0.001, "weight_decay": 0.01}),
}


@claim(
    parameter("statement"),
    controls=[replace("torch.optim.Optimizer.__init__", with_other_defaults)],
)
@pytest.mark.parametrize("statement", RECOMMENDED)
def test_the_recommended_settings_are_torchs_own(statement):
    optimizer, recommended = RECOMMENDED[statement]
    defaults = defaults_of(optimizer)
    assert {name: defaults[name] for name in recommended} == recommended


@claim(
    "pytorch-notes/rmsprop-recommended-lr-is-default",
    verdict=REFUTED,
    finding="alpha is, but torch's learning rate is 0.01: ten times the recommended 0.001.",
    controls=[override("Adam's rate", optimizer="Adam")],
)
def test_rmsprops_recommended_rate_is_a_tenth_of_torchs(optimizer="RMSprop"):
    assert defaults_of(optimizer)["lr"] == 10 * 0.001
    assert defaults_of("RMSprop")["alpha"] == 0.99
