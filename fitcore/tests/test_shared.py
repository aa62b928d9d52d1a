"""Tests of ``fitcore.testing.shared``: what is computed once, under which seed, and what is kept apart."""

import functools
import os
import signal
from collections.abc import Iterator
from concurrent.futures import BrokenExecutor

import joblib
import pytest
import torch

from fitcore.testing import ClaimError
from fitcore.testing.shared import Shared
from fitcore.tests.project import Project


class Counted:
    """A function that counts its calls."""

    def __init__(self) -> None:
        self.calls = 0

    def __call__(self, *args: object, **kwargs: object) -> tuple[object, ...]:
        self.calls += 1
        return args


def draw(*args: object, **kwargs: object) -> float:
    return torch.rand(()).item()


def process(_: int) -> int:
    return os.getpid()


@pytest.fixture
def shared() -> Iterator[Shared]:
    shared = Shared(0)
    yield shared
    shared.close()


def test_a_call_is_computed_once(shared):
    counted = Counted()
    assert shared(counted, 1, x=2) is shared(counted, 1, x=2)
    assert counted.calls == 1


@pytest.mark.parametrize(("args", "kwargs"), [((2,), {}), ((1.0,), {}), ((True,), {}), ((1,), {"x": 1}), ((), {})])
def test_other_arguments_are_another_call(args, kwargs, shared):
    counted = Counted()
    shared(counted, 1)
    shared(counted, *args, **kwargs)
    assert counted.calls == 2


def test_the_order_of_keywords_says_nothing(shared):
    assert shared(draw, x=1, y=2) == shared(draw, y=2, x=1) == Shared(0)(draw, y=2, x=1)


def test_a_result_depends_on_the_base_seed_and_not_on_what_ran_before(shared):
    shared(draw, 1)
    torch.rand(3)
    assert shared(draw, 2) == Shared(0)(draw, 2)
    assert shared(draw, 2) != Shared(1)(draw, 2)
    assert shared(draw, 1) != shared(draw, 2)


def test_the_seed_does_not_depend_on_where_an_argument_lies_in_memory():
    first, second = (functools.partial(draw, lambda: 0) for _ in range(2))
    assert repr(first) != repr(second)
    assert Shared(0)(draw, first) == Shared(0)(draw, second)


def test_global_generators_are_left_as_they_were(shared):
    state = torch.get_rng_state()
    shared(draw)
    assert (torch.get_rng_state() == state).all()


def test_gradients_are_on_whatever_the_claim_that_asks_has_set(shared):
    with torch.no_grad():
        assert shared(torch.is_grad_enabled)
        assert not torch.is_grad_enabled()


def test_results_kept_apart_are_forgotten_and_the_others_are_not(shared):
    counted = Counted()
    shared(counted)
    with shared.apart():
        shared(counted)
        shared(counted)
    shared(counted)
    assert counted.calls == 2


def test_an_argument_that_cannot_be_hashed_is_told(shared):
    with pytest.raises(ClaimError, match=r"shared\(draw, ...\) needs hashable arguments: unhashable type: 'list'"):
        shared(draw, [1])


def test_only_a_replacement_computes_anew_and_leaks_nowhere(project: Project):
    project.claims("""
import math
def area(radius): return math.pi * radius**2

@claim("doc/a", controls=[replace("math.pi", 0), override("none", radius=0)])
def test_a(shared, radius=2):
    assert shared(area, radius) > 0

@claim("doc/b", controls=[replace("math.pi", 0)])
def test_b(shared):
    assert shared(area, 2) > 12

def test_without_a_claim(shared):
    assert shared(area, 2) > 12
""")
    project.run().assert_outcomes(passed=6)
    project.run("--controls", "only").assert_outcomes(passed=4)


@pytest.mark.parametrize(("args", "kwargs"), [((1,), {}), ((), {"x": 1}), ((1, 2), {}), ((), {"y": 2, "x": 1})])
def test_a_call_is_the_same_however_it_is_spelt(args: tuple[int, ...], kwargs: dict[str, int]) -> None:
    calls = []
    shared = Shared(0)

    def add(x: int, y: int = 2) -> int:
        calls.append(x)
        return x + y

    assert shared(add, 1) == shared(add, *args, **kwargs) == 3
    assert len(calls) == 1


def test_common_seeds_depend_on_the_base_seed_alone() -> None:
    assert Shared(1).seeds(5).tolist() == Shared(1).seeds(5).tolist()
    assert not set(Shared(1).seeds(5)) & set(Shared(2).seeds(5))


def test_each_is_a_call_for_each(shared):
    one_by_one = [Shared(0)(draw, seed, x=3) for seed in (1, 2, 2)]
    assert Shared(0).each(draw, [1, 2, 2], x=3) == one_by_one
    with joblib.parallel_config(n_jobs=2):
        assert shared.each(draw, [1, 2, 2], x=3) == one_by_one


def test_only_what_is_not_known_is_computed_by_other_processes(shared):
    shared(process, 1)
    with joblib.parallel_config(n_jobs=2):
        here, *elsewhere = shared.each(process, [1, 2, 3])
    assert here == os.getpid()
    assert here not in elsewhere
    assert shared.each(process, [3, 2]) == elsewhere[::-1]


def test_what_is_kept_apart_is_computed_here_where_the_patch_is(shared):
    with joblib.parallel_config(n_jobs=2), shared.apart():
        assert set(shared.each(process, [1, 2])) == {os.getpid()}


def killed_if_odd(number: int) -> int:
    if number % 2:
        os.kill(os.getpid(), signal.SIGKILL)
    return number


def test_a_process_that_is_killed_takes_no_more_than_one_call_with_it(shared):
    with joblib.parallel_config(n_jobs=2):
        with pytest.raises(BrokenExecutor):
            shared.each(killed_if_odd, [1, 3])
        assert shared.each(killed_if_odd, [2, 4]) == [2, 4]
