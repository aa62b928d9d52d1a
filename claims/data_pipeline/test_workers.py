"""Sections 6.1.1 and 6.3.1: what num_workers starts, what it costs, and what a script needs for it."""

import os
import random
import threading
import time
from multiprocessing import get_all_start_methods, get_context
from runpy import run_path
from timeit import repeat

import numpy as np
import pytest
import torch
from torch.utils.data import DataLoader, Dataset, TensorDataset, get_worker_info

from fitcore.testing import CONDITIONAL, REFUTED, claim, override

pytestmark = pytest.mark.filterwarnings("ignore:This DataLoader will create")  # more workers than cores


class Whereabouts(Dataset):
    """Where each sample is read: the process, and whether by its main thread."""

    def __len__(self):
        return 8

    def __getitem__(self, index):
        return os.getpid(), threading.current_thread() is threading.main_thread()


def processes(num_workers):
    """Processes that read the samples, and whether all by their main threads."""
    loader = DataLoader(Whereabouts(), batch_size=1, num_workers=num_workers)
    pids, by_main_thread = (torch.cat(column) for column in zip(*loader, strict=True))
    return set(pids.tolist()), bool(by_main_thread.all())


@claim(
    "pytorch-notes/num-workers-are-processes",
    finding="Four processes beside the one that trains.",
    controls=[override("no workers", num_workers=0)],
)
def test_four_workers_are_four_other_processes(shared, num_workers=4):
    pids, _ = shared(processes, num_workers)
    assert len(pids) == 4
    assert os.getpid() not in pids


@claim(
    "pytorch-notes/dataloader-workers-are-threads",
    verdict=REFUTED,
    finding="Samples are read by the main threads of processes of their own, and none in the process that asks for "
    "them. With num_workers=0 that process reads them itself, in its main thread.",
    controls=[override("no workers", num_workers=0)],
)
def test_workers_are_no_threads_of_the_loading_process(shared, num_workers=4):
    pids, by_main_threads = shared(processes, num_workers)
    assert os.getpid() not in pids
    assert by_main_threads
    assert shared(processes, 0) == ({os.getpid()}, True)


class Draws(Dataset):
    """A number of each generator for every sample: torch's, NumPy's and Python's own."""

    def __len__(self):
        return 8

    def __getitem__(self, index):
        return torch.rand(()).item(), np.random.random(), random.random()  # noqa: NPY002


def forget_the_seed(worker):
    """Seed a worker's generators alike, as a fork of one state would leave them."""
    torch.manual_seed(0)
    np.random.seed(0)  # noqa: NPY002
    random.seed(0)


def drawn_by_workers(seed, seed_worker=None):
    """What two workers draw in two epochs, (epochs, samples, generators)."""
    torch.manual_seed(seed)
    loader = DataLoader(Draws(), batch_size=1, num_workers=2, worker_init_fn=seed_worker)
    return torch.stack([torch.stack([torch.stack(numbers)[:, 0] for numbers in loader]) for _ in range(2)])


@claim(
    "pytorch-notes/workers-draw-numbers-of-their-own",
    finding="torch seeds its generator, NumPy's and Python's in every worker anew for every epoch, from its own in the "
    "main process and the worker's number: all numbers differ, and torch.manual_seed before the loop repeats them.",
    controls=[override("all workers seeded alike", seed_worker=forget_the_seed)],
    trials=1,
)
def test_workers_draw_different_numbers_that_a_seed_repeats(trials, seed_worker=None):
    seed = int(trials.seeds[0])
    numbers = drawn_by_workers(seed, seed_worker)
    assert len(numbers.flatten().unique()) == numbers.numel()
    assert torch.equal(drawn_by_workers(seed, seed_worker), numbers)


class SlowFirst(Dataset):
    """Eight samples; what is read by the first of two workers takes longer."""

    def __len__(self):
        return 8

    def __getitem__(self, index):
        time.sleep(0.02 if get_worker_info().id == 0 else 0.0)
        return index


@claim(
    "pytorch-notes/workers-keep-the-order-of-the-sampler",
    finding="The faster worker's batches wait for those of the slower; in_order=False hands them out as they come.",
    controls=[override("in_order=False", in_order=False)],
)
@pytest.mark.parametrize("sampler", [None, [5, 0, 7, 2, 6, 1, 4, 3]], ids=["sequential", "mixed"])
def test_batches_come_in_the_order_of_the_sampler(sampler, in_order=True):
    loader = DataLoader(SlowFirst(), batch_size=1, num_workers=2, sampler=sampler, in_order=in_order)
    assert [int(batch) for batch in loader] == (sampler or list(range(8)))


class Waiting(Dataset):
    """32 samples that each take some seconds to arrive, as from a disk or over a network."""

    def __init__(self, seconds):
        self.seconds = seconds

    def __len__(self):
        return 32

    def __getitem__(self, index):
        time.sleep(self.seconds)
        return index


def seconds_an_epoch(data, num_workers):
    """Of the fastest of five epochs after the first one, which starts the workers."""
    loader = DataLoader(data, batch_size=4, num_workers=num_workers, persistent_workers=num_workers > 0)
    list(loader)
    return min(repeat(lambda: list(loader), number=1, repeat=5))


@claim(
    "pytorch-notes/num-workers-speed-io-bound",
    verdict=CONDITIONAL,
    finding="Where samples are waited for, four workers take about a quarter of the time, on two cores too; where they "
    "take work, as the document's augmented photographs do, free cores share it (measured once, on two: 1.9 s an epoch "
    "instead of 3.2). What lies in memory they only send from process to process, for ten times the time of reading "
    "and more.",
    controls=[override("no waiting", waiting=0.0)],
)
def test_workers_are_faster_where_samples_take_time_and_slower_where_they_take_none(evidence, waiting=0.005):
    def milliseconds(data):
        return {f"{workers} workers, ms": 1e3 * seconds_an_epoch(data, workers) for workers in (0, 4)}

    waited_for, in_memory = milliseconds(Waiting(waiting)), milliseconds(TensorDataset(torch.zeros(32)))
    evidence.table("an epoch", [{"samples": "waited for", **waited_for}, {"samples": "in memory", **in_memory}])
    assert waited_for["4 workers, ms"] < 0.7 * waited_for["0 workers, ms"]
    assert in_memory["4 workers, ms"] > 2 * in_memory["0 workers, ms"]


SCRIPT = """
from torch.utils.data import DataLoader

def main():
    assert len(list(DataLoader(range(4), num_workers=1, multiprocessing_context={start!r}))) == 4

{guard}main()
"""
GUARD = "if __name__ == '__main__': "


def started(folder, guard, start):
    """A process that runs a script which iterates a DataLoader, its worker started by ``start``."""
    script = folder / f"{start}_{'guarded' if guard else 'unguarded'}.py"
    script.write_text(SCRIPT.format(start=start, guard=guard))
    # A fork of this process runs it, which has torch imported already.
    process = get_context("fork").Process(target=run_path, args=(str(script),), kwargs={"run_name": "__main__"})
    process.start()
    return process


@claim(
    "pytorch-notes/main-guard-needed-for-workers",
    finding="A spawned worker runs the script again to import from it, and without the guard would start workers "
    "itself: it dies with RuntimeError, and so does the loop that waits for it. A forked one needs no guard; but from "
    "Python 3.14 on fork is Linux's default no more.",
    controls=[override("forked", spawn="fork")],
)
@pytest.mark.skipif("fork" not in get_all_start_methods(), reason="compares with fork")
def test_a_script_needs_the_main_guard_where_workers_are_spawned(tmp_path, capfd, spawn="spawn"):
    cases = [("", spawn), (GUARD, spawn), ("", "fork")]
    processes = [started(tmp_path, guard, start) for guard, start in cases]
    for process in processes:
        process.join()
    unguarded, *others = (process.exitcode for process in processes)
    assert unguarded != 0
    assert others == [0, 0]
    assert "bootstrapping phase" in capfd.readouterr().err
