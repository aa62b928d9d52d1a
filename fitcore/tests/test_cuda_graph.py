"""Which optimizers a CUDA graph may repeat; what it repeats is held against the CPU in test_ensemble_fit."""

from types import SimpleNamespace

import pytest
import torch
from torch.optim import SGD, Adagrad, Adam

from fitcore.ensembles.cuda_graph import is_capturable


def optimizer(kind, devices, **settings):
    """One whose parameter groups are said to be on devices."""
    made = kind([{"params": [torch.zeros(1, requires_grad=True)]} for _ in devices], lr=0.1, **settings)
    for group, device in zip(made.param_groups, devices, strict=True):
        group["params"] = [SimpleNamespace(is_cuda=device == "cuda")]
    return made


@pytest.mark.parametrize(
    ("kind", "settings", "devices", "capturable"),
    [
        (SGD, {"momentum": 0.9}, ["cuda", "cuda"], True),
        (SGD, {}, ["cuda", "cpu"], False),
        (Adam, {"capturable": True}, ["cuda"], True),
        (Adam, {"capturable": True}, ["cpu"], False),
        (Adam, {}, ["cuda"], False),
        (Adagrad, {}, ["cuda"], False),
    ],
)
def test_sgd_and_capturable_optimizers_on_a_gpu_can_be_captured(kind, settings, devices, capturable):
    assert is_capturable(optimizer(kind, devices, **settings)) is capturable


def test_every_group_must_be_capturable():
    made = optimizer(Adam, ["cuda", "cuda"], capturable=True)
    made.param_groups[1]["capturable"] = False
    assert not is_capturable(made)
