"""A data set that keeps what it has read."""

from collections.abc import Callable, Sequence
from copy import deepcopy
from operator import index as as_index
from typing import Any

from torch.utils.data import Dataset


class CachedDataset(Dataset[Any]):
    """The samples of a data set, the first ``cache_size`` different ones kept in memory.

        data = CachedDataset(ImageFolder(root, transform=ToTensor()), 10_000, transform=RandomHorizontalFlip())

    Nothing is evicted: of n samples each later epoch reads n - cache_size again, whatever their order, whereas to evict
    the least recently used would in a fixed order find none. Each read returns a copy, so that a sample may be changed
    in place. A ``DataLoader`` copies the cache into its workers when it starts them: fill it before, or keep them by
    ``persistent_workers=True``, where each fills one of its own.

    Attributes:
        dataset: what is read: samples that are the same in every read.
        cache_size: number of samples kept at most.
        transform: what is done to a sample after it came from the cache, random augmentation say.
    """

    def __init__(
        self, dataset: Sequence[Any] | Dataset[Any], cache_size: int, transform: Callable[[Any], Any] | None = None
    ) -> None:
        """Keep the data set; nothing is read yet.

        Raises:
            TypeError: the data set has no length.
            ValueError: cache_size is negative.
        """
        if not hasattr(dataset, "__len__"):
            raise TypeError(f"dataset must have a length, got {type(dataset).__name__}")
        if cache_size < 0:
            raise ValueError(f"cache_size must not be negative, got {cache_size}")
        self.dataset = dataset
        self.cache_size = cache_size
        self.transform = transform
        self._samples: dict[int, Any] = {}

    def __len__(self) -> int:
        """Return the number of samples, cached or not."""
        return len(self.dataset)

    def __getitem__(self, index: Any) -> Any:
        """Return a sample: ``index`` is any whole number, a 0-d tensor too, and counts from the end where negative.

        Raises:
            IndexError: there is no such sample.
            TypeError: the index is no whole number.
        """
        place = as_index(index)
        if not -len(self) <= place < len(self):
            raise IndexError(f"index must be from {-len(self)} to {len(self) - 1}, got {place}")
        place %= len(self)
        if place in self._samples:
            sample = deepcopy(self._samples[place])
        else:
            sample = self.dataset[place]
            if len(self._samples) < self.cache_size:
                self._samples[place] = deepcopy(sample)
        return sample if self.transform is None else self.transform(sample)
