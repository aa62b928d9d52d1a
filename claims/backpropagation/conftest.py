"""The network of sections 10 and 12 as it is before training, with some digits."""

import pytest
import torch

from fitcore.data import mnist
from fitcore.models import CNN


@pytest.fixture
def document_cnn(data_root):
    """``document_cnn(n)``: the network, n random digits and their labels."""
    real = mnist(data_root)

    def fresh(n):
        some = real[torch.randperm(len(real))[:n]]
        return CNN(widths=(16, 32), hidden=None), some.scaled, some.labels

    return fresh
