"""Initial weights."""

from torch import nn


def initialise_weights(layer: nn.Module) -> None:
    """Draw the weights of a layer anew, for ``model.apply(initialise_weights)``; layers of other kinds stay.

    - Linear: Xavier, uniform with variance 2 / (fan_in + fan_out).
    - Convolutions: Kaiming, normal with variance 2 / fan_out, which a ReLU needs to keep the variance of gradients.
    - Batch normalisation: scale 1.
    - The biases of all of them, where they have one: 0.

    Sources: X. Glorot, Y. Bengio, "Understanding the difficulty of training deep feedforward neural networks", AISTATS
    2010; K. He et al., "Delving Deep into Rectifiers", ICCV 2015.
    """
    match layer:
        case nn.Linear():
            nn.init.xavier_uniform_(layer.weight)
        case nn.Conv1d() | nn.Conv2d() | nn.Conv3d():
            nn.init.kaiming_normal_(layer.weight, mode="fan_out", nonlinearity="relu")
        case nn.BatchNorm1d() | nn.BatchNorm2d() | nn.BatchNorm3d() if layer.affine:
            nn.init.ones_(layer.weight)
        case _:
            return
    if layer.bias is not None:
        nn.init.zeros_(layer.bias)
