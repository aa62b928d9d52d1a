"""Retrieval: which of many stored embeddings a query recalls."""

from torch import Tensor
from torch.nn.functional import normalize


def most_similar(queries: Tensor, memories: Tensor, k: int) -> Tensor:
    """Return the ``k`` memories of largest cosine similarity to each query, the most similar first.

    Of equals the older, that of the smaller index, comes first: so what k recalls is among what k + 1 does. Nothing is
    similar to an embedding of zeros.

        truth[:, None] == most_similar(queries, memories, 3)

    Args:
        queries: (..., n, dim) embeddings.
        memories: (..., m, dim) embeddings.
        k: how many to recall.

    Returns:
        (..., n, k) indices of memories.

    Raises:
        ValueError: k isn't between 1 and the number of memories.
    """
    stored = memories.shape[-2]
    if not 1 <= k <= stored:
        raise ValueError(f"k must be between 1 and the {stored} memories, got {k}")
    return cosine_similarities(queries, memories).sort(dim=-1, descending=True, stable=True).indices[..., :k]


def cosine_similarities(queries: Tensor, memories: Tensor) -> Tensor:
    """Return the cosine of the angle between each query (..., n, dim) and each memory (..., m, dim), (..., n, m)."""
    return normalize(queries, dim=-1) @ normalize(memories, dim=-1).mT
