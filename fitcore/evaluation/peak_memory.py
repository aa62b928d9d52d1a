"""Bytes of the tensors that a computation keeps alive, on any device, without the allocator's help."""

import weakref
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode


class PeakMemory(TorchDispatchMode):
    """Count, within a ``with`` block, the bytes of all storages that operations return while they are alive.

    Storages of ``existing`` tensors (parameters, inputs) don't count, nor do an operation's own workspaces. Only
    operations that return a single tensor are seen.

    Attributes:
        live: bytes alive now.
        peak: the most bytes that were alive after any operation.

    """

    def __init__(self, *existing: Tensor) -> None:
        super().__init__()
        self.live = self.peak = 0
        self._known: weakref.WeakValueDictionary[int, torch.UntypedStorage] = weakref.WeakValueDictionary()
        self._existing = [tensor.untyped_storage() for tensor in existing]
        self._known.update((storage.data_ptr(), storage) for storage in self._existing)

    def __torch_dispatch__(
        self, func: Callable[..., Any], types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        """Run the operation, and follow the storage that it returns until it dies."""
        result = func(*args, **(kwargs or {}))
        if isinstance(result, Tensor) and (storage := result.untyped_storage()).data_ptr() not in self._known:
            self._known[storage.data_ptr()] = storage
            self.live += storage.nbytes()
            self.peak = max(self.peak, self.live)
            weakref.finalize(storage, self._free, storage.nbytes())
        return result

    def _free(self, size: int) -> None:
        self.live -= size
