"""Real images as stand-ins for memories: what is relevant to a query is known of them, the class."""

from collections.abc import Callable
from dataclasses import dataclass

import pytest
import torch
from sklearn.datasets import load_digits
from torch import Tensor


@dataclass(frozen=True)
class Recollection:
    """A hundred memories, the oldest first, and two hundred queries: embeddings (n, dim), and what they are of (n,)."""

    memories: Tensor
    memory_classes: Tensor
    queries: Tensor
    query_classes: Tensor

    def relevant(self, recalled: Tensor) -> Tensor:
        """Whether memories of these indices, (k,) for all queries or (200, k), are of the query's class, (200, k)."""
        return self.memory_classes[recalled] == self.query_classes[:, None]


@pytest.fixture
def recollect(shared) -> Callable[..., Recollection]:
    """``recollect(embed)`` draws memories and queries; ``embed(images, classes)`` gives the embeddings."""
    images, classes = map(torch.from_numpy, shared(load_digits, return_X_y=True))

    def draw(embed: Callable[[Tensor, Tensor], Tensor]) -> Recollection:
        old, new = torch.randperm(len(images))[:300].split([100, 200])
        return Recollection(
            embed(images[old], classes[old]), classes[old], embed(images[new], classes[new]), classes[new]
        )

    return draw
