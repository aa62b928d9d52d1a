"""How fast `fitcore.ensembles` trains many copies on a GPU, beside a loop over them and beside plain products."""

from dataclasses import dataclass
from functools import partial

import pytest
import torch
from torch import Tensor, nn
from torch.optim import Adam

from fitcore.ensembles import Ensemble, fit
from fitcore.evaluation.ceilings import seconds_a_call, while_memory_lasts
from fitcore.evaluation.peers import training_loop
from fitcore.evaluation.throughput import training_flops
from fitcore.models import MLP
from fitcore.testing import claim, override

pytestmark = [
    pytest.mark.gpu,
    # `fit` takes three steps before it captures one.
    pytest.mark.filterwarnings("ignore:This instance was constructed with capturable=True"),
]

COPIES = tuple(4**power for power in range(7))


@dataclass(frozen=True)
class Workload:
    """Full-batch training of perceptrons, all on the same samples."""

    widths: tuple[int, ...]
    activation: type[nn.Module]
    samples: int
    steps: int

    def data(self, device) -> tuple[Tensor, Tensor]:
        x = 6 * torch.rand(self.samples, self.widths[0], device=device) - 3
        return x, torch.sin(x.sum(1, keepdim=True))

    def ensemble(self, copies, device) -> Ensemble:
        return Ensemble(lambda: MLP(self.widths, self.activation), range(copies)).to(device)

    def flops(self) -> int:
        """Of a step of one copy."""
        return training_flops(MLP(self.widths, self.activation), self.data("cpu")[0])

    def at_once(self, copies, device):
        """What trains so many copies."""
        ensemble = self.ensemble(copies, device)
        data = tuple(map(ensemble.share, self.data(device)))
        optimizer = partial(Adam, lr=1e-3, fused=True, capturable=device.type == "cuda")
        return partial(fit, ensemble, data, epochs=self.steps, optimizer=optimizer)

    def rate(self, copies, device) -> float:
        """Steps of one copy a second, of so many trained at once: what it takes to begin is counted in."""
        return copies * self.steps / seconds_a_call(self.at_once(copies, device), device, rounds=2, calls=1)

    def rate_of_the_loop(self, device, steps=20) -> float:
        """Steps of one copy a second, by a plain loop: its time grows with the number of copies."""
        alone = self.ensemble(1, device)
        data = map(alone.share, self.data(device))
        optimizer = partial(Adam, lr=1e-3, fused=True)
        loop = training_loop(alone, *data, optimizer=optimizer, loss=nn.MSELoss(), copies=1, steps=steps)
        return steps / seconds_a_call(loop, device, calls=1)


SINE = Workload((1, 32, 32, 1), nn.Tanh, samples=200, steps=500)
WIDE = Workload((20, *[100] * 8, 1), nn.ReLU, samples=1000, steps=100)


@claim(
    "fitcore/gpu-ensembles-beat-the-loop",
    controls=[override("a single copy", copies=(1,), at=1)],
)
def test_1024_copies_at_once_train_200_times_as_fast_as_a_loop(
    *, headline, ceilings, device, evidence, work=SINE, copies=COPIES, at=1024
):
    rates = while_memory_lasts(partial(work.rate, device=device), copies)
    loop = work.rate_of_the_loop(device)
    passes, flops = at * work.steps, work.flops()
    headline(work.at_once(at, device), samples=passes * work.samples, flops=passes * flops, rounds=2, calls=1)
    series = {"at once": list(rates.values()), "one after the other": [loop] * len(rates)}
    roof = {"at the rate of float32 products": [ceilings.fp32 / flops] * len(rates)}
    evidence.curve("steps of one copy a second by the number of copies", list(rates), series, "copies", roofs=roof)
    evidence.observe("times as fast as the loop, 1,024 copies", rates[at] / loop, limit=200)
    assert rates[at] >= 200 * loop


@claim(
    "fitcore/gpu-ensembles-reach-the-rate-of-products",
    controls=[override("a single copy", copies=(1,))],
)
def test_copies_100_wide_reach_30_percent_of_the_rate_of_products(
    *, headline, ceilings, device, evidence, work=WIDE, copies=COPIES[:6]
):
    rates = while_memory_lasts(partial(work.rate, device=device), copies)
    best = max(rates, key=rates.get)
    passes, flops = best * work.steps, work.flops()
    headline(work.at_once(best, device), samples=passes * work.samples, flops=passes * flops, rounds=1, calls=1)
    series = {"at once": [rate * flops / 1e12 for rate in rates.values()]}
    roof = {"products of large matrices": [ceilings.fp32 / 1e12] * len(rates)}
    evidence.curve("TFLOP/s by the number of copies", list(rates), series, "copies", roofs=roof)
    share = rates[best] * flops / ceilings.fp32
    evidence.observe("share of the rate of float32 products", share, limit=0.3)
    assert share >= 0.3
