"""Section 1.6: moving tensors between CPU and GPU. What needs a GPU is marked so and skips without one."""

import pytest
import torch
from hypothesis import given

from fitcore.evaluation.memory import shares_storage
from fitcore.testing import REFUTED, claim, override, replace
from fitcore.testing.strategies import dtypes, shapes, strided, tensors

any_tensor = strided(tensors(shapes(min_side=0), dtypes(boolean=True, complex=True)))


def device_with_fallback():
    """The idiom: the GPU where there is one, else the CPU."""
    return torch.device("cuda" if torch.cuda.is_available() else "cpu")


def cuda_unasked():
    return torch.device("cuda")


def stay(tensor, *_):
    """As if the machine had what is asked for."""
    return tensor


def move_a_copy(tensor, device):
    return tensor.to(device, copy=True)


@pytest.fixture
def without_gpu(monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)


@claim(
    "pytorch-notes/cuda-call-without-gpu-raises",
    verdict=REFUTED,
    finding="Without an NVIDIA GPU and its driver .cuda() raises: nothing falls back to the CPU. .to(device), with the "
    "device that is_available() chooses, works.",
    controls=[replace("torch.Tensor.cuda", stay)],
)
@pytest.mark.skipif(torch.cuda.is_available(), reason="needs a machine without a CUDA device")
def test_cuda_raises_where_there_is_no_gpu():
    # A torch built without CUDA raises AssertionError.
    with pytest.raises((RuntimeError, AssertionError), match=r"NVIDIA|CUDA"):
        torch.ones((3, 3)).cuda()
    assert torch.equal(torch.ones((3, 3)).to(device_with_fallback()), torch.ones(3, 3))


@claim(
    "pytorch-notes/device-fallback-to-is-noop-on-cpu",
    finding="to() returns the very same tensor, no copy.",
    controls=[
        override("cuda without asking", device=cuda_unasked),
        override("copy=True", move=move_a_copy),
    ],
)
@pytest.mark.usefixtures("without_gpu")
@pytest.mark.parametrize("dtype", [torch.float32, torch.int64], ids=str)
def test_without_gpu_the_idiom_leaves_tensors_alone(dtype, device=device_with_fallback, move=torch.Tensor.to):
    a = torch.ones((3, 3), dtype=dtype)
    assert device() == torch.device("cpu")
    assert move(a, device()) is a


@claim(
    "pytorch-notes/device-idiom-works-with-and-without-gpu",
    finding="It takes cuda exactly where is_available() says that there is one, and the tensor goes there.",
    controls=[override("cuda without asking", device=cuda_unasked)],
)
@pytest.mark.usefixtures("without_gpu")
def test_the_idiom_works_without_a_gpu(monkeypatch, device=device_with_fallback):
    assert device().type == "cpu"
    assert torch.equal(torch.ones((3, 3)).to(device()), torch.ones(3, 3))
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    assert device().type == "cuda"


def always_the_cpu():
    return torch.device("cpu")


@claim(
    "pytorch-notes/device-idiom-works-with-and-without-gpu",
    controls=[override("the CPU without asking", device=always_the_cpu)],
)
@pytest.mark.gpu
def test_the_idiom_takes_the_gpu_where_there_is_one(device=device_with_fallback):
    a = torch.ones((3, 3)).to(device())
    assert a.is_cuda
    assert torch.equal(a.cpu(), torch.ones(3, 3))


@claim(
    "pytorch-notes/cuda-and-back-roundtrip",
    finding="Both are copies: the tensor itself stays where it is.",
    controls=[replace("torch.Tensor.cuda", stay), replace("torch.Tensor.cpu", stay, name="never fetched back")],
)
@pytest.mark.gpu
@given(a=any_tensor)
def test_a_tensor_comes_back_from_the_gpu_unchanged(a):
    there = a.cuda()
    assert there.device.type == "cuda"
    back = there.cpu()
    assert back.device.type == "cpu"
    assert back.dtype == a.dtype
    assert torch.equal(back, a)
    assert not shares_storage(back, a)
