"""Section 19: the bytes of float16 and bfloat16, in tensors and in training."""

from functools import partial

import pytest
import torch
from hypothesis import given
from torch import nn
from torch.optim import Adam

from fitcore.evaluation.memory import allocated_bytes
from fitcore.models import MLP
from fitcore.testing import claim, override
from fitcore.testing.strategies import tensors

half_dtypes = pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16], ids=["float16", "bfloat16"])


@claim(
    "pytorch-notes/half-precision-halves-memory",
    finding="Two bytes an element instead of four, at any shape: so are the bytes really allocated.",
    controls=[override("float32", dtype=torch.float32), override("float64", dtype=torch.float64)],
)
@half_dtypes
@given(x=tensors())
def test_half_precision_takes_half_the_bytes(x, dtype):
    assert x.dtype == torch.float32
    assert 2 * allocated_bytes(x.to(dtype)) == allocated_bytes(x)
    assert x.to(dtype).element_size() == 2


def training_bytes(model, autocast, dtype):
    """Bytes of parameters, of gradients and of Adam's two moments after a step, and of the outputs."""
    optimizer = Adam(model.parameters())
    with torch.autocast("cpu", torch.bfloat16, enabled=autocast):
        outputs = model(torch.ones(8, 20, dtype=dtype))
    outputs.float().square().mean().backward()
    optimizer.step()
    parameters = list(model.parameters())
    moments = [state[name] for state in optimizer.state.values() for name in ("exp_avg", "exp_avg_sq")]
    return [allocated_bytes(*some) for some in (parameters, [p.grad for p in parameters], moments, [outputs])]


def converted(dtype):
    return training_bytes(MLP([20, 30, 3], nn.ReLU).to(dtype), False, dtype)


mixed = partial(training_bytes, autocast=True, dtype=torch.float32)


@claim(
    "pytorch-notes/half-precision-halves-memory",
    finding="A model converted as a whole trains in half of the memory: parameters, gradients and Adam's moments. "
    "Under autocast, the usual mixed precision, these three stay float32 and keep their bytes; what it halves is what "
    "is computed on the way, such as the outputs.",
    controls=[override("float64", dtype=torch.float64)],
)
@half_dtypes
def test_a_converted_model_trains_in_half_the_memory_and_autocast_in_as_much(evidence, dtype):
    full, half = converted(torch.float32), converted(dtype)
    under_autocast = mixed(MLP([20, 30, 3], nn.ReLU))
    names = ("parameters", "gradients", "moments", "outputs")
    rows = zip(names, full, half, under_autocast, strict=True)
    evidence.table("bytes", [dict(zip(("of", "float32", "converted", "autocast"), row, strict=True)) for row in rows])
    assert [2 * size for size in half] == full
    assert under_autocast[:3] == full[:3]
    assert 2 * under_autocast[3] == full[3]
