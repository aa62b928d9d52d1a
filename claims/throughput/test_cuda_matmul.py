"""Products of matrices on a GPU, in three precisions."""

import pytest
import torch

from fitcore.evaluation.ceilings import product, product_rate, while_memory_lasts
from fitcore.testing import claim, override

pytestmark = pytest.mark.gpu

SIZES = tuple(2**power for power in range(6, 14))
FLOAT32 = {"dtype": torch.float32}
PRECISIONS = {"float32": FLOAT32, "TF32": {**FLOAT32, "tf32": True}, "bfloat16": {"dtype": torch.bfloat16}}


@claim(
    "fitcore/gpu-bf16-products-reach-the-peak",
    controls=[override("float32 in its place", dtype=torch.float32)],
)
def test_large_bf16_products_reach_three_quarters_of_the_published_peak(
    *, headline, ceilings, published, device, evidence, dtype=torch.bfloat16, size=8192
):
    flops = 2 * size**3
    of_large = flops / headline(product(size, dtype, device), flops=flops, peak=ceilings.bf16, rounds=10, calls=3)
    rate = max(of_large, product_rate(size // 2, dtype, device, rounds=10))
    evidence.figure(
        "dense bfloat16 products, TFLOP/s: published and measured",
        reported=published.bf16_flops / 1e12,
        measured=rate / 1e12,
        tolerance=0.25 * published.bf16_flops / 1e12,
    )
    assert rate >= 0.75 * published.bf16_flops


@claim(
    "fitcore/gpu-short-formats-pay-in-large-products",
    controls=[override("float32 in all three", precisions=dict.fromkeys(PRECISIONS, FLOAT32))],
)
def test_tf32_and_bfloat16_pay_in_large_products(
    *, headline, ceilings, device, evidence, precisions=PRECISIONS, sizes=SIZES
):
    rates = {
        name: while_memory_lasts(lambda size, how=how: product_rate(size, device=device, **how), sizes)
        for name, how in precisions.items()
    }
    largest = min(max(of_size) for of_size in rates.values())
    headline(product(largest, torch.bfloat16, device), flops=2 * largest**3, peak=ceilings.bf16)
    common = [size for size in sizes if size <= largest]
    measured = {name: [of_size[size] / 1e12 for size in common] for name, of_size in rates.items()}
    bytes_a_number = {name: how["dtype"].itemsize for name, how in PRECISIONS.items()}
    peaks = {"float32": ceilings.fp32, "TF32": ceilings.tf32, "bfloat16": ceilings.bf16}
    roofs = {
        name: [ceilings.roofline(size / (1.5 * bytes_a_number[name]), peak) / 1e12 for size in common]
        for name, peak in peaks.items()
    }
    evidence.curve("TFLOP/s of the product of two square matrices", common, measured, "rows", roofs=roofs)
    assert rates["TF32"][largest] > 2 * rates["float32"][largest]
    assert rates["bfloat16"][largest] > 1.3 * rates["TF32"][largest]
    assert rates["bfloat16"][sizes[0]] < 0.02 * rates["bfloat16"][largest]
