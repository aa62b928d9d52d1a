"""What a device can do at best: the peaks that its maker publishes, and the products and copies that it reaches."""

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import TypeVar

import torch
from torch import Tensor

from fitcore.evaluation.throughput import least_seconds

Size = TypeVar("Size")
Result = TypeVar("Result")


@dataclass(frozen=True)
class Peaks:
    """What a data sheet says: dense bfloat16 operations and bytes of device memory, a second."""

    bf16_flops: float
    bandwidth: float


PUBLISHED_PEAKS = {
    "NVIDIA H200": Peaks(989.4e12, 4.8e12),
    "NVIDIA H100 80GB HBM3": Peaks(989.4e12, 3.35e12),
    "NVIDIA A100-SXM4-80GB": Peaks(312e12, 2.039e12),
    "NVIDIA A100-SXM4-40GB": Peaks(312e12, 1.555e12),
}
"""By the name that torch.cuda.get_device_name() tells.

Source: the data sheets of NVIDIA H200, H100 and A100 Tensor Core GPUs, SXM, without sparsity.
"""


@dataclass(frozen=True)
class Ceilings:
    """What a device reached, in operations and in bytes a second.

    Attributes:
        fp32: of the product of large float32 matrices, rounded as float32 is.
        tf32: of the same product where torch may round its factors to TF32.
        bf16: of the product of large bfloat16 matrices.
        copy: bytes read and written by a copy within the device.
    """

    fp32: float
    tf32: float
    bf16: float
    copy: float

    def roofline(self, intensity: float, peak: float) -> float:
        """Most operations a second of work that does ``intensity`` of them for every byte it moves.

        ``peak`` is what the kind of operation allows, as ``fp32``.

        Source: S. Williams, A. Waterman, D. Patterson, "Roofline", Communications of the ACM 52 (2009).
        """
        return min(peak, intensity * self.copy)


def measured_ceilings(device: torch.device, size: int = 8192, megabytes: int = 4096) -> Ceilings:
    """Time products of ``size`` by ``size`` matrices, and a copy of so many megabytes, on ``device``."""
    return Ceilings(
        fp32=product_rate(size, torch.float32, device),
        tf32=product_rate(size, torch.float32, device, tf32=True),
        bf16=product_rate(size, torch.bfloat16, device),
        copy=copy_rate(megabytes, device),
    )


def product_rate(size: int, dtype: torch.dtype, device: torch.device, *, tf32: bool = False, rounds: int = 5) -> float:
    """Operations a second of the product of two ``size`` by ``size`` matrices.

    Of random numbers: with constant ones a GPU takes less power, and runs faster than it ever would at work. ``tf32``
    lets torch round the factors of float32 products to TF32, on devices that can.
    """
    before = torch.get_float32_matmul_precision()
    torch.set_float32_matmul_precision("high" if tf32 else "highest")
    try:
        return 2 * size**3 / seconds_a_call(product(size, dtype, device), device, rounds)
    finally:
        torch.set_float32_matmul_precision(before)


def product(size: int, dtype: torch.dtype, device: torch.device) -> Callable[[], Tensor]:
    """What multiplies two ``size`` by ``size`` matrices of random numbers, into memory of its own."""
    a, b = (torch.randn(size, size, device=device).to(dtype) for _ in range(2))
    out = torch.empty_like(a)
    return lambda: torch.mm(a, b, out=out)


def copy_rate(megabytes: int, device: torch.device, rounds: int = 5) -> float:
    """Bytes a second that a copy within the device moves, by the driver or by a kernel of torch's, whichever is faster.

    Each byte is read once and written once.
    """
    source = torch.rand(megabytes * 2**20 // 4, device=device)
    destination = torch.empty_like(source)
    by_driver = seconds_a_call(lambda: destination.copy_(source), device, rounds)
    by_kernel = seconds_a_call(lambda: torch.mul(source, 1.0, out=destination), device, rounds)
    return 2 * source.nbytes / min(by_driver, by_kernel)


def synchronised(run: Callable[[], object], device: torch.device, calls: int = 1) -> Callable[[], None]:
    """``calls`` calls of ``run`` one after the other, and then, as a clock must, to wait until the device is done."""

    def run_and_wait() -> None:
        for _ in range(calls):
            run()
        wait_for(device)

    return run_and_wait


def name_of(device: torch.device) -> str:
    """The device's product name, by which `PUBLISHED_PEAKS` goes; of a CPU only its type."""
    return torch.cuda.get_device_name(device) if device.type == "cuda" else device.type


def wait_for(device: torch.device) -> None:
    """Return when all that was asked of ``device`` is done. A CPU has nothing outstanding."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)


def seconds_a_call(run: Callable[[], object], device: torch.device, rounds: int = 5, calls: int = 10) -> float:
    """Least time of a call, of rounds of several calls that wait for the device only at their end."""
    return least_seconds({"run": synchronised(run, device, calls)}, rounds)["run"] / calls


def peak_memory(run: Callable[[], object], device: torch.device) -> int:
    """Bytes of all tensors, beyond those that live before, at the moment of a call when they are most.

    Only CUDA devices count them: of others it is 0.
    """
    if device.type != "cuda":
        return 0
    wait_for(device)
    torch.cuda.reset_peak_memory_stats(device)
    before = torch.cuda.memory_allocated(device)
    run()
    wait_for(device)
    return torch.cuda.max_memory_allocated(device) - before


def while_memory_lasts(measure: Callable[[Size], Result], sizes: Iterable[Size]) -> dict[Size, Result]:
    """``measure(size)`` of one size after the other, until the device has too little memory for one.

    Raises:
        torch.OutOfMemoryError: it has too little even for the first.
    """
    results: dict[Size, Result] = {}
    for size in sizes:
        try:
            results[size] = measure(size)
        except torch.OutOfMemoryError:
            if not results:
                raise
            break
    torch.cuda.empty_cache()  # here no traceback holds the tensors of the last size any more
    return results
