"""Chunks of an ensemble, and the threads, processes and clusters that train them."""

from functools import partial

import hypothesis.strategies as st
import joblib
import pytest
import torch
from hypothesis import given, settings
from torch import nn
from torch.testing import assert_close

from fitcore.ensembles import Ensemble, fit
from fitcore.ensembles.chunks import chunks, spread
from fitcore.tests.plain_loop import (
    OPTIMIZERS,
    SGD,
    data,
    exactly,
    network,
    noisy,
    noisy_graph,
    normalised,
)
from fitcore.training import EarlyStopping


@settings(max_examples=8)
@given(
    chunk_size=st.integers(1, 6),
    copies=st.integers(1, 5),
    make_model=st.sampled_from([network, normalised]),
    batch_size=st.sampled_from([None, 3]),
    shared=st.booleans(),
)
def test_chunks_change_nothing(chunk_size, copies, make_model, batch_size, shared):
    x, y = data(copies=copies)
    training = (x[:1].expand(x.shape), y[:1].expand(y.shape)) if shared else (x, y)
    whole, chunked = Ensemble(make_model, range(copies)), Ensemble(make_model, range(copies))
    settings = {"optimizer": SGD, "epochs": 3, "batch_size": batch_size, "max_norm": 1.0}
    curves = fit(whole, training, **settings, chunk_size=copies)
    of_chunked = fit(chunked, training, **settings, chunk_size=chunk_size)
    exactly(chunked.flat, whole.flat)
    exactly(chunked.buffers, whole.buffers)
    exactly(of_chunked.losses, curves.losses)


@given(copies=st.integers(1, 60), n=st.integers(1, 3_000), size=st.none() | st.integers(1, 70))
@settings(max_examples=15)
def test_chunks_cover_every_copy_once_and_are_no_larger_than_asked(copies, n, size):
    ensemble = Ensemble(lambda: nn.Linear(2, 1), [0] * copies)
    slices = chunks(ensemble, torch.zeros(1, 1, 2).expand(copies, n, 2), batch=n, size=size)
    assert [copy for part in slices for copy in range(part.start, part.stop)] == list(range(copies))
    sizes = [part.stop - part.start for part in slices]
    assert min(sizes) >= 1
    assert max(sizes) <= (size or copies)
    assert max(sizes) - min(sizes) <= 1


def test_larger_steps_make_smaller_chunks():
    ensemble = Ensemble(network, range(100))
    x = torch.zeros(1, 1, 2, dtype=torch.float64).expand(100, 10_000, 2)
    assert len(chunks(ensemble, x, batch=10)) < len(chunks(ensemble, x, batch=1_000)) < 100
    assert len(chunks(ensemble, x, batch=10_000_000)) == 100
    # Of so many there is an even number, for two workers.
    assert [len(chunks(ensemble, x, batch=batch)) for batch in (1_000, 2_000)] == [2, 4]


@pytest.mark.parametrize(
    ("make_model", "sample", "parameters", "activations"),
    [
        (network, torch.zeros(2, dtype=torch.float64), 21, 2 + 5 + 5 + 1),
        (partial(nn.LSTM, 2, 3, batch_first=True, dtype=torch.float64), torch.zeros(4, 2, dtype=torch.float64), 84, 26),
    ],
    ids=["MLP", "LSTM"],
)
def test_what_exceeds_two_and_a_half_megabytes_is_divided(make_model, sample, parameters, activations):
    ensemble = Ensemble(make_model, [0] * 100)
    most = int((2_500_000 / (100 * 8) - parameters) / activations)
    x = sample.expand(100, 2, *sample.shape)
    assert [len(chunks(ensemble, x, batch=batch)) for batch in (most, most + 1)] == [1, 2]


def test_a_step_is_sized_up_by_one_sample_in_evaluation():
    ensemble = Ensemble(normalised, range(4))
    assert chunks(ensemble, torch.zeros(4, 3, 2, dtype=torch.float64), batch=3) == [slice(0, 4)]
    assert ensemble.module_like.training
    assert (ensemble.buffers["1.num_batches_tracked"] == 0).all()


@pytest.fixture(scope="module")
def dask_cluster():
    distributed = pytest.importorskip("distributed", reason="needs the extra dask")
    with (
        distributed.LocalCluster(n_workers=2, threads_per_worker=1, processes=True, dashboard_address=None) as cluster,
        distributed.Client(cluster),
    ):
        yield cluster


def assert_equals_one_after_the_other(make_model, **settings):
    ensembles = [Ensemble(make_model, range(4)) for _ in range(2)]
    settings |= {
        "optimizer": OPTIMIZERS["Adam"],
        "epochs": 4,
        "batch_size": 4,
        "validation": data(copies=4, seed=1),
        "early_stopping": EarlyStopping(patience=2),
        "l1": torch.tensor([0.0, 0.1, 0.2, 0.3]),
        "chunk_size": 2,
    }
    with joblib.parallel_config(n_jobs=1):
        alone = fit(ensembles[0], data(copies=4), **settings)
    spread_out = fit(ensembles[1], data(copies=4), **settings)
    assert torch.equal(ensembles[0].flat, ensembles[1].flat)
    assert_close(ensembles[1].buffers, ensembles[0].buffers, rtol=0, atol=0)
    assert_close(vars(spread_out), vars(alone), rtol=0, atol=0, equal_nan=True)


@pytest.mark.parametrize("make_model", [noisy, noisy_graph, normalised])
@pytest.mark.parametrize("jobs", [1, 2])
def test_threads_change_nothing(make_model, jobs):
    with joblib.parallel_config(backend="threading", n_jobs=jobs):
        assert_equals_one_after_the_other(make_model)


def test_threads_leave_the_global_state_as_it_was():
    state = torch.get_rng_state()
    with joblib.parallel_config(backend="threading", n_jobs=2):
        fit(Ensemble(noisy_graph, range(8)), data(copies=8), optimizer=SGD, epochs=3, chunk_size=1)
    assert torch.equal(torch.get_rng_state(), state)


@pytest.mark.parametrize("make_model", [noisy, noisy_graph, normalised])
def test_processes_change_nothing(make_model):
    with joblib.parallel_config(backend="loky", n_jobs=2):
        assert_equals_one_after_the_other(make_model)


@pytest.mark.parametrize("make_model", [noisy, noisy_graph, normalised])
def test_a_dask_cluster_changes_nothing(make_model, dask_cluster):
    with joblib.parallel_config(backend="dask"):
        assert_equals_one_after_the_other(make_model)


def test_spread_keeps_the_order_and_gives_every_worker_one_thread():
    threads = torch.get_num_threads()
    torch.set_num_threads(2)
    try:
        with joblib.parallel_config(n_jobs=1):
            assert spread(lambda i: (i, torch.get_num_threads()), [(i,) for i in range(3)]) == [(0, 2), (1, 2), (2, 2)]
        with joblib.parallel_config(backend="threading", n_jobs=2):
            assert spread(lambda i: (i, torch.get_num_threads()), [(i,) for i in range(3)]) == [(0, 1), (1, 1), (2, 1)]
        assert torch.get_num_threads() == 2
    finally:
        torch.set_num_threads(threads)
