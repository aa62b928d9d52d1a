"""Sections 7.1 and 7.4: what is left of a checkpoint if the process ends while it saves the next one."""

import itertools
import multiprocessing
import os
import pickle
import resource
import signal
import time

import numpy as np
import pytest
import torch

from fitcore.testing import REFUTED, claim, error_of, override
from fitcore.training.checkpoint import load_checkpoint, save_checkpoint

pytestmark = [
    pytest.mark.filterwarnings("ignore:This process .* is multi-threaded:DeprecationWarning"),
    pytest.mark.filterwarnings("ignore:os.fork:RuntimeWarning"),  # of JAX, where another test has imported it
]

fork = multiprocessing.get_context("fork")


def torch_save(path, state):
    torch.save(state, path)


class Deadly:
    """Kills the process that pickles it, as a power cut in the middle of saving would."""

    def __reduce__(self):
        os.kill(os.getpid(), signal.SIGKILL)


def killed_on_the_way(save, path):
    torch.set_num_threads(1)  # a fork has none of the threads that torch may have started before it
    save(path, {"step": 2, "weight": torch.full((1000,), 2.0), "last": Deadly()})


def out_of_space(save, path):
    torch.set_num_threads(1)
    resource.setrlimit(resource.RLIMIT_FSIZE, (10_000, 10_000))
    error = error_of(save, path, {"step": 2, "weight": torch.full((100_000,), 2.0)})
    assert isinstance(error, OSError | RuntimeError)


def exit_code(function, *arguments):
    """Of a process that runs it to the end."""
    process = fork.Process(target=function, args=arguments)
    process.start()
    process.join(60)
    return process.exitcode


@claim(
    "pytorch-notes/torch-save-is-atomic",
    verdict=REFUTED,
    finding="The old file is emptied first: killed on the way, or out of space, torch.save leaves a file that can't be "
    "loaded, and the previous checkpoint is lost. Written beside it and renamed, the new file leaves it as it was.",
    controls=[override("written beside and renamed", save=save_checkpoint)],
)
@pytest.mark.parametrize(
    ("disaster", "code"), [(killed_on_the_way, -signal.SIGKILL), (out_of_space, 0)], ids=["killed", "out of space"]
)
def test_an_interrupted_torch_save_has_destroyed_the_previous_checkpoint(disaster, code, tmp_path, save=torch_save):
    torn, path = tmp_path / "torn.pt", tmp_path / "net.pt"
    for each in (torn, path):
        torch.save({"step": 1}, each)
    assert exit_code(disaster, save, torn) == exit_code(disaster, save_checkpoint, path) == code
    assert isinstance(error_of(torch.load, torn), EOFError | OSError | RuntimeError | pickle.UnpicklingError)
    assert torch.load(path) == {"step": 1}


def save_for_ever(save, path, started):
    """Save one state after the other, each of one number."""
    torch.set_num_threads(1)
    for step in itertools.count(1):
        save(path, {"step": step, "weight": torch.full((300_000,), float(step))})
        started.set()


def is_whole(path):
    """Whether a checkpoint of one number is there."""
    if error_of(load_checkpoint, path):
        return False
    state = load_checkpoint(path)
    return bool((state["weight"] == state["step"]).all())


@claim(
    "pytorch-notes/renaming-makes-saving-atomic",
    finding="Killed (kill -9) at random moments and in the middle of writing, it left a whole checkpoint every time, "
    "of one step. What lies half written beside it is removed by the next call.",
    controls=[override("torch.save to the same path", save=torch_save)],
    trials=8,
)
def test_a_process_killed_while_it_saves_leaves_a_whole_checkpoint(trials, evidence, tmp_path, save=save_checkpoint):
    path = tmp_path / "net.pt"

    def kill_at_random(seed):
        started = fork.Event()
        process = fork.Process(target=save_for_ever, args=(save, path, started), daemon=True)
        process.start()
        assert started.wait(60)
        time.sleep(np.random.default_rng(seed).uniform(0, 0.03))
        process.kill()
        process.join()
        return is_whole(path), len(os.listdir(tmp_path)) > 1

    whole, half_beside = trials.map(kill_at_random).T
    evidence.observe("killed at a random moment: whole checkpoint left", whole)
    evidence.observe("killed at a random moment: half a file beside it", half_beside)
    assert exit_code(killed_on_the_way, save, path) == -signal.SIGKILL
    assert is_whole(path)
    trials.always(whole, name="a whole checkpoint after every kill")
    save_checkpoint(path, {"step": 1})
    assert os.listdir(tmp_path) == [path.name]
