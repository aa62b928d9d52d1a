"""Tests of ``fitcore.seeding``: the three global generators are seeded within a block, and restored after it."""

import random

import numpy as np
import pytest
import torch

from fitcore.seeding import seeded


def draws() -> tuple[float, float, float]:
    return random.random(), float(np.random.random()), float(torch.rand(()))  # noqa: NPY002


def draws_under(seed: int) -> tuple[float, float, float]:
    with seeded(seed):
        return draws()


def failing_under(seed: int) -> None:
    with seeded(seed), pytest.raises(ZeroDivisionError):
        1 / 0  # noqa: B018


@pytest.mark.parametrize("seed", [0, 7, 2**32 - 1])
def test_equal_seeds_draw_equally(seed):
    assert draws_under(seed) == draws_under(seed)


def test_different_seeds_draw_differently():
    assert not set(draws_under(0)) & set(draws_under(1))


@pytest.mark.parametrize("block", [draws_under, failing_under])
def test_a_block_leaves_the_generators_as_they_were(block):
    with seeded(3):
        expected = draws()
    with seeded(3):
        block(5)
        assert draws() == expected


@pytest.mark.parametrize("seed", [-1, 2**32])
def test_a_seed_outside_the_range_of_all_generators_is_refused(seed):
    with pytest.raises(ValueError, match=rf"seed must be in \[0, 2\*\*32\), got {seed}"), seeded(seed):
        pass
