"""Eleven readings of an unlabelled thermometer beside the temperature in degrees Celsius.

Source: E. Stevens, L. Antiga, T. Viehmann, "Deep Learning with PyTorch" (Manning, 2020), section 5.2.
"""

import torch
from torch import Tensor

_CELSIUS = (0.5, 14.0, 15.0, 28.0, 11.0, 8.0, 3.0, -4.0, 6.0, 13.0, 21.0)
_UNKNOWN = (35.7, 55.9, 58.2, 81.9, 56.3, 48.9, 33.9, 21.8, 48.4, 60.4, 68.4)


def thermometer_readings(dtype: torch.dtype = torch.float32) -> tuple[Tensor, Tensor]:
    """``(t_u, t_c)``, each (11,): readings in the thermometer's unknown unit, and in °C. Fresh tensors on each call."""
    return torch.tensor(_UNKNOWN, dtype=dtype), torch.tensor(_CELSIUS, dtype=dtype)


def normalise(t_u: Tensor) -> Tensor:
    """``0.1 t_u``: the readings divided by ten, which brings them nearer to unit size (2.18 to 8.19)."""
    return 0.1 * t_u
