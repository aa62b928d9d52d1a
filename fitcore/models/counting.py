"""The size of a model."""

from torch import nn


def number_of_parameters(*modules: nn.Module, trainable: bool = False) -> int:
    """How many numbers the parameters of ``modules`` hold, or those of them that require a gradient.

    A parameter that a module holds under two names counts once. Buffers, as running statistics are, count none.
    """
    parameters = (parameter for module in modules for parameter in module.parameters())
    return sum(parameter.numel() for parameter in parameters if parameter.requires_grad or not trainable)
