"""Section 6.7.1: a function that tunes a DataLoader, and what its settings do."""

import os
import sys
from contextlib import contextmanager, redirect_stdout
from io import StringIO
from math import prod
from time import perf_counter
from types import SimpleNamespace
from unittest.mock import patch

import hypothesis.strategies as st
import pytest
import torch
from hypothesis import example, given
from torch import nn
from torch.autograd.graph import saved_tensors_hooks
from torch.utils.data import DataLoader, Dataset, SequentialSampler, TensorDataset
from torchvision.models import resnet18

from fitcore.evaluation.memory import allocated_bytes
from fitcore.testing import CONDITIONAL, REFUTED, claim, error_of, override

pytestmark = pytest.mark.filterwarnings("ignore:This DataLoader will create")  # more workers than cores

IMAGES = TensorDataset(torch.zeros(200, 3, 32, 32), torch.zeros(200, dtype=torch.int64))
IMAGE_BYTES = 3 * 32 * 32 * 4


def at_most_a_fifth(batch_size, sample_bytes, memory):
    """The listing's rule: as asked for, or as many samples as fill a fifth of the memory, if that is fewer."""
    return min(batch_size, int(memory * 0.2 / sample_bytes))


def as_asked_for(batch_size, sample_bytes, memory):
    return batch_size


def a_fifth(batch_size, sample_bytes, memory):
    return int(memory * 0.2 / sample_bytes)


def tuned_loader(dataset, batch_size=64, rule=at_most_a_fifth):
    """The listing's function."""
    import psutil  # noqa: PLC0415 - as there

    num_workers = min(8, psutil.cpu_count(logical=False))
    on_gpu = torch.cuda.is_available()
    if on_gpu:
        sample = dataset[0][0]
        memory = torch.cuda.get_device_properties(0).total_memory
        batch_size = rule(batch_size, sample.element_size() * sample.nelement(), memory)
    print(f"num_workers: {num_workers}\nbatch_size: {batch_size}")
    return DataLoader(
        dataset,
        batch_size,
        shuffle=True,
        num_workers=num_workers,
        pin_memory=on_gpu,
        prefetch_factor=2 if num_workers else None,
        persistent_workers=num_workers > 0,
    )


def psutil_of(physical):
    """A psutil that counts so many physical cores; None where it can't tell."""
    return SimpleNamespace(cpu_count=lambda logical=True: 2 * (physical or 1) if logical else physical)


def psutil_of_logical(physical):
    return SimpleNamespace(cpu_count=lambda logical=True: 2 * physical)


@contextmanager
def machine(psutil, gpu_memory=None):
    """Pretend to have this psutil, and a GPU of so many bytes or none."""
    properties = SimpleNamespace(total_memory=gpu_memory)
    with (
        patch.dict(sys.modules, psutil=psutil),
        patch("torch.cuda.is_available", lambda: gpu_memory is not None),
        patch("torch.cuda.get_device_properties", lambda _: properties),
    ):
        yield


@claim(
    "pytorch-notes/optimize-dataloader-runs",
    verdict=CONDITIONAL,
    finding="Where psutil is installed, which torch doesn't bring, and can tell the physical cores, it prints their "
    "number, at most 8, and the batch size asked for. Else it raises ModuleNotFoundError; or TypeError, where "
    "psutil can't tell and returns None. `os.cpu_count() or 1` needs neither, and counts logical cores.",
    controls=[override("logical cores", psutil=psutil_of_logical)],
)
@example(physical=2, batch_size=64, psutil=psutil_of)
@example(physical=16, batch_size=64, psutil=psutil_of)
@given(physical=st.integers(1, 64), batch_size=st.integers(1, 300), psutil=st.just(psutil_of))
def test_it_takes_up_to_8_workers_where_physical_cores_can_be_counted(physical, batch_size, psutil):
    with machine(psutil(physical)), redirect_stdout(StringIO()) as printed:
        loader = tuned_loader(IMAGES, batch_size)
    assert printed.getvalue().split() == ["num_workers:", str(min(8, physical)), "batch_size:", str(batch_size)]
    assert (loader.num_workers, loader.batch_size) == (min(8, physical), batch_size)
    with machine(psutil=None):
        assert isinstance(error_of(tuned_loader, IMAGES), ModuleNotFoundError)
    with machine(psutil_of(None)):
        assert isinstance(error_of(tuned_loader, IMAGES), TypeError)


@claim(
    "pytorch-notes/optimize-dataloader-runs",
    verdict=CONDITIONAL,
    finding="With two workers its loader serves every image in every epoch.",
    controls=[override("cores that can't be counted", physical=None)],
)
def test_the_tuned_loader_serves_all_images(capsys, physical=2):
    with machine(psutil_of(physical)):
        assert error_of(tuned_loader, IMAGES) is None
        loader = tuned_loader(IMAGES)
    assert "num_workers: 2" in capsys.readouterr().out
    assert [sum(len(labels) for _, labels in loader) for _ in range(2)] == [200, 200]


def tuned_batch_size(shape, memory, batch_size, rule):
    """For float32 samples of this shape, here without memory of their own."""
    with machine(psutil_of(2), memory), redirect_stdout(StringIO()):
        return tuned_loader([(torch.zeros(()).expand(shape), 0)], batch_size, rule).batch_size


other_rules = [override("as asked for", rule=as_asked_for), override("a fifth of the memory", rule=a_fifth)]


@claim(
    "pytorch-notes/optimize-batch-size-adapts",
    verdict=CONDITIONAL,
    finding="Only downwards, and only where the inputs of a batch alone would take more than a fifth of the memory. "
    "Images of 32 x 32 pixels keep 64 on every GPU of 4 MiB or more; of 4096 x 4096 pixels 25 fit on one of 24 GiB. "
    "However large the memory, the batch is never larger than asked for.",
    controls=other_rules,
)
def test_the_batch_size_of_small_images_is_the_same_on_every_gpu(evidence, rule=at_most_a_fifth):
    gpus = {"8 GiB": 2**33, "24 GiB": 3 * 2**33, "141 GB": 141 * 10**9}
    small, large = (
        {gpu: tuned_batch_size((3, side, side), memory, 64, rule) for gpu, memory in gpus.items()}
        for side in (32, 4096)
    )
    evidence.table("batch size", [{"GPU": gpu, "32 x 32": small[gpu], "4096 x 4096": large[gpu]} for gpu in gpus])
    assert set(small.values()) == {64}
    assert list(large.values()) == [8, 25, 64]
    assert tuned_batch_size((3, 32, 32), 2**20, 64, rule) == 17


@claim(
    "pytorch-notes/optimize-batch-size-adapts",
    verdict=CONDITIONAL,
    finding="Where a fifth of the memory is less than one sample, the batch size is 0, which DataLoader refuses.",
    controls=other_rules,
)
@example(shape=(3, 32, 32), fit=17, batch_size=64, rule=at_most_a_fifth)
@example(shape=(3, 32, 32), fit=139_810, batch_size=64, rule=at_most_a_fifth)
@given(
    shape=st.sampled_from([(3, 32, 32), (3, 224, 224), (3, 4096, 4096), (1,)]),
    fit=st.integers(1, 1000),
    batch_size=st.just(64) | st.integers(1, 1000),
    rule=st.just(at_most_a_fifth),
)
def test_the_batch_is_cut_to_what_fills_a_fifth_of_the_memory(shape, fit, batch_size, rule):
    sample_bytes = 4 * prod(shape)
    assert tuned_batch_size(shape, (5 * fit + 2) * sample_bytes, batch_size, rule) == min(batch_size, fit)
    error = error_of(tuned_batch_size, shape, 2 * sample_bytes, batch_size, rule)
    assert isinstance(error, ValueError)
    assert "batch_size" in str(error)


@pytest.mark.gpu
@claim(
    "pytorch-notes/optimize-batch-size-adapts",
    verdict=CONDITIONAL,
    finding="The memory of this GPU leaves 64 as it is.",
    controls=other_rules,
)
def test_the_memory_of_this_gpu_leaves_64_and_cuts_a_billion(evidence, rule=at_most_a_fifth):
    memory = torch.cuda.get_device_properties(0).total_memory
    evidence.observe("memory of the GPU", memory / 2**30, unit="GiB")
    with patch.dict(sys.modules, psutil=psutil_of(2)):
        assert tuned_loader(IMAGES, rule=rule).batch_size == 64
        assert tuned_loader(IMAGES, 10**9, rule).batch_size == int(memory * 0.2 / IMAGE_BYTES)


def linear(num_classes):
    return nn.Sequential(nn.Flatten(), nn.Linear(IMAGE_BYTES // 4, num_classes))


def saved_bytes(model, samples):
    """What the forward pass keeps for backward, parameters included."""
    saved = []
    with saved_tensors_hooks(lambda tensor: saved.append(tensor) or tensor, lambda tensor: tensor):
        model(torch.rand(samples, 3, 32, 32))
    return allocated_bytes(*saved)


one_layer = override("one linear layer", network=linear)


@claim(
    "pytorch-notes/batch-memory-counts-activations",
    verdict=REFUTED,
    finding="ResNet-18 keeps 444 KiB for backward of every image of 12 KiB, 37 times its input: a batch whose inputs "
    "fill a fifth of the memory would need seven times the memory that there is. A single linear layer keeps its input "
    "alone.",
    controls=[one_layer],
)
def test_a_deep_network_keeps_many_times_its_input(evidence, network=resnet18):
    of_network, of_one_layer = (
        (saved_bytes(model, 4) - saved_bytes(model, 2)) / 2 for model in (network(num_classes=10), linear(10))
    )
    evidence.table(
        "kept for backward, of each image",
        [{"input, KiB": IMAGE_BYTES / 1024, "ResNet-18, KiB": of_network / 1024, "linear, KiB": of_one_layer / 1024}],
    )
    assert of_network > 10 * IMAGE_BYTES
    assert of_one_layer == IMAGE_BYTES


def peak_bytes(model, samples):
    """Most that was allocated on the GPU at any time of a forward and backward pass."""
    torch.cuda.reset_peak_memory_stats()
    model(torch.rand(samples, 3, 32, 32, device="cuda")).sum().backward()
    model.zero_grad()
    torch.cuda.synchronize()
    return torch.cuda.max_memory_allocated()


@pytest.mark.gpu
@claim(
    "pytorch-notes/batch-memory-counts-activations",
    verdict=REFUTED,
    finding="So does the peak of what is allocated on a GPU.",
    controls=[one_layer],
)
def test_a_training_step_on_the_gpu_allocates_many_times_its_input(evidence, network=resnet18):
    model = network(num_classes=10).cuda()
    peak_bytes(model, 512)  # what is allocated once and kept
    # Far apart, for the workspace of a convolution may be larger for a small batch than for a large one.
    per_image = (peak_bytes(model, 4096) - peak_bytes(model, 512)) / 3584
    evidence.observe("peak memory of each image", per_image / 1024, unit="KiB", limit=IMAGE_BYTES / 1024)
    assert per_image > 10 * IMAGE_BYTES


class CountedSampler(SequentialSampler):
    """How many indices have been drawn."""

    def __init__(self, dataset):
        super().__init__(dataset)
        self.drawn = 0

    def __iter__(self):
        for index in super().__iter__():
            self.drawn += 1
            yield index


def batches_ahead(num_workers, **options):
    """How many batches a loader asks its workers for before the first one is taken from it."""
    sampler = CountedSampler(IMAGES)
    iterator = iter(DataLoader(IMAGES, batch_size=1, sampler=sampler, num_workers=num_workers, **options))
    ahead = sampler.drawn
    del iterator  # ends the workers
    return ahead


@claim(
    "pytorch-notes/prefetch-factor-2-is-default",
    finding="Each worker is asked for two batches in advance, be the factor given or not. Without workers it is None, "
    "and to give 2 raises ValueError: hence the listing's condition.",
    controls=[override("three", factor=3)],
)
@pytest.mark.parametrize("num_workers", [1, 2])
def test_two_batches_for_each_worker_are_asked_for_in_advance(num_workers, factor=2):
    given = DataLoader(IMAGES, num_workers=num_workers, prefetch_factor=factor)
    assert given.prefetch_factor == DataLoader(IMAGES, num_workers=num_workers).prefetch_factor == 2
    assert batches_ahead(num_workers, prefetch_factor=factor) == batches_ahead(num_workers) == 2 * num_workers
    assert DataLoader(IMAGES).prefetch_factor is None
    assert "num_workers > 0" in str(error_of(DataLoader, IMAGES, prefetch_factor=factor))


class ProcessIds(Dataset):
    """2,000 samples, each the process that reads it."""

    def __len__(self):
        return 2000

    def __getitem__(self, index):
        return os.getpid()


def epochs_of_workers(persistent_workers):
    """The processes that serve each of three epochs, and the seconds that the faster one of the later two took."""
    loader = DataLoader(ProcessIds(), batch_size=250, num_workers=2, persistent_workers=persistent_workers)
    processes, seconds = [], []
    for _ in range(3):
        start = perf_counter()
        processes.append(set(torch.cat(list(loader)).tolist()))
        seconds.append(perf_counter() - start)
    return processes, min(seconds[1:])


@claim(
    "pytorch-notes/persistent-workers-save-startup",
    finding="The same two processes serve all epochs, where by default each epoch starts two others. An epoch of 2,000 "
    "samples that are in memory then takes some milliseconds instead of a tenth of a second.",
    controls=[override("not persistent", persistent=False)],
)
def test_persistent_workers_are_started_once(evidence, persistent=True):
    kept, seconds = epochs_of_workers(persistent_workers=persistent)
    restarted, seconds_with_restart = epochs_of_workers(persistent_workers=False)
    evidence.table("a later epoch, ms", [{"persistent": 1e3 * seconds, "restarted": 1e3 * seconds_with_restart}])
    assert kept[0] == kept[1] == kept[2]
    assert len(set.union(*restarted)) == sum(map(len, restarted)) == 6
    assert seconds < 0.7 * seconds_with_restart
