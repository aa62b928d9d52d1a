"""The packages of section 5.6, which no other section needs."""

import warnings

import pytest


@pytest.fixture(scope="session")
def torchsummary():
    return pytest.importorskip("torchsummary", reason="needs torchsummary, of the extra test")


@pytest.fixture(scope="session")
def thop():
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "distutils", DeprecationWarning)
        return pytest.importorskip("thop", reason="needs thop, of the extra test, and distutils, which it imports")
