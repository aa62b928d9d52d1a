"""Data: embedded readings and images, generators, data sets, samplers and splits."""

from fitcore.data.cached import CachedDataset
from fitcore.data.celsius import normalise, thermometer_readings
from fitcore.data.collate import pad_to_largest
from fitcore.data.embedded import LabelledImages, cifar10, mnist
from fitcore.data.generators import cubic_plus_sine, cubic_plus_sine_law, noisy_sine
from fitcore.data.multitask import MultiTaskDataset
from fitcore.data.samplers import class_balanced_sampler
from fitcore.data.splits import stratified_split, train_validation_split

__all__ = [
    "CachedDataset",
    "LabelledImages",
    "MultiTaskDataset",
    "cifar10",
    "class_balanced_sampler",
    "cubic_plus_sine",
    "cubic_plus_sine_law",
    "mnist",
    "noisy_sine",
    "normalise",
    "pad_to_largest",
    "stratified_split",
    "thermometer_readings",
    "train_validation_split",
]
