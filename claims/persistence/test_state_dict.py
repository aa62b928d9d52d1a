"""Sections 7.1 and 7.4: what a state_dict holds, and that it comes back from a file to the bit."""

import copy
import io
from functools import partial

import hypothesis.strategies as st
import pytest
import torch
from hypothesis import given
from torch import nn

from fitcore.testing import REFUTED, claim, override, replace
from fitcore.testing.strategies import dtypes, strided, tensors
from fitcore.training.checkpoint import load_checkpoint, save_checkpoint


def through_torch(state, folder):
    torch.save(state, folder / "state.pt")
    return torch.load(folder / "state.pt")


def through_a_checkpoint(state, folder):
    save_checkpoint(folder / "state.pt", state)
    return load_checkpoint(folder / "state.pt")


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """One folder for all examples of a property."""
    return tmp_path_factory.mktemp("state")


class WithBuffers(nn.Module):
    """A parameter, and buffers with the names that are given."""

    def __init__(self, persistent, other):
        super().__init__()
        self.weight = nn.Parameter(torch.randn(2))
        for name in persistent:
            self.register_buffer(name, torch.randn(3))
        for name in other:
            self.register_buffer(name, torch.randn(3), persistent=False)


buffer_names = st.sets(st.sampled_from(["mean", "mask", "count", "table"]))
layers = st.sampled_from(
    [
        partial(nn.Linear, 2, 3),
        partial(nn.BatchNorm1d, 4),
        partial(nn.BatchNorm1d, 4, track_running_stats=False),
        partial(nn.Conv2d, 1, 2, 3, bias=False),
        partial(nn.LSTM, 2, 3),
        nn.ReLU,
    ]
)


def parameters_alone(module, destination, prefix, keep_vars):
    for name, parameter in module.named_parameters(recurse=False):
        destination[prefix + name] = parameter.detach()


@claim(
    "pytorch-notes/state-dict-contains-buffers",
    finding="Every parameter and, by default, every buffer, in all kinds of modules: only those registered with "
    "persistent=False are left out, and a model loaded from the file has those of its own constructor.",
    controls=[replace("torch.nn.Module._save_to_state_dict", parameters_alone)],
)
@given(kinds=st.lists(layers, max_size=4), persistent=buffer_names, other=buffer_names)
def test_a_saved_state_dict_has_parameters_and_persistent_buffers(kinds, persistent, other, folder):
    other = other - persistent
    model = nn.Sequential(nn.BatchNorm1d(1), WithBuffers(persistent, other), *(kind() for kind in kinds))
    saved = through_torch(model.state_dict(), folder)
    wanted = {**dict(model.named_parameters()), **dict(model.named_buffers())}
    left_out = {f"1.{name}" for name in other}
    assert saved.keys() == wanted.keys() - left_out
    assert {"0.running_mean", "0.running_var", "0.num_batches_tracked"} <= saved.keys()
    assert all(torch.equal(saved[name], wanted[name]) for name in saved)


def bits(tensor):
    """The bytes of the elements in order, so that NaN and -0.0 count as what they are."""
    return bytes(tensor.contiguous().untyped_storage())


patterns = tensors(dtype=torch.int32, elements=st.integers(-(2**31), 2**31 - 1)).map(lambda t: t.view(torch.float32))


def through_half_precision(state, folder):
    halved = {name: each.half().to(each.dtype) if each.is_floating_point() else each for name, each in state.items()}
    return through_torch(halved, folder)


@claim(
    "pytorch-notes/state-dict-round-trip-to-the-bit",
    finding="Of any dtype, shape and memory layout, and for every bit pattern, NaN payloads, -0.0 and denormal numbers "
    "among them. Two names of one memory stay that after loading.",
    controls=[override("through half precision", through=through_half_precision)],
)
@pytest.mark.parametrize("through", [through_torch, through_a_checkpoint], ids=["torch", "fitcore"])
@given(any_bits=patterns, values=strided(tensors(dtype=dtypes(boolean=True, complex=True))))
def test_a_state_comes_back_to_the_bit(through, any_bits, values, folder):
    state = {"bits": any_bits, "values": values, "tied": any_bits, "tenth": torch.tensor(0.1)}
    loaded = through(state, folder)
    assert {name: (each.dtype, each.shape, each.stride()) for name, each in loaded.items()} == {
        name: (each.dtype, each.shape, each.stride()) for name, each in state.items()
    }
    assert all(bits(loaded[name]) == bits(state[name]) for name in state)
    assert loaded["bits"].data_ptr() == loaded["tied"].data_ptr()


def kept_in_memory(state):
    buffer = io.BytesIO()
    torch.save(state, buffer)
    buffer.seek(0)
    return torch.load(buffer)


def as_it_is(state):
    return state


@claim(
    "pytorch-notes/state-dict-is-a-snapshot",
    verdict=REFUTED,
    finding="Its tensors are the parameters' own memory: they move with every later step, so that a best state kept "
    "so is always the last one. copy.deepcopy, and saving, keep what there was.",
    controls=[override("a deep copy", keep=copy.deepcopy)],
)
@given(steps=st.integers(1, 5), seed=st.integers(0, 2**32 - 1), keep=st.just(as_it_is))
def test_a_state_dict_moves_with_the_training(steps, seed, keep):
    model = nn.BatchNorm1d(3)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    kept, *snapshots = (how(model.state_dict()) for how in (keep, copy.deepcopy, kept_in_memory))
    before = {name: each.tolist() for name, each in model.state_dict().items()}
    for _ in range(steps):
        model(torch.randn(4, 3, generator=torch.Generator().manual_seed(seed))).square().sum().backward()
        optimizer.step()
    assert all(torch.equal(kept[name], each) for name, each in model.state_dict().items())
    assert not any(torch.equal(snapshot["weight"], model.weight) for snapshot in snapshots)
    assert all({name: each.tolist() for name, each in snapshot.items()} == before for snapshot in snapshots)
