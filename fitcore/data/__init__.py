"""Data: embedded readings and images, generators and splits."""

from fitcore.data.celsius import normalise, thermometer_readings
from fitcore.data.embedded import LabelledImages, cifar10, mnist
from fitcore.data.generators import cubic_plus_sine, cubic_plus_sine_law, noisy_sine
from fitcore.data.splits import train_validation_split

__all__ = [
    "LabelledImages",
    "cifar10",
    "cubic_plus_sine",
    "cubic_plus_sine_law",
    "mnist",
    "noisy_sine",
    "normalise",
    "thermometer_readings",
    "train_validation_split",
]
