"""Losses and gradients of all copies of an ensemble: by hand where the layers are known, else by autograd."""

from collections.abc import Callable
from typing import Protocol

import torch
from torch import Tensor, nn

from fitcore.ensembles.ensemble import Ensemble
from fitcore.ensembles.losses import cross_entropies, mean_squared_errors
from fitcore.gradients.backpropagation import (
    Dropout,
    Layer,
    Noise,
    cross_entropies_derivative,
    layers_of,
    mean_squared_errors_derivative,
)

Loss = Callable[[Tensor, Tensor], Tensor]
"""Losses (S,) of S copies, from their outputs (S, n, ...) and targets (S, n, ...)."""

Data = tuple[Tensor, Tensor]
"""Inputs and targets of S copies, each (S, n, ...)."""

_DERIVATIVES = {mean_squared_errors: mean_squared_errors_derivative, cross_entropies: cross_entropies_derivative}


class Gradients(Protocol):
    """How the losses of an ensemble and their gradients are computed."""

    draws_alone: bool
    """Whether it draws masks or noise from a generator of its own."""

    def arrange(self, inputs: Tensor, targets: Tensor) -> Data:
        """The data laid out in memory as the other two methods want them."""

    def __call__(self, inputs: Tensor, targets: Tensor) -> Tensor:
        """Losses (S,) in training; ``ensemble.flat.grad`` becomes the gradient of each by its copy's parameters."""

    def losses(self, inputs: Tensor, targets: Tensor) -> Tensor:
        """Losses (S,) in evaluation."""


def gradients_of(ensemble: Ensemble, loss: Loss, inputs: Tensor) -> Gradients:
    """The fastest way to the gradients of ``loss`` for ``inputs`` like these.

    Masks and noise that are drawn by hand depend on the seed of the first copy alone.
    """
    generator = torch.Generator(inputs.device).manual_seed(ensemble.seeds[0])
    ensemble.flat.grad = torch.zeros_like(ensemble.flat)
    parameters, gradients = ensemble.stacks(ensemble.flat.detach()), ensemble.stacks(ensemble.flat.grad)
    layers = layers_of(ensemble.module_like, parameters, gradients, ensemble.buffers, generator)
    flattens = isinstance(next(ensemble.module_like.children(), None), nn.Flatten)
    if not layers or (inputs.ndim != 3 and not flattens):
        return _ByAutograd(ensemble, loss)
    return _ByHand(layers, loss)


class _ByAutograd:
    """Any module."""

    def __init__(self, ensemble: Ensemble, loss: Loss) -> None:
        self._ensemble, self._loss = ensemble, loss
        self.draws_alone = False

    def arrange(self, inputs: Tensor, targets: Tensor) -> Data:
        if len(self._ensemble) == 1 and inputs.ndim == 5 and not inputs.is_cuda:  # images, to a module by itself
            # Channels last: there convolutions are faster on a CPU, and pooling is so by far.
            last = torch.empty_like(inputs[0], memory_format=torch.channels_last).copy_(inputs[0])
            return last[None], targets
        return inputs, targets

    def __call__(self, inputs: Tensor, targets: Tensor) -> Tensor:
        self._ensemble.train()
        losses = self._loss(self._ensemble(inputs), targets)
        self._ensemble.flat.grad = None
        losses.backward(torch.ones_like(losses))  # each loss depends on its own copy's parameters only
        return losses.detach()

    @torch.no_grad()
    def losses(self, inputs: Tensor, targets: Tensor) -> Tensor:
        self._ensemble.eval()
        return self._loss(self._ensemble(inputs), targets)


class _ByHand:
    """Layers that `fitcore.gradients.backpropagation` knows: without a graph, in memory that stays where it is."""

    def __init__(self, layers: list[Layer], loss: Loss) -> None:
        self._layers, self._loss = layers, loss
        self.draws_alone = any(isinstance(layer, Dropout | Noise) for layer in layers)
        self._derivative = _DERIVATIVES.get(loss) or _derivative_by_autograd(loss)

    def arrange(self, inputs: Tensor, targets: Tensor) -> Data:
        columns = inputs.flatten(2).mT
        if columns.stride(0) == 0:
            columns = columns[:1].contiguous().expand(columns.shape)
        elif columns.shape[1] < columns.shape[2]:  # else a product takes long samples as they lie as fast
            columns = columns.contiguous()
        return columns, targets.mT.contiguous().mT if targets.ndim == 3 else targets

    @torch.no_grad()
    def __call__(self, inputs: Tensor, targets: Tensor) -> Tensor:
        for layer in self._layers:
            inputs = layer.forward(inputs)
        losses, gradient = self._derivative(inputs.mT, targets)
        gradient = gradient.to(inputs.dtype).mT.contiguous()  # targets may be of a wider dtype
        for layer in reversed(self._layers):
            gradient = layer.backward(gradient)
        return losses

    @torch.no_grad()
    def losses(self, inputs: Tensor, targets: Tensor) -> Tensor:
        for layer in self._layers:
            inputs = layer.evaluate(inputs)
        return self._loss(inputs.mT, targets)


def _derivative_by_autograd(loss: Loss) -> Callable[[Tensor, Tensor], Data]:
    @torch.enable_grad()
    def derivative(outputs: Tensor, targets: Tensor) -> Data:
        outputs = outputs.detach().requires_grad_()
        losses = loss(outputs, targets)
        (gradient,) = torch.autograd.grad(losses, outputs, torch.ones_like(losses))
        return losses.detach(), gradient

    return derivative
