"""Sections 2.7 and 4.4.2: what is not tracked within no_grad, what it saves, and where it does not reach."""

from concurrent.futures import ThreadPoolExecutor
from contextlib import nullcontext
from functools import partial

import hypothesis.strategies as st
import pytest
import torch
from hypothesis import given
from torch import nn
from torch.autograd.graph import saved_tensors_hooks
from torch.overrides import TorchFunctionMode

from fitcore.evaluation.ceilings import peak_memory
from fitcore.evaluation.memory import allocated_bytes
from fitcore.evaluation.peak_memory import PeakMemory
from fitcore.testing import REFUTED, claim, override, replace
from fitcore.testing.strategies import dtypes, shapes, tensors, views

leaves = tensors(dtype=dtypes(integer=False), requires_grad=True)
still_tracking = override("gradients stay on", guard=torch.enable_grad)


@claim("pytorch-notes/no-grad-result-does-not-require-grad", controls=[still_tracking])
@given(x=leaves, guard=st.just(torch.no_grad))
def test_a_product_under_no_grad_requires_no_gradient(x, guard):
    with guard():
        y = x * 2
    assert x.requires_grad
    assert (y.requires_grad, y.grad_fn) == (False, None)
    assert torch.equal(y, (x * 2).detach())


NEW_MEMORY = {
    "w * 1": lambda w: w * 1,
    "clone": torch.clone,
    "by an index tensor": lambda w: w[torch.tensor([0])],
    "cat": lambda w: torch.cat([w]),
    "detach": torch.detach,
}
VIEWS = {
    "view": lambda w: w.view(1, *w.shape),
    "expand": lambda w: w.expand(2, *w.shape),
    "w[0]": lambda w: w[0],
    "w[:]": lambda w: w[:],
    "unsqueeze": lambda w: w.unsqueeze(0),
    "reshape": lambda w: w.reshape(-1, 1),
    "split": lambda w: w.split(1)[0],
    "squeeze": lambda w: w[:1].squeeze(0),
    "flatten": torch.flatten,
    "permute": lambda w: w.permute(*range(w.ndim)),
}


def copied(operation, w):
    return operation(w).clone()


def as_it_is(operation, w):
    return operation(w)


@claim(
    "pytorch-notes/no-grad-covers-views",
    verdict=REFUTED,
    finding="Views report requires_grad=True, a known oddity of PyTorch: a view of a tracked tensor repeats what its "
    "base says. They have no grad_fn all the same, and nothing computed from one reaches the base. What has memory of "
    "its own, and the result of detach, reports False.",
    controls=[override("a copy of the view", take=copied)],
)
@given(
    w=tensors(shapes(min_dims=2, max_dims=3), requires_grad=True),
    view=st.sampled_from(sorted(VIEWS)),
    new=st.sampled_from(sorted(NEW_MEMORY)),
    take=st.just(as_it_is),
)
def test_views_made_under_no_grad_report_requires_grad(w, view, new, take):
    with torch.no_grad():
        seen, computed = take(VIEWS[view], w), NEW_MEMORY[new](w)
    assert not computed.requires_grad
    assert seen.requires_grad
    assert seen.grad_fn is None
    (seen * 2).sum().backward()
    assert w.grad is None


@claim(
    "pytorch-notes/no-grad-covers-views",
    verdict=REFUTED,
    finding="So does any index or slice, in any order of dimensions.",
    controls=[override("a copy of the view", take=copied)],
)
@given(data=st.data(), take=st.just(as_it_is))
def test_any_view_made_under_no_grad_reports_requires_grad(data, take):
    w = torch.ones(3, 4, 2, requires_grad=True)
    with torch.no_grad():
        seen = take(lambda base: data.draw(views(base)), w)
    assert seen.requires_grad


@torch.no_grad()
def without_gradients(model, x):
    return model(x)


def with_gradients(model, x):
    return model(x)


def blocks():
    return nn.Sequential(*(nn.Sequential(nn.Linear(256, 256), nn.ReLU()) for _ in range(10)))


@claim(
    "pytorch-notes/inference-decorator-no-saved-memory",
    finding="Ten blocks save 5 MiB of intermediate results for backward, and under no_grad nothing. At the peak of "
    "the forward pass 5.5 MiB of them are alive, and 1.5 MiB under no_grad: what the current block works on.",
    controls=[override("not decorated", inference=with_gradients)],
)
def test_no_grad_saves_the_memory_of_intermediate_results(evidence, inference=without_gradients):
    model, x = blocks(), torch.zeros(512, 256)
    existing = (x, *model.parameters())

    def memory_of(forward):
        saved = []
        with saved_tensors_hooks(lambda t: saved.append(t) or t, lambda t: t), PeakMemory(*existing) as memory:
            forward(model, x)
        return allocated_bytes(*existing, *saved) - allocated_bytes(*existing), memory.peak

    (saved, peak), (saved_without, peak_without) = memory_of(with_gradients), memory_of(inference)
    rows = {"tracked": (saved, peak), "under no_grad": (saved_without, peak_without)}
    evidence.table(
        "memory of the forward pass",
        [{"mode": mode, "saved, MiB": kept / 2**20, "peak, MiB": most / 2**20} for mode, (kept, most) in rows.items()],
    )
    assert saved >= 10 * x.nbytes
    assert saved_without == 0
    assert peak_without <= 3 * x.nbytes < peak / 3


@pytest.mark.gpu
@claim(
    "pytorch-notes/inference-decorator-no-saved-memory",
    finding="On a GPU the allocator's peak says so too.",
    controls=[override("not decorated", inference=with_gradients)],
)
def test_no_grad_lowers_the_peak_of_what_is_allocated_on_a_gpu(evidence, inference=without_gradients):
    # Larger than what products take for themselves, or the allocator rounds up to.
    device, samples = torch.device("cuda"), 2**16
    model, x = blocks().to(device), torch.zeros(samples, 256, device=device)
    forwards = {"tracked": with_gradients, "under no_grad": inference}
    with_gradients(model, x)  # what is allocated once and kept
    peaks = {mode: peak_memory(partial(forward, model, x), device) for mode, forward in forwards.items()}
    evidence.compare("peak memory of the forward pass, MiB", {mode: peak / 2**20 for mode, peak in peaks.items()})
    assert peaks["tracked"] > 10 * x.nbytes
    assert peaks["under no_grad"] < 4 * x.nbytes


class Interrupted(Exception):
    """What ends a block early."""


def forget_to_restore(*_):
    """Leave the mode as it is at the end of the block."""


@claim(
    "pytorch-notes/no-grad-decorator-restores-mode",
    finding="What comes back is the mode that there was, also after an exception: inside another no_grad it stays off.",
    controls=[replace("torch.no_grad.__exit__", forget_to_restore)],
)
@given(before=st.booleans(), error=st.sampled_from([None, Interrupted]))
def test_no_grad_ends_with_the_block_or_the_decorated_function(before, error):
    seen = []

    @torch.no_grad()
    def inference():
        seen.append(torch.is_grad_enabled())
        if error is not None:
            raise error

    with torch.set_grad_enabled(before):
        with pytest.raises(error) if error else nullcontext():
            inference()
        seen.append(torch.is_grad_enabled())
        with pytest.raises(error) if error else nullcontext(), torch.no_grad():
            inference.__wrapped__()
        seen.append(torch.is_grad_enabled())
    assert seen == [False, before, False, before]


def recorded(w):
    return (w * 2).requires_grad


def in_another_thread(w):
    with ThreadPoolExecutor(1) as other:
        return other.submit(recorded, w).result()


def under_enable_grad(w):
    with torch.enable_grad():
        return recorded(w)


TRACKED_NEVERTHELESS = {
    "enable_grad inside": under_enable_grad,
    "another thread": in_another_thread,
    "a view": lambda w: w.view(-1).requires_grad,
    "torch.ones(2, requires_grad=True)": lambda w: torch.ones(2, requires_grad=True).requires_grad,
    "a parameter": lambda w: nn.Parameter(w.detach()).requires_grad,
    "a layer's weight": lambda w: nn.Linear(2, 2).weight.requires_grad,
}


@claim(
    "pytorch-notes/no-grad-disables-whole-block",
    finding="However deep in the calls. What tracks all the same isn't the block's: enable_grad inside it, another "
    "thread; new tensors may ask for a gradient and are leaves, and views only report requires_grad.",
    controls=[still_tracking],
)
@pytest.mark.parametrize("exempt", TRACKED_NEVERTHELESS)
@given(w=leaves, depth=st.integers(0, 5), guard=st.just(torch.no_grad))
def test_no_grad_covers_the_block_and_all_that_it_calls(exempt, w, depth, guard):
    def nested(calls):
        return nested(calls - 1) if calls else recorded(w)

    with guard():
        assert not nested(depth)
        assert TRACKED_NEVERTHELESS[exempt](w)
    assert nested(depth)


class ModeOfWrites(TorchFunctionMode):
    """Whether gradients were on during each in-place operation."""

    def __init__(self):
        super().__init__()
        self.tracked = []

    def __torch_function__(self, function, types, args=(), kwargs=None):
        if function.__name__.endswith("_") and not function.__name__.endswith("__"):
            self.tracked.append(torch.is_grad_enabled())
        return function(*args, **(kwargs or {}))


OPTIMIZERS = ["SGD", "Adam", "AdamW", "RMSprop", "Adagrad", "Adadelta", "Adamax", "NAdam", "RAdam", "ASGD", "Rprop"]


@claim(
    "pytorch-notes/optimizer-step-runs-without-grad",
    finding="So does every optimizer that was tried; only differentiable=True keeps tracking on, on purpose.",
    controls=[override("differentiable", leaf=False, differentiable=True)],
)
@pytest.mark.parametrize("optimizer", OPTIMIZERS)
def test_an_optimizer_steps_with_gradients_off(optimizer, leaf=True, differentiable=False):
    weight = torch.ones(3, requires_grad=leaf)
    weight.grad = torch.ones(3)
    with ModeOfWrites() as mode:
        getattr(torch.optim, optimizer)([weight], differentiable=differentiable).step()
    assert not torch.equal(weight, torch.ones(3))
    assert mode.tracked
    assert not any(mode.tracked)
    assert (weight.is_leaf, weight.grad_fn) == (True, None)
