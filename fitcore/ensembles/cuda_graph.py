"""A training step replayed from a CUDA graph: one launch instead of dozens."""

from collections.abc import Callable

import torch
from torch import Tensor
from torch.optim import SGD

Step = Callable[[Tensor, Tensor], Tensor]

_EAGER_STEPS = 3


class CapturedStep:
    """``losses = step(inputs, targets)``, run eagerly three times, then captured and replayed.

    The eager steps let libraries choose their algorithms and the optimizer make its state, as capturing demands. Only
    inputs of the first shape are captured and replayed: the smaller last batch of an epoch runs eagerly.

    Source: https://docs.pytorch.org/docs/stable/notes/cuda.html#cuda-graphs
    """

    def __init__(self, step: Step) -> None:
        self._step = step
        self._eager_left = _EAGER_STEPS
        self._shape: torch.Size | None = None
        self._graph: torch.cuda.CUDAGraph | None = None
        self._stream = torch.cuda.Stream()  # one for all eager steps: cached memory belongs to a stream
        self._inputs = self._targets = self._losses = torch.empty(0)

    def __call__(self, inputs: Tensor, targets: Tensor) -> Tensor:
        """Losses (S,) before the update that the step makes."""
        if self._shape is None:
            self._shape = inputs.shape  # a smaller last batch comes later
        if self._graph is None and self._eager_left == 0 and inputs.shape == self._shape:
            self._capture(inputs, targets)
        if self._graph is None or inputs.shape != self._inputs.shape:
            self._eager_left = max(0, self._eager_left - 1)
            return self._run_eagerly(inputs, targets)
        if inputs is not self._inputs:  # the full batch is the same tensor in every step
            self._inputs.copy_(inputs)
            self._targets.copy_(targets)
        self._graph.replay()
        return self._losses.clone()

    def _capture(self, inputs: Tensor, targets: Tensor) -> None:
        self._inputs, self._targets = inputs, targets
        self._graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(self._graph):
            self._losses = self._step(inputs, targets)

    def _run_eagerly(self, inputs: Tensor, targets: Tensor) -> Tensor:
        self._stream.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(self._stream):
            losses = self._step(inputs, targets)
        torch.cuda.current_stream().wait_stream(self._stream)
        return losses


def is_capturable(optimizer: torch.optim.Optimizer) -> bool:
    """Whether a step of ``optimizer`` can be captured: on CUDA, and of SGD or made with ``capturable=True``.

    What others count on the CPU, as Adagrad does its steps, a replay would not count.
    """
    capturable = (isinstance(optimizer, SGD) or group.get("capturable", False) for group in optimizer.param_groups)
    return all(capturable) and all(group["params"][0].is_cuda for group in optimizer.param_groups)
