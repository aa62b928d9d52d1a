"""What tensors on a GPU do that tensors on the CPU don't: devices, the order of copies, rounding, determinism."""

from contextlib import contextmanager
from copy import deepcopy

import pytest
import torch
from torch import nn
from torch.nn.functional import cross_entropy

from fitcore.evaluation.ceilings import product, wait_for
from fitcore.models import MLP
from fitcore.testing import CONDITIONAL, claim, error_of, override, replace

pytestmark = pytest.mark.gpu


@claim(
    "pytorch-notes/numpy-refuses-cuda-tensors",
    finding="TypeError, which names Tensor.cpu(). The array that comes by that way is a copy: what is done to it "
    "leaves the tensor alone.",
    controls=[override("a tensor on the CPU", device="cpu")],
)
def test_a_tensor_on_the_gpu_is_no_array_before_it_is_fetched(device="cuda"):
    a = torch.ones(3, device=device)
    assert "Tensor.cpu()" in str(error_of(a.numpy))
    fetched = a.cpu().numpy()
    fetched += 1
    assert torch.equal(a.cpu(), torch.ones(3))


@claim(
    "pytorch-notes/operands-must-be-on-one-device",
    verdict=CONDITIONAL,
    finding="RuntimeError, for both orders. A tensor without dimensions on the CPU is the exception: in elementwise "
    "operations it goes as a number.",
    controls=[override("both on the GPU", elsewhere="cuda")],
)
@pytest.mark.parametrize("operation", [torch.add, torch.dot], ids=["a + b", "dot"])
def test_operands_on_two_devices_raise_unless_one_is_a_number(operation, elsewhere="cpu"):
    a, b = torch.ones(3, device="cuda"), torch.ones(3, device=elsewhere)
    assert "same device" in str(error_of(operation, a, b))
    assert "same device" in str(error_of(operation, b, a))
    assert torch.equal((a + torch.tensor(1.0)).cpu(), torch.full((3,), 2.0))


def products_of_a_fifth_of_a_second(device):
    """Work that is asked for in a moment, and keeps the GPU busy for long."""
    multiply = product(8192, torch.float32, device)
    return lambda: [multiply() for _ in range(10)]


def do_not_wait(device):
    """Read at once."""


@claim(
    "pytorch-notes/non-blocking-copies-may-be-used-at-once",
    verdict=CONDITIONAL,
    finding="On the GPU they may: what is asked for after the copy, on the same stream, runs after it. On the CPU they "
    "may not: until somebody has waited, the memory that a tensor is fetched to holds what was there before.",
    controls=[
        override("the reader on a stream of its own", reader=torch.cuda.Stream),
        override("waited for", wait=wait_for),
    ],
)
def test_a_non_blocking_copy_is_seen_by_the_gpu_at_once_and_by_the_cpu_later(
    reader=torch.cuda.current_stream, wait=do_not_wait, n=2**26
):
    device = torch.device("cuda")
    ones, there, stream = torch.ones(n).pin_memory(), torch.zeros(n, device=device), reader()
    wait_for(device)
    with torch.cuda.stream(stream):
        there.amin()  # the memory that this needs, which belongs to a stream, is there from now on
    busy, fetched = products_of_a_fifth_of_a_second(device), torch.zeros(n).pin_memory()
    busy()
    wait_for(device)
    busy()
    there.copy_(ones, non_blocking=True)
    with torch.cuda.stream(stream):
        least = there.amin()
    wait_for(device)
    assert least.item() == 1
    busy()
    fetched.copy_(there, non_blocking=True)
    wait(device)
    assert fetched[-1].item() == 0
    wait_for(device)
    assert fetched.amin().item() == 1


def gradients(model, x, y):
    """Of the loss, by every parameter, in one vector on the CPU."""
    model.zero_grad()
    cross_entropy(model(x), y).backward()
    return torch.cat([parameter.grad.flatten() for parameter in model.parameters()]).cpu().double()


@claim(
    "pytorch-notes/cpu-and-gpu-agree-up-to-rounding",
    finding="The gradients of a perceptron differ by less than 1e-4 of the largest in float32, and by less than 1e-10 "
    "in float64, but rarely in no bit: sums are taken in another order.",
    controls=[override("bfloat16 on the GPU", kind_on_gpu=torch.bfloat16)],
)
@pytest.mark.parametrize(("kind", "tolerance"), [(torch.float32, 1e-4), (torch.float64, 1e-10)], ids=str)
def test_cpu_and_gpu_give_the_same_gradients_up_to_rounding(kind, tolerance, trials, evidence, kind_on_gpu=None):
    def largest_difference(seed):
        model = MLP([784, 128, 128, 10], nn.Tanh).to(kind)
        x, y = torch.rand(256, 784, dtype=kind), torch.randint(10, (256,))
        on_cpu = gradients(model, x, y)
        on_gpu = gradients(deepcopy(model).to("cuda", kind_on_gpu), x.to("cuda", kind_on_gpu), y.cuda())
        return (on_gpu - on_cpu).abs().max() / on_cpu.abs().max()

    differences = trials.map(largest_difference)
    evidence.observe("largest difference over largest gradient", differences, limit=tolerance)
    trials.always(differences < tolerance)


@contextmanager
def deterministic():
    before = torch.are_deterministic_algorithms_enabled()
    torch.use_deterministic_algorithms(True)
    try:
        yield
    finally:
        torch.use_deterministic_algorithms(before)


def leave_the_switch(mode):
    """As if it did nothing."""


def distinct(results):
    """How many of the results differ in some bit."""
    return len({tuple(result.tolist()) for result in results})


@claim(
    "pytorch-notes/deterministic-switch-repeats-sums-on-a-gpu",
    finding="Twenty sums of the same four million numbers into sixteen bins are the same to the bit with the switch, "
    "and not without: threads add in the order in which they happen to come.",
    controls=[replace("torch.use_deterministic_algorithms", leave_the_switch)],
)
def test_with_the_switch_a_gpu_adds_in_the_same_order_every_time(evidence, n=2**22, bins=16, repeats=20):
    numbers, bin_of = torch.rand(n, device="cuda"), torch.randint(bins, (n,), device="cuda")

    def sums():
        return torch.zeros(bins, device="cuda").index_add_(0, bin_of, numbers).cpu()

    at_will = [sums() for _ in range(repeats)]
    with deterministic():
        repeated = [sums() for _ in range(repeats)]
    evidence.table("results of 20 runs", [{"with the switch": distinct(repeated), "without": distinct(at_will)}])
    assert distinct(repeated) == 1
    assert distinct(at_will) > 1
    torch.testing.assert_close(repeated[0], at_will[0], rtol=1e-3, atol=0.0)
