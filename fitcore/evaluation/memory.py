"""Where tensors keep their data: shared storage, and the bytes that are really allocated."""

from torch import Tensor


def shares_storage(a: Tensor, b: Tensor) -> bool:
    """Whether two tensors stand on the same storage: its bytes, be they reached through torch or through NumPy.

    A storage is compared as a whole, so the two halves of a split share it. An empty storage shares nothing.
    See https://docs.pytorch.org/docs/stable/tensor_view.html
    """
    (start_a, end_a), (start_b, end_b) = _address_range(a), _address_range(b)
    return a.device == b.device and max(start_a, start_b) < min(end_a, end_b)


def allocated_bytes(*tensors: Tensor) -> int:
    """Bytes of the storages behind ``tensors``, each storage counted once: a view costs nothing.

    These are the bytes that ``Tensor.untyped_storage().nbytes()`` tells, not those that the elements would need
    (``Tensor.nbytes``): ``torch.ones(1).expand(1000)`` needs 4.
    """
    storages = {(tensor.device, _address_range(tensor)) for tensor in tensors}
    return sum(end - start for _, (start, end) in storages)


def _address_range(tensor: Tensor) -> tuple[int, int]:
    storage = tensor.untyped_storage()
    return storage.data_ptr(), storage.data_ptr() + storage.nbytes()
