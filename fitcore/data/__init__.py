"""Data: embedded readings, generators and splits."""

from fitcore.data.celsius import normalise, thermometer_readings
from fitcore.data.generators import cubic_plus_sine, cubic_plus_sine_law, noisy_sine
from fitcore.data.splits import train_validation_split

__all__ = [
    "cubic_plus_sine",
    "cubic_plus_sine_law",
    "noisy_sine",
    "normalise",
    "thermometer_readings",
    "train_validation_split",
]
