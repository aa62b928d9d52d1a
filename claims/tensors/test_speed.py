"""Section 1.1, "higher performance": tensors against NumPy arrays and Python lists, one thread each."""

from functools import partial
from math import ceil
from time import perf_counter, thread_time
from timeit import repeat, timeit

import numpy as np
import pytest
import torch
from threadpoolctl import threadpool_limits

from fitcore.testing import CONDITIONAL, claim, override

ROUNDS = 15
TICK = 1e-7  # least duration of a call that we believe a clock: one may see none at all
SIZES = (10, 1_000, 100_000, 1_000_000)


def seconds(*contenders, clock, at_least=2e-4):
    """Least time of a call of each, (contenders,), of rounds in which they take turns."""
    calls = [ceil(at_least / max(min(repeat(run, timer=clock, number=1, repeat=9)), TICK)) for run in contenders]
    rounds = [
        [timeit(run, timer=clock, number=n) / n for run, n in zip(contenders, calls, strict=True)]
        for _ in range(ROUNDS)
    ]
    return np.min(rounds, axis=0)


def ratio(ours, theirs, clock=thread_time):
    """How many times as long ``ours`` takes as ``theirs``, by the time of this thread: other processes don't count."""
    first, second = seconds(ours, theirs, clock=clock)
    return first / second


def operands(make, *shape):
    """Two operands of ``shape`` in [0, 1), float32."""
    values = torch.linspace(0, 0.9, int(np.prod(shape))).reshape(shape)
    return make(values), make(values.clone())


def tensors(values):
    return values


def arrays(values):
    return values.numpy()


def add(make, n):
    a, b = operands(make, n)
    return lambda: a + b


def total(make, n):
    a, _ = operands(make, n)
    return a.sum


def exp(make, n):
    a, _ = operands(make, n)
    return partial(torch.exp if make is tensors else np.exp, a)


def tanh(make, n):
    a, _ = operands(make, n)
    return partial(torch.tanh if make is tensors else np.tanh, a)


def matmul(make, n):
    a, b = operands(make, n, n)
    return lambda: a @ b


OPERATIONS = {add: SIZES, total: SIZES, exp: SIZES, tanh: SIZES, matmul: (4, 256)}


@claim(
    "pytorch-notes/tensor-faster-than-numpy-cpu",
    "pytorch-notes/tensor-performs-better-than-plain-array",
    verdict=CONDITIONAL,
    finding="On one CPU thread it depends on the operation and the size, and mostly the array is as fast or faster. "
    "Adding ten numbers takes torch two to four times as long as NumPy, for the cost of a call; summing 100,000 takes "
    "it less than half the time; additions of a million and products of large matrices take the same to within a "
    "fifth. torch's own threads, which NumPy's element-wise operations don't have, are left out here.",
    controls=[override("tensors on both sides", theirs=tensors), override("arrays on both sides", ours=arrays)],
)
def test_on_a_cpu_thread_tensors_are_faster_than_arrays_at_some_things(evidence, ours=tensors, theirs=arrays):
    with threadpool_limits(1, user_api="blas"):
        ratios = {
            (operation.__name__, n): ratio(operation(ours, n), operation(theirs, n))
            for operation, sizes in OPERATIONS.items()
            for n in sizes
        }
    rows = [{"operation": name, "n": n, "time of torch over NumPy": r} for (name, n), r in ratios.items()]
    evidence.table("time of torch over NumPy, float32, one thread", rows)
    assert ratios["add", 10] > 1.5
    assert ratios["total", 100_000] < 0.8


def synchronised(operation):
    """Wait for the GPU's result, as a clock must."""

    def run():
        operation()
        torch.cuda.synchronize()

    return run


def on_gpu(values):
    return values.cuda()


@claim(
    "pytorch-notes/tensor-performs-better-than-plain-array",
    verdict=CONDITIONAL,
    finding="On a GPU, where a run has one, the product of two 2048x2048 matrices is expected to take less than half "
    "the time of NumPy's on all CPU cores, and adding ten numbers longer than NumPy's, since starting a kernel costs "
    "more than the work.",
    controls=[override("arrays on both sides", ours=arrays)],
)
@pytest.mark.gpu
def test_on_a_gpu_tensors_are_faster_than_arrays_where_there_is_much_to_do(evidence, ours=on_gpu):
    small, large = (
        ratio(synchronised(operation(ours, n)), operation(arrays, n), perf_counter)
        for operation, n in ((add, 10), (matmul, 2048))
    )
    evidence.observe("time on the GPU over NumPy's, ten numbers added", small)
    evidence.observe("time on the GPU over NumPy's, matrices multiplied", large)
    assert small > 1.2
    assert large < 0.5


def add_one_to_a_tensor(n):
    tensor = torch.arange(float(n))
    return lambda: tensor + 1


def add_one_to_a_list(n):
    numbers = list(range(n))
    return lambda: [number + 1 for number in numbers]


@claim(
    "pytorch-notes/tensor-faster-than-python-list",
    finding="Fifty times as fast, or more. Below some 200 numbers the list is faster, for ten by a factor of seven to "
    "ten; and making a tensor of a list takes several times as long as adding one to every number in it.",
    controls=[override("lists on both sides", ours=add_one_to_a_list)],
)
def test_a_tensor_of_many_numbers_is_faster_than_a_list(evidence, ours=add_one_to_a_tensor):
    sizes = (10, 100, 1_000, 10_000, 100_000)
    ratios = [ratio(add_one_to_a_list(n), ours(n)) for n in sizes]
    evidence.curve("time of the list over that of the tensor", sizes, {"adding one": ratios}, x_label="numbers")
    to_convert = ratio(partial(torch.tensor, list(range(10_000))), add_one_to_a_list(10_000))
    evidence.observe("time to make a tensor of the list over that to add one in the list", to_convert)
    assert ratios[-1] > 5
