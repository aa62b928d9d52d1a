"""Early stopping."""

import torch
from torch import Tensor


class EarlyStopping:
    """Stop once the loss has not improved for ``patience`` checks in a row.

    A loss improves if it is below the best so far by more than ``min_delta``; NaN never is. Works elementwise: with a
    loss for each of S runs, every run has its own patience.

        stopping = EarlyStopping(patience=10)
        for epoch in range(1000):
            ...
            if stopping.update(validation_loss):
                break

    Attributes:
        best: lowest losses so far.
        improved: whether the last check improved on them.
        stopped: whether patience has run out.

    Source: I. Goodfellow, Y. Bengio, A. Courville, Deep Learning, 2016, algorithm 7.1.
    """

    def __init__(self, patience: int, min_delta: float = 0.0) -> None:
        """Start without any loss.

        Raises:
            ValueError: ``patience`` below 1 or ``min_delta`` negative.
        """
        if patience < 1:
            raise ValueError(f"patience must be at least 1, got {patience}")
        if min_delta < 0:
            raise ValueError(f"min_delta must not be negative, got {min_delta}")
        self.patience = patience
        self.min_delta = min_delta
        self.best = torch.tensor(torch.inf)
        self.improved = torch.tensor(False)
        self.stopped = torch.tensor(False)
        self._waited = torch.tensor(0)

    def update(self, loss: Tensor | float) -> Tensor:
        """Take note of the next loss(es), always of one shape, and return `stopped`, of the same."""
        loss = torch.as_tensor(loss).detach()
        best = self.best.to(loss)
        self.improved = (loss < best - self.min_delta) & ~self.stopped
        self.best = torch.where(self.improved, loss, best)
        self._waited = torch.where(self.improved, 0, self._waited + 1)
        self.stopped = self.stopped | (self._waited >= self.patience)
        return self.stopped

    def state_dict(self) -> dict[str, Tensor]:
        """What has been seen so far, for a checkpoint."""
        return {"best": self.best, "improved": self.improved, "stopped": self.stopped, "waited": self._waited}

    def load_state_dict(self, state: dict[str, Tensor]) -> None:
        """Go on from what `state_dict` returned."""
        self.best, self.improved, self.stopped = state["best"], state["improved"], state["stopped"]
        self._waited = state["waited"]
