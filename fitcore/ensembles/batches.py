"""Mini-batches of every copy of an ensemble."""

from collections.abc import Callable, Iterator, Sequence

import torch
from torch import Tensor

from fitcore.ensembles.gradients import Data


class Batches:
    """One epoch after the other: all data at once, or in mini-batches, each copy's in its own order.

    Copy s draws its order anew in every epoch, ``torch.randperm(n, generator=generator)`` with a generator seeded with
    ``seeds[s]``. The last batch holds what is left.
    """

    def __init__(self, data: Data, seeds: Sequence[int], size: int | None, arrange: Callable[..., Data]) -> None:
        """Make batches of ``size`` (default: one of all) and pass each through ``arrange(inputs, targets)``."""
        self._data, self._size, self._arrange = data, size, arrange
        self._generators = [torch.Generator().manual_seed(seed) for seed in seeds] if size else []
        self._all = None if size else arrange(*data)

    def epoch(self) -> Iterator[tuple[Tensor, Tensor, float]]:
        """Inputs, targets and share of the data of batch after batch."""
        if self._all is not None:
            yield *self._all, 1.0
            return
        inputs, targets = self._data
        n, device = inputs.shape[1], inputs.device
        orders = torch.stack([torch.randperm(n, generator=generator) for generator in self._generators]).to(device)
        for chosen in orders.split(self._size, dim=1):
            yield *self._arrange(_chosen(inputs, chosen), _chosen(targets, chosen)), chosen.shape[1] / n


def _chosen(values: Tensor, index: Tensor) -> Tensor:
    """values[s, index[s]] for every copy s, (S, size, ...)."""
    if values.stride(0) == 0:  # the same for every copy
        return values[0].index_select(0, index.flatten()).unflatten(0, index.shape)
    return values[torch.arange(len(values), device=values.device)[:, None], index]
