import pickle

import hypothesis.strategies as st
import pytest
import torch
from hypothesis import given, settings
from torch import nn
from torch.testing import assert_close

from fitcore.ensembles import Ensemble, cross_entropies, mean_squared_errors
from fitcore.models import MLP

SEEDS = [3, 1, 4]


def network():
    return MLP([2, 5, 1]).double()


def normalised():
    return nn.Sequential(nn.Linear(2, 3), nn.BatchNorm1d(3), nn.Linear(3, 1)).double()


def built(make_model, seed):
    torch.manual_seed(seed)
    return make_model()


def inputs(*shape, seed=0):
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


@settings(max_examples=10)
@given(
    seeds=st.lists(st.integers(0, 2**32 - 1), min_size=1, max_size=5),
    make_model=st.sampled_from([network, normalised, lambda: nn.Conv1d(1, 2, 3)]),
)
def test_copies_are_those_of_separate_seeds_and_the_global_state_stays(seeds, make_model):
    state = torch.get_rng_state()
    ensemble = Ensemble(make_model, seeds)
    assert torch.equal(torch.get_rng_state(), state)
    assert len(ensemble) == len(seeds)
    for copy, seed in enumerate(seeds):
        expected = built(make_model, seed).state_dict()
        assert_close(ensemble.module(copy).state_dict(), expected, rtol=0, atol=0)
        assert_close(expected | {name: stack[copy] for name, stack in ensemble.stacks().items()}, expected)


@settings(max_examples=10)
@given(seeds=st.lists(st.integers(0, 99), min_size=1, max_size=4), samples=st.integers(1, 5))
def test_every_copy_maps_its_own_inputs(seeds, samples):
    ensemble, x = Ensemble(network, seeds), inputs(len(seeds), samples, 2)
    outputs = ensemble(x)
    assert outputs.shape == (len(seeds), samples, 1)
    for output, seed, own in zip(outputs, seeds, x, strict=True):
        assert_close(output, built(network, seed)(own))


def test_another_vector_stands_in_for_the_parameters():
    ensemble, x = Ensemble(network, SEEDS), inputs(3, 4, 2)
    assert (ensemble(x, torch.zeros_like(ensemble.flat)) == 0).all()


def test_stacks_are_views_of_the_flat_leaf():
    ensemble = Ensemble(network, SEEDS)
    stacks = ensemble.stacks()
    assert {name: tuple(stack.shape) for name, stack in stacks.items()} == {
        "0.weight": (3, 5, 2),
        "0.bias": (3, 5),
        "2.weight": (3, 1, 5),
        "2.bias": (3, 1),
    }
    assert ensemble.flat.is_leaf
    assert ensemble.flat.requires_grad
    assert ensemble.flat.shape == (3 * 21,)
    with torch.no_grad():
        stacks["2.bias"].fill_(7.0)
    assert (ensemble.flat == 7.0).sum() == 3


def test_rows_are_each_copys_parameters_in_the_modules_order():
    rows = Ensemble(network, SEEDS).rows()
    expected = [nn.utils.parameters_to_vector(built(network, seed).parameters()) for seed in SEEDS]
    assert torch.equal(rows, torch.stack(expected))


def test_per_parameter_repeats_a_copys_value_for_each_of_its_parameters():
    ensemble = Ensemble(network, SEEDS)
    spread = ensemble.rows(ensemble.per_parameter(torch.tensor([1.0, 2.0, 3.0])))
    assert torch.equal(spread, torch.tensor([1.0, 2.0, 3.0])[:, None].expand(3, 21))


def test_a_module_is_apart_from_the_ensemble():
    ensemble = Ensemble(normalised, SEEDS)
    before = ensemble.rows().clone()
    module = ensemble.module(1)
    nn.init.zeros_(module[0].weight)
    module[1].running_mean.fill_(9.0)
    assert torch.equal(ensemble.rows(), before)
    assert (ensemble.buffers["1.running_mean"] == 0).all()


def test_a_module_of_repeated_or_tied_layers_is_one():
    def tied():
        layer = nn.Linear(2, 2)
        return nn.Sequential(layer, nn.Tanh(), layer).double()

    ensemble, x = Ensemble(tied, SEEDS), inputs(3, 4, 2)
    assert list(ensemble.stacks()) == ["0.weight", "0.bias"]
    assert_close(ensemble(x)[2], built(tied, SEEDS[2])(x[2]))


def test_a_slice_is_an_ensemble_of_its_own():
    ensemble = Ensemble(normalised, SEEDS)
    part = ensemble[1:]
    assert part.seeds == SEEDS[1:]
    assert torch.equal(part.rows(), ensemble.rows()[1:])
    rows = ensemble.rows().clone()
    with torch.no_grad():
        part.flat.zero_()
    part.buffers["1.running_mean"].fill_(9.0)
    part.eval()
    assert part.flat.is_leaf
    assert part.flat.requires_grad
    assert torch.equal(ensemble.rows(), rows)
    assert (ensemble.buffers["1.running_mean"] == 0).all()
    assert ensemble.module_like.training


def test_an_index_is_told_what_makes_a_module():
    with pytest.raises(TypeError, match=r"its copy 1 is ensemble\.module\(1\)"):
        Ensemble(network, SEEDS)[1]


class Rescaled(nn.Linear):
    """A layer that looks at a value, as `torch.vmap` can't."""

    def forward(self, x):
        return super().forward(x) / x.max().item()


def test_one_copy_may_be_a_module_that_vmap_cannot_evaluate():
    x = inputs(1, 4, 2)
    assert_close(Ensemble(lambda: Rescaled(2, 1).double(), [7])(x)[0], built(lambda: Rescaled(2, 1).double(), 7)(x[0]))


def test_assignment_to_a_slice_overwrites_these_copies_only():
    ensemble, other = Ensemble(normalised, SEEDS), Ensemble(normalised, [5, 9])
    other.buffers["1.running_mean"].fill_(9.0)
    first = ensemble.rows()[0].clone()
    ensemble[1:] = other
    assert torch.equal(ensemble.rows(), torch.cat([first[None], other.rows()]))
    assert ensemble.buffers["1.running_mean"][:, 0].tolist() == [0.0, 9.0, 9.0]
    assert ensemble.flat.is_leaf


def test_take_overwrites_the_copies_of_a_mask_only():
    ensemble, other = Ensemble(normalised, SEEDS), Ensemble(normalised, [5, 9, 2])
    for name in ("1.num_batches_tracked", "1.running_mean"):
        other.buffers[name].fill_(9)
    expected = torch.stack([ensemble.rows()[0], other.rows()[1], ensemble.rows()[2]])
    ensemble.take(other, torch.tensor([False, True, False]))
    assert torch.equal(ensemble.rows(), expected)
    assert ensemble.buffers["1.num_batches_tracked"].tolist() == [0, 9, 0]
    assert ensemble.buffers["1.running_mean"].tolist() == [[0] * 3, [9] * 3, [0] * 3]


def test_shared_data_take_the_memory_of_one():
    x = inputs(4, 2)
    shared = Ensemble(network, SEEDS).share(x)
    assert shared.shape == (3, 4, 2)
    assert shared.data_ptr() == x.data_ptr()


@pytest.mark.parametrize("seeds", [[7], SEEDS], ids=["one copy", "three"])
def test_buffers_are_each_copys_own(seeds):
    ensemble, x = Ensemble(normalised, seeds), inputs(len(seeds), 6, 2)
    outputs = ensemble(x)
    for copy, seed in enumerate(seeds):
        module = built(normalised, seed)
        assert_close(outputs[copy], module(x[copy]))
        assert_close(ensemble.module(copy).state_dict(), module.state_dict())
    assert ensemble.buffers["1.num_batches_tracked"].tolist() == [1] * len(seeds)
    assert_close(ensemble.eval()(x)[0], ensemble.module(0).eval()(x[0]))
    assert ensemble.train().module_like.training


def test_frozen_parameters_are_carried_beside_the_others():
    def half_frozen():
        model = network()
        model[0].requires_grad_(False)
        return model

    ensemble, x = Ensemble(half_frozen, SEEDS), inputs(3, 4, 2)
    assert list(ensemble.stacks()) == ["2.weight", "2.bias"]
    assert list(ensemble.buffers) == ["0.weight", "0.bias"]
    assert_close(ensemble(x)[1], built(network, SEEDS[1])(x[1]))


def test_all_of_it_moves_to_a_device():
    ensemble = Ensemble(normalised, SEEDS).to("meta")
    held = [ensemble.flat, *ensemble.buffers.values(), *ensemble.module_like.state_dict().values()]
    assert {tensor.device.type for tensor in held} == {"meta"}
    assert list(ensemble.buffers) == ["1.running_mean", "1.running_var", "1.num_batches_tracked"]
    assert ensemble.flat.is_leaf
    assert ensemble.flat.requires_grad


def test_repeated_seeds_start_alike():
    ensemble = Ensemble(network, [7, 7, 7])
    assert torch.equal(ensemble.rows()[0], ensemble.rows()[2])


def test_dropout_draws_for_each_copy():
    ensemble = Ensemble(lambda: nn.Sequential(nn.Dropout(0.5), nn.Linear(50, 1)), [0, 0])
    first, second = ensemble(torch.ones(2, 1, 50))
    assert not torch.equal(first, second)
    assert_close(*ensemble.eval()(torch.ones(2, 1, 50)))


def test_survives_a_pickle():
    ensemble, x = Ensemble(normalised, SEEDS), inputs(3, 6, 2)
    assert torch.equal(pickle.loads(pickle.dumps(ensemble))(x), ensemble(x))


def test_no_seeds_are_refused():
    with pytest.raises(ValueError, match=r"seeds must name at least one copy, got \[\]"):
        Ensemble(network, [])


def some_width():
    return nn.Linear(2, int(torch.randint(1, 1_000, ())))


def some_statistics():
    model = nn.Linear(2, 1)
    model.register_buffer("statistics", torch.zeros(int(torch.randint(1, 1_000, ()))))
    return model


@pytest.mark.parametrize(("make_model", "kind"), [(some_width, "parameters"), (some_statistics, "buffers")])
def test_copies_of_different_shapes_are_refused(make_model, kind):
    with pytest.raises(ValueError, match=rf"the same {kind} for every seed, got (\{{.*\}}) and (?!\1$)"):
        Ensemble(make_model, SEEDS)


@pytest.mark.parametrize(
    "make_model",
    [
        nn.Tanh,
        lambda: network().requires_grad_(False),
        lambda: nn.Sequential(nn.Linear(1, 1), nn.Linear(1, 1).double()),
    ],
    ids=["none", "all frozen", "of two dtypes"],
)
def test_trainable_parameters_must_be_of_one_dtype(make_model):
    with pytest.raises(ValueError, match="trainable parameters of one dtype, got"):
        Ensemble(make_model, SEEDS)


@settings(max_examples=20)
@given(data=st.data(), samples=st.integers(1, 6), copies=st.integers(1, 4), classes=st.integers(2, 5))
def test_losses_are_those_of_torch_copy_by_copy(data, samples, copies, classes):
    outputs = inputs(copies, samples, classes, seed=data.draw(st.integers(0, 99)))
    targets, labels = outputs.flip(1), outputs.argmax(-1)
    for losses, one, goal in (
        (mean_squared_errors(outputs, targets), nn.functional.mse_loss, targets),
        (cross_entropies(outputs, labels), nn.functional.cross_entropy, labels),
    ):
        assert_close(losses, torch.stack([one(*pair) for pair in zip(outputs, goal, strict=True)]))


def test_squared_errors_of_different_shapes_are_refused():
    with pytest.raises(ValueError, match=r"predictions \(2, 3, 1\), got \(2, 3\)"):
        mean_squared_errors(torch.ones(2, 3, 1), torch.ones(2, 3))


@pytest.mark.parametrize(("logits", "labels"), [((2, 3), (2, 3)), ((2, 3, 4), (2, 3, 1)), ((2, 3, 4), (3, 2))])
def test_labels_that_do_not_fit_the_logits_are_refused(logits, labels):
    with pytest.raises(ValueError, match=r"logits must have shape \(S, n, classes\) and labels \(S, n\), got"):
        cross_entropies(torch.ones(logits), torch.zeros(labels, dtype=torch.int64))
