"""Section 7.3: files that were cut off, or of which a bit has flipped."""

import io
import os
import pickle

import hypothesis.strategies as st
import pytest
import torch
from hypothesis import given, settings

from fitcore.testing import REFUTED, claim, error_of, override, replace
from fitcore.training.checkpoint import load_checkpoint

WEIGHT = torch.arange(1.0, 9.0)
STATE = {"weight": WEIGHT, "step": 3}


def saved():
    """The bytes of a checkpoint."""
    file = io.BytesIO()
    torch.save(STATE, file)
    return file.getvalue()


@pytest.fixture(scope="module")
def path(tmp_path_factory):
    """One file for all examples of a property."""
    return tmp_path_factory.mktemp("damaged") / "net.pt"


def leave_whole(path, length):
    """Cut nothing off."""


@claim(
    "pytorch-notes/truncated-file-is-refused",
    finding="At every length down to 0 bytes, since the table of contents stands at the end. What torch raises is a "
    "RuntimeError, an OSError (Invalid argument), an EOFError or an UnpicklingError; fitcore's load_checkpoint raises "
    "a ValueError that names the file.",
    controls=[override("nothing cut off", truncate=leave_whole)],
)
@pytest.mark.parametrize("numbers", [8, 10_000])
@settings(max_examples=100)
@given(data=st.data(), truncate=st.just(os.truncate))
def test_a_file_cut_off_anywhere_is_refused(numbers, data, path, truncate):
    torch.save({"weight": torch.arange(numbers)}, path)
    truncate(path, data.draw(st.integers(0, path.stat().st_size - 1)))
    assert isinstance(error_of(torch.load, path), RuntimeError | OSError | EOFError | pickle.UnpicklingError)
    with pytest.raises(ValueError, match=r"net\.pt is truncated or damaged"):
        load_checkpoint(path)


def flipped(content, bit):
    """The content with one bit flipped."""
    place, mask = bit // 8, 1 << bit % 8
    return content[:place] + bytes([content[place] ^ mask]) + content[place + 1 :]


def same_state(state):
    return state.keys() == STATE.keys() and torch.equal(state["weight"], WEIGHT) and state["step"] == STATE["step"]


def accept_any_checksum(archive):
    """Find no record damaged."""


@claim(
    "pytorch-notes/damaged-file-is-refused",
    verdict=REFUTED,
    finding="A flipped bit among the weights loads without a word, as another weight: torch.save stores a checksum of "
    "every record, and torch.load doesn't compare it. fitcore's load_checkpoint does, and whatever bit of the file "
    "is flipped, it refuses or returns what was saved.",
    controls=[replace("zipfile.ZipFile.testzip", accept_any_checksum)],
)
@settings(max_examples=60)
@given(place=st.integers(0, 8 * WEIGHT.nbytes - 1), anywhere=st.integers(0, 8 * len(saved()) - 1))
def test_a_flipped_bit_among_the_weights_passes_torch_and_not_a_checksum(place, anywhere, path):
    content = saved()
    damaged = flipped(content, 8 * content.index(bytes(WEIGHT.untyped_storage())) + place)
    assert not torch.equal(torch.load(io.BytesIO(damaged))["weight"], WEIGHT)
    path.write_bytes(damaged)
    with pytest.raises(ValueError, match=r"net\.pt is damaged: its record \S+data/0"):
        load_checkpoint(path)
    path.write_bytes(flipped(content, anywhere))
    error = error_of(load_checkpoint, path)
    assert isinstance(error, ValueError) if error else same_state(load_checkpoint(path))
