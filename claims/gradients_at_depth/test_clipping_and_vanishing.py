"""Section 19: gradient clipping, named as a remedy for exploding and vanishing gradients at once."""

import torch
from torch import nn

from fitcore.models import MLP
from fitcore.testing import REFUTED, claim, replace

WIDTHS = [32] * 12


def clip_nothing(parameters, max_norm):
    """Leave every gradient as it is."""


def normalise_every_layer(parameters, max_norm):
    """A remedy for both: every tensor's gradient gets the norm ``max_norm``, as layerwise optimizers do."""
    for parameter in parameters:
        parameter.grad.mul_(max_norm / parameter.grad.norm())


def wildly_initialised(model):
    for parameter in model.parameters():
        nn.init.normal_(parameter)
    return model


def gradient_norms(model, x, max_norm):
    """Of the first layer's and the last one's weights and of all parameters, before and after clipping, (2, 3)."""
    model(x).square().mean().backward()
    parameters = list(model.parameters())

    def norms():
        whole = torch.cat([parameter.grad.flatten() for parameter in parameters])
        return torch.stack([parameters[0].grad.norm(), parameters[-2].grad.norm(), whole.norm()])

    before = norms()
    nn.utils.clip_grad_norm_(parameters, max_norm)
    return torch.stack([before, norms()]).double()


@claim(
    "pytorch-notes/clipping-prevents-vanishing",
    verdict=REFUTED,
    finding="It scales gradients down and never up. Through ten sigmoid layers the first one gets 2e-9 to 3e-9 of the "
    "last one's gradient, before clipping and after: where clipping acts, the vanishing gradient shrinks like the "
    "others. What it prevents is explosion: a ReLU network with N(0, 1) weights, whose gradient's norm is above 1e12, "
    "keeps 1.",
    controls=[
        replace("torch.nn.utils.clip_grad_norm_", normalise_every_layer),
        replace("torch.nn.utils.clip_grad_norm_", clip_nothing),
    ],
    trials=40,
)
def test_clipping_lengthens_no_gradient_that_vanishes(trials, evidence):
    vanishing = trials.map(lambda _: gradient_norms(MLP(WIDTHS, nn.Sigmoid), torch.randn(8, WIDTHS[0]), 0.1))
    exploding = trials.map(
        lambda _: gradient_norms(wildly_initialised(MLP(WIDTHS, nn.ReLU)), torch.randn(8, WIDTHS[0]), 1.0)
    )
    shares = vanishing[:, :, 0] / vanishing[:, :, 1]
    evidence.compare("first layer's share of the last one's gradient", {"before": shares[:, 0], "after": shares[:, 1]})
    trials.always(shares.max(1) < 1e-6, name="the first layer's share stays below a millionth")
    trials.always((vanishing[:, 1] < 0.8 * vanishing[:, 0]).all(1), name="clipping to 0.1 shrinks every gradient")
    trials.always(exploding[:, 0, 2] > 1e6, name="one explodes")
    trials.always(abs(exploding[:, 1, 2] - 1) < 0.001, name="and is cut to 1")
