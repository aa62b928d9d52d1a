"""SGD on linear regression, of many problems under many learning-rate schedules at once."""

import torch
from torch import Tensor


def excess_losses(features: Tensor, targets: Tensor, rates: Tensor, batch_size: int | None = None) -> Tensor:
    """Mean squared error above its minimum after each epoch of plain SGD from w = 0, without a bias.

    Every epoch takes the samples in a new random order, which the schedules share: differences are theirs alone.

    Args:
        features: of S independent problems, (S, n, p).
        targets: (S, n).
        rates: learning rate of each epoch of A schedules, (A, epochs).
        batch_size: of the updates, the last of an epoch as it comes; by default all samples, in their order.

    Returns:
        (A, S, epochs).
    """
    problems, n, p = features.shape
    best = torch.linalg.lstsq(features, targets[..., None]).solution.mT
    hessian = features.mT @ features / n
    weights, excess = features.new_zeros(problems, len(rates), p), []
    for rate in rates.T.to(features.dtype):
        order = torch.arange(n).expand(problems, n) if batch_size is None else torch.rand(problems, n).argsort(1)
        shuffled = features.gather(1, order[..., None].expand_as(features)), targets.gather(1, order)
        for x, y in zip(*(part.split(batch_size or n, dim=1) for part in shuffled), strict=True):
            errors = weights @ x.mT - y[:, None]
            weights = weights - rate[:, None] * 2 / x.shape[1] * (errors @ x)
        distance = weights - best
        excess.append(((distance @ hessian) * distance).sum(-1).T)
    return torch.stack(excess, dim=-1)
