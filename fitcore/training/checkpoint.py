"""Checkpoints that are written whole or not at all, and checked before anything of them is used."""

import glob
import os
import secrets
import shutil
import zipfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from io import BufferedWriter
from itertools import islice
from pathlib import Path
from typing import Any

import torch
from torch import nn
from torch.nn.parameter import is_lazy
from torch.serialization import MAP_LOCATION, get_unsafe_globals_in_checkpoint
from torch.utils.serialization import config

MOST_NAMED = 3  # of the entries that don't fit
_FOLDER = 0x10  # the attribute by which a zip archive marks one


def save_checkpoint(path: Path, state: dict[str, Any]) -> None:
    """Write ``state`` to ``path``, so that at every moment a complete file stands there: the old one or the new one.

    The file is written beside ``path``, forced to the disk, and renamed. A kill or a crash on the way leaves the old
    file as it was; what it leaves beside it is removed by the next call. Where several processes save to one path, the
    last to finish wins. The file is an ordinary one, which ``torch.load`` reads too. POSIX only.

    Args:
        path: in a folder that exists; a symbolic link stays one, and the file that it points to is replaced.
        state: tensors, numbers, strings, and dictionaries, lists, tuples and sets of them: state_dicts, epochs, losses,
            states of generators.

    Raises:
        FileNotFoundError: the folder doesn't exist.
        IsADirectoryError: ``path`` is a folder.
        ValueError: ``state`` holds an object of another class, which ``load_checkpoint`` would refuse.
        OSError: the disk is full, or the folder may not be written to; the old file is as it was.
    """
    target = Path(path).resolve()
    if not target.parent.is_dir():
        raise FileNotFoundError(f"no folder {target.parent} to save the checkpoint {path} in")
    if target.is_dir():
        raise IsADirectoryError(f"can't save a checkpoint as {path}, which is a folder")
    try:
        _remove_leftovers(target)
        with _temporary_file(target) as file:
            _write(state, file)
            if unsafe := get_unsafe_globals_in_checkpoint(file.name):
                raise ValueError(
                    f"can't save the checkpoint {path}: load_checkpoint reads tensors and plain values only, and the "
                    f"state holds objects of {', '.join(sorted(unsafe))}"
                )
            with suppress(FileNotFoundError):
                shutil.copymode(target, file.name)
            os.replace(file.name, target)
        _sync_folder(target.parent)
    except OSError as error:
        raise OSError(error.errno, f"can't save the checkpoint: {error.strerror}", str(path)) from error


def load_checkpoint(path: Path, map_location: MAP_LOCATION = None) -> dict[str, Any]:
    """Return the state that ``save_checkpoint`` wrote, or that a plain ``torch.save`` of a dictionary did.

    Nothing in the file is executed (``weights_only``). Every record's checksum is verified, which ``torch.load`` leaves
    out: a single flipped bit among the weights would pass it unnoticed.

    Args:
        path: the file.
        map_location: where tensors go, as in ``torch.load``; by default to the devices that they were saved from.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: it is truncated, damaged or no checkpoint, it holds what could run code, or a device is missing.
    """
    path = Path(path)
    if not path.exists():
        raise FileNotFoundError(f"no checkpoint {path}")
    if not path.is_file():
        raise ValueError(f"{path} is no checkpoint but a folder or a device")
    with path.open("rb") as file:
        try:
            with zipfile.ZipFile(file) as archive:
                damaged = archive.testzip()
                # torch would skip such a record, and leave its tensor uninitialised.
                folders = (each.filename for each in archive.infolist() if each.external_attr & _FOLDER)
                damaged = damaged or next(folders, None)
        except Exception as error:
            raise ValueError(f"{path} is truncated or damaged, or no checkpoint: {error}") from error
        if damaged:
            raise ValueError(f"{path} is damaged: its record {damaged} is not what was saved")
        file.seek(0)
        try:
            state = torch.load(file, map_location=map_location, weights_only=True)
        except Exception as error:
            unsafe = _unsafe_globals(path)
            reason = f"it holds objects that could run code: {', '.join(unsafe)}" if unsafe else error
            raise ValueError(f"can't load {path}: {reason}") from error
    if not isinstance(state, dict):
        raise ValueError(f"{path} holds no dictionary but a {type(state).__name__}")
    return state


def load_weights(model: nn.Module, state_dict: Mapping[str, Any]) -> None:
    """Load ``state_dict`` into ``model`` if every entry fits, and touch nothing of it otherwise.

    ``model.load_state_dict`` too refuses what doesn't fit, but only after it has copied what does.

    Raises:
        ValueError: an entry is missing, unexpected, no tensor, or of another shape: the first of them are named.
    """
    misfits = list(islice(_misfits(model.state_dict(), state_dict), MOST_NAMED + 1))
    if misfits:
        more = ["..."] if len(misfits) > MOST_NAMED else []
        name = type(model).__name__
        raise ValueError(f"the weights don't fit this {name}: {'; '.join(misfits[:MOST_NAMED] + more)}")
    model.load_state_dict(state_dict)


def _misfits(wanted: Mapping[str, Any], given: Mapping[str, Any]) -> Iterator[str]:
    """Say, an entry each, what of ``given`` is not as ``wanted``."""
    yield from (f"{name} is missing" for name in wanted if name not in given)
    yield from (f"{name} is unexpected" for name in given if name not in wanted)
    for name in (name for name in wanted if name in given):
        if not isinstance(wanted[name], torch.Tensor) or is_lazy(wanted[name]):  # extra state; a shape yet unknown
            continue
        if not isinstance(given[name], torch.Tensor):
            yield f"{name} is no tensor but a {type(given[name]).__name__}"
        elif given[name].shape != wanted[name].shape:
            yield f"{name} has shape {tuple(given[name].shape)} instead of {tuple(wanted[name].shape)}"


@contextmanager
def _temporary_file(target: Path) -> Iterator[BufferedWriter]:
    """A new file beside ``target``, locked for as long as it is written, which is removed unless it is renamed."""
    import fcntl  # noqa: PLC0415 - Windows has none, and can use the rest of the library

    while True:
        file = target.with_name(f".{target.name}.{secrets.token_hex(8)}.tmp").open("xb")
        fcntl.flock(file, fcntl.LOCK_EX)
        if os.path.exists(file.name):  # and not taken for a leftover before it was locked
            break
        file.close()
    with file:
        try:
            yield file
        finally:
            Path(file.name).unlink(missing_ok=True)


def _write(state: dict[str, Any], file: BufferedWriter) -> None:
    """Write ``state``, and force it to the disk."""
    try:
        with config.patch("save.compute_crc32", True):  # type: ignore[attr-defined]
            torch.save(state, file)
    except RuntimeError as error:
        if isinstance(error.__context__, OSError):  # "unexpected pos" is what torch says of a full disk
            raise error.__context__ from None
        raise
    file.flush()
    os.fsync(file.fileno())


def _remove_leftovers(target: Path) -> None:
    """Remove the temporary files of writers that died; one that lives holds a lock on its own."""
    import fcntl  # noqa: PLC0415

    for leftover in target.parent.glob(f".{glob.escape(target.name)}.*.tmp"):
        with suppress(OSError), leftover.open("r+b") as file:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            leftover.unlink()


def _sync_folder(folder: Path) -> None:
    """Force the folder's list of names to the disk: without it a loss of power could undo a renaming."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _unsafe_globals(path: Path) -> list[str]:
    """Names of what the file would import that ``weights_only`` doesn't allow."""
    try:
        return sorted(get_unsafe_globals_in_checkpoint(path))
    except Exception:  # of a file that makes no sense at all
        return []
