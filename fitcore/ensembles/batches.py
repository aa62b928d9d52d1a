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
        self._size, self._arrange, self._of_a_copy = size, arrange, data[0].shape[1]
        self._samples = [_in_a_row(values) for values in data] if size else []
        self._generators = [torch.Generator().manual_seed(seed) for seed in seeds] if size else []
        self._all = None if size else arrange(*data)

    def epoch(self) -> Iterator[tuple[Tensor, Tensor, float]]:
        """Inputs, targets and share of the data of batch after batch."""
        if self._all is not None:
            yield *self._all, 1.0
            return
        n = self._of_a_copy
        orders = torch.stack([torch.randperm(n, generator=generator) for generator in self._generators])
        for chosen in orders.to(self._samples[0][0].device).split(self._size, dim=1):
            inputs, targets = (_chosen(*samples, chosen) for samples in self._samples)
            yield *self._arrange(inputs, targets), chosen.shape[1] / n


def _in_a_row(values: Tensor) -> tuple[Tensor, Tensor]:
    """The samples of all copies one after the other, (S · n, ...), and where those of each copy begin, (S, 1).

    Data (S, n, ...) that the copies share stay (n, ...), and all begin at 0.
    """
    copies, n = torch.arange(len(values), device=values.device)[:, None], values.shape[1]
    return (values[0], 0 * copies) if values.stride(0) == 0 else (values.flatten(0, 1), n * copies)


def _chosen(samples: Tensor, first: Tensor, index: Tensor) -> Tensor:
    """Samples index[s] of every copy s, (S, size, ...)."""
    return samples.index_select(0, (first + index).flatten()).view(*index.shape, *samples.shape[1:])
