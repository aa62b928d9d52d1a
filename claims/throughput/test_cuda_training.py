"""Training steps of one network on a GPU: batch size, precision, accumulation, and what a step's launches cost."""

import shutil
import sysconfig
from functools import partial
from importlib.util import find_spec
from pathlib import Path

import pytest
import torch
from torch import nn
from torch.optim import SGD

from fitcore.ensembles.cuda_graph import CapturedStep
from fitcore.evaluation.ceilings import peak_memory, seconds_a_call, synchronised, while_memory_lasts
from fitcore.evaluation.throughput import least_seconds, training_flops
from fitcore.models import CNN, MLP
from fitcore.testing import claim, override

pytestmark = pytest.mark.gpu


def perceptron(width=512):
    return nn.Sequential(nn.Flatten(), MLP([784, width, width, 10], nn.ReLU))


def convolutional():
    return CNN(widths=(16, 32), hidden=None)


def digits(n, device):
    return torch.rand(n, 1, 28, 28, device=device), torch.randint(10, (n,), device=device)


class TrainingStep:
    """One update by SGD of a network; returns the loss before it, on the device."""

    def __init__(self, model, device, precision=torch.float32):
        self.model, self.device, self.precision = model.to(device), device, precision
        self.optimizer = SGD(self.model.parameters(), lr=0.01)
        self.scaler = torch.amp.GradScaler(device.type, enabled=precision is torch.float16)

    def loss(self, x, y):
        mixed = self.precision is not torch.float32
        with torch.autocast(self.device.type, self.precision if mixed else None, enabled=mixed):
            return nn.functional.cross_entropy(self.model(x), y)

    def __call__(self, *batches):
        """One update from the mean gradient of several batches of one size."""
        self.optimizer.zero_grad()
        for x, y in batches:
            loss = self.loss(x, y) / len(batches)
            self.scaler.scale(loss).backward()
        self.scaler.step(self.optimizer)
        self.scaler.update()
        return loss.detach()


def step_on(network, batch, device, precision=torch.float32):
    return partial(TrainingStep(network(), device, precision), digits(batch, device))


@claim(
    "fitcore/gpu-small-batches-leave-it-idle",
    controls=[override("batches that keep it busy", smallest=1024)],
)
@pytest.mark.parametrize("network", [perceptron, convolutional])
def test_a_step_on_64_samples_costs_hardly_more_than_on_one(
    *, network, headline, ceilings, device, evidence, smallest=1, sizes=tuple(4**power for power in range(9))
):
    batches = [size for size in sizes if size >= smallest]
    seconds = while_memory_lasts(lambda batch: seconds_a_call(step_on(network, batch, device), device), batches)
    flops = training_flops(network(), digits(1, torch.device("cpu"))[0])
    headline(step_on(network, 64, device), samples=64, flops=64 * flops)
    speed = {"measured": [batch / of_step for batch, of_step in seconds.items()]}
    roof = {"at the rate of float32 products": [ceilings.fp32 / flops] * len(seconds)}
    evidence.curve("samples a second by the size of a batch", list(seconds), speed, "samples a batch", roofs=roof)
    if 64 * smallest not in seconds:
        pytest.skip("needs more GPU memory")
    assert seconds[64 * smallest] < 2 * seconds[smallest]


@claim(
    "fitcore/gpu-mixed-precision-pays-in-wide-layers",
    controls=[override("layers of 32", width=32), override("float32 on both sides", as_asked=lambda _: torch.float32)],
)
@pytest.mark.parametrize("precision", [torch.bfloat16, torch.float16], ids=["bfloat16", "float16"])
def test_mixed_precision_halves_the_time_of_a_wide_networks_step(
    *, precision, headline, ceilings, device, evidence, width=8192, batch=4096, as_asked=lambda precision: precision
):
    wide = partial(perceptron, width)
    steps = {
        "float32": step_on(wide, batch, device),
        "mixed": step_on(wide, batch, device, as_asked(precision)),
    }
    flops = training_flops(wide(), digits(1, torch.device("cpu"))[0])
    headline(steps["mixed"], samples=batch, flops=batch * flops, peak=ceilings.bf16)
    seconds = least_seconds({name: synchronised(step, device, 5) for name, step in steps.items()})
    evidence.compare("samples a second", {name: 5 * batch / seconds[name] for name in steps})
    evidence.compare("peak memory, MiB", {name: peak_memory(step, device) / 2**20 for name, step in steps.items()})
    assert seconds["float32"] > 2 * seconds["mixed"]


@claim(
    "fitcore/gpu-accumulation-trades-speed-for-memory",
    controls=[override("one part", parts=1)],
)
def test_accumulating_64_parts_of_a_batch_saves_memory_and_costs_time(headline, device, evidence, parts=64, batch=4096):
    step, (x, y) = TrainingStep(convolutional(), device), digits(batch, device)
    pieces = list(zip(x.chunk(parts), y.chunk(parts), strict=True))
    steps = {"whole": partial(step, (x, y)), "in parts": partial(step, *pieces)}
    headline(steps["in parts"], samples=batch, rounds=3, calls=2)
    seconds = least_seconds({name: synchronised(run, device, 2) for name, run in steps.items()})
    memory = {name: peak_memory(run, device) for name, run in steps.items()}
    evidence.compare("samples a second", {name: 2 * batch / seconds[name] for name in steps})
    evidence.compare("peak memory, MiB", {name: memory[name] / 2**20 for name in steps})
    assert seconds["in parts"] > 2 * seconds["whole"]
    assert memory["in parts"] < memory["whole"] / 4


def as_it_is(step):
    return step


@claim(
    "fitcore/gpu-graphs-replay-small-steps",
    controls=[
        override("not captured", capture=as_it_is),
        override("layers that keep it busy", width=4096, batch=4096),
    ],
)
def test_a_captured_step_of_a_small_network_takes_less_than_half_the_time(
    *, headline, device, evidence, capture=CapturedStep, width=32, batch=64
):
    steps = {
        "eager": TrainingStep(perceptron(width), device),
        "captured": capture(pairwise(TrainingStep(perceptron(width), device))),
    }
    x, y = digits(batch, device)
    runs = {"eager": partial(steps["eager"], (x, y)), "captured": partial(steps["captured"], x, y)}
    headline(runs["captured"], samples=batch)
    seconds = least_seconds({name: synchronised(run, device, 20) for name, run in runs.items()})
    evidence.compare("samples a second", {name: 20 * batch / seconds[name] for name in runs})
    assert seconds["eager"] > 2 * seconds["captured"]


def pairwise(step):
    """The step as a `CapturedStep` takes it."""
    return lambda x, y: step((x, y))


def missing_for_compilation():
    """What torch.compile needs for a GPU and can't find here."""
    header = Path(sysconfig.get_path("include"), "Python.h")
    there = {
        "Triton": find_spec("triton") is not None,
        "a C compiler": any(map(shutil.which, ("cc", "gcc", "clang"))),
        "Python's headers": header.exists(),
    }
    return " and ".join(name for name, is_there in there.items() if not is_there)


MISSING = missing_for_compilation()


def chain(x):
    """Seven operations on every number, which by themselves go through memory sixteen times."""
    return (x.sin() * x.cos() + x).mul(2).tanh().sigmoid()


@pytest.mark.skipif(bool(MISSING), reason=f"torch.compile needs {MISSING}")
@claim(
    "fitcore/gpu-compilation-fuses-elementwise-operations",
    controls=[override("not compiled", compiled=as_it_is)],
)
def test_a_compiled_chain_of_elementwise_operations_takes_less_than_half_the_time(
    *, headline, ceilings, device, evidence, compiled=torch.compile, n=2**27
):
    x = torch.rand(n, device=device)
    chains = {"eager": partial(chain, x), "compiled": partial(compiled(chain), x)}
    headline(chains["compiled"], moved=2 * x.nbytes)
    seconds = least_seconds({name: synchronised(run, device, 5) for name, run in chains.items()})
    evidence.compare("ms", {name: 200 * seconds[name] for name in chains}, limit=2e3 * x.nbytes / ceilings.copy)
    x, y = digits(64, device)
    steps = {
        "eager": partial(TrainingStep(perceptron(32), device), (x, y)),
        "compiled": partial(TrainingStep(compiled(perceptron(32).to(device)), device), (x, y)),
        "captured": partial(CapturedStep(pairwise(TrainingStep(perceptron(32), device))), x, y),
    }
    of_steps = least_seconds({name: synchronised(step, device, 20) for name, step in steps.items()})
    evidence.compare("samples a second of a small network's step", {name: 20 * 64 / of_steps[name] for name in steps})
    torch.testing.assert_close(chains["compiled"](), chains["eager"]())
    assert seconds["eager"] > 2 * seconds["compiled"]
