"""Every formula is held against autograd, in float64."""

from types import SimpleNamespace

import hypothesis.strategies as st
import pytest
import torch
from hypothesis import given, settings
from torch import nn
from torch.testing import assert_close

from fitcore.gradients.backpropagation import (
    Affine,
    BatchNorm,
    Dropout,
    Noise,
    ReLU,
    Sigmoid,
    Tanh,
    cross_entropies_derivative,
    layers_of,
    mean_squared_errors_derivative,
)
from fitcore.models import MLP, GaussianNoise
from fitcore.testing.strategies import tensors

few = st.integers(1, 4)
reals = st.floats(-3, 3).map(lambda number: number + 0.01)  # off the kink of ReLU


def real_tensors(*shape):
    return tensors(shape, torch.float64, reals)


def activations(features=few):
    return st.tuples(few, features, few).flatmap(lambda shape: st.tuples(real_tensors(*shape), real_tensors(*shape)))


def generator():
    return torch.Generator().manual_seed(0)


@st.composite
def affine_cases(draw):
    copies, fan_in, fan_out, n = (draw(few) for _ in range(4))
    x = draw(real_tensors(copies, fan_in, n))
    return SimpleNamespace(
        weight=draw(real_tensors(copies, fan_out, fan_in)),
        bias=draw(st.none() | real_tensors(copies, fan_out)),
        x=x[:1].expand(x.shape) if draw(st.booleans()) else x,
        g=draw(real_tensors(copies, fan_out, n)),
        first=draw(st.booleans()),
    )


@settings(max_examples=30)
@given(case=affine_cases())
def test_affine_is_its_formula_and_autograds_gradients(case):
    leaves = [tensor.clone().requires_grad_() for tensor in (case.x, case.weight)]
    bias = torch.zeros(case.weight.shape[:2], dtype=torch.float64) if case.bias is None else case.bias.clone()
    expected = leaves[1] @ leaves[0] + bias.requires_grad_()[..., None]
    of_x, of_weight, of_bias = torch.autograd.grad(expected, (*leaves, bias), case.g)
    gradients = torch.full_like(case.weight, torch.nan), None if case.bias is None else torch.full_like(bias, torch.nan)
    layer = Affine(case.weight, case.bias, *(g if g is None else g.detach() for g in gradients), first=case.first)
    assert_close(layer.forward(case.x), expected.detach())
    returned = layer.backward(case.g)
    assert_close(gradients[0], of_weight)
    assert_close(of_bias if case.bias is None else gradients[1].detach(), of_bias)
    assert_close(of_x if case.first else returned, of_x)


@pytest.mark.parametrize(("layer", "function"), [(Tanh, torch.tanh), (Sigmoid, torch.sigmoid), (ReLU, torch.relu)])
@settings(max_examples=15)
@given(data=st.data())
def test_activations_are_their_formula_and_autograds_gradient(layer, function, data):
    x, g = data.draw(activations())
    leaf, layer = x.clone().requires_grad_(), layer()
    expected = function(leaf)
    (gradient,) = torch.autograd.grad(expected, leaf, g)
    assert_close(layer.forward(x), expected.detach())
    assert_close(layer.backward(g), gradient)


@pytest.mark.parametrize("value", [-800.0, -20.0, 0.0, 20.0, 800.0])
@pytest.mark.parametrize("layer", [Tanh, Sigmoid, ReLU])
def test_activations_stay_finite_far_out(layer, value):
    layer, x = layer(), torch.full((1, 1, 1), value)
    assert layer.forward(x).isfinite().all()
    assert layer.backward(torch.ones(1, 1, 1)).isfinite().all()


@settings(max_examples=15)
@given(pair=activations(), p=st.sampled_from([0.0, 0.3, 0.5, 1.0]))
def test_dropout_sends_the_gradient_back_through_the_mask_of_the_last_forward(pair, p):
    x, g = pair
    layer, before = Dropout(p, generator()), x.clone()
    layer.forward(x)
    scaled_mask = layer.forward(torch.ones_like(x)).clone()
    assert torch.isin(scaled_mask, torch.tensor([0.0, 1 / (1 - p or 1)], dtype=torch.float64)).all()
    assert_close(layer.backward(g.clone()), scaled_mask * g)
    assert torch.equal(x, before)


@settings(max_examples=30)
@given(
    pair=st.tuples(few, few, st.integers(2, 5)).flatmap(
        lambda shape: st.tuples(real_tensors(*shape), real_tensors(*shape))
    ),
    momentum=st.floats(0.0, 1.0),
    steps=st.integers(1, 3),
)
def test_batch_norm_is_torchs_in_training_and_in_evaluation(pair, momentum, steps):
    x, g = pair
    copies, features, _ = x.shape
    modules = [nn.BatchNorm1d(features, momentum=momentum).double() for _ in range(copies)]
    for copy, module in enumerate(modules):
        nn.init.uniform_(module.weight, copy, copy + 1)
        nn.init.normal_(module.bias)
    of_copies = [[module.weight.detach() for module in modules], [module.bias.detach() for module in modules]]
    parameters, gradients = (tuple(map(torch.stack, of_copies)) for _ in range(2))
    layer = BatchNorm(modules[0], parameters, gradients, tuple(running(modules[0], copies).values()))
    for step in range(steps):
        leaf = (x + step * g).requires_grad_()
        expected = torch.stack([module(own.mT).mT for module, own in zip(modules, leaf, strict=True)])
        assert_close(layer.forward(leaf.detach()), expected.detach())
    wanted = [leaf, *(module.weight for module in modules), *(module.bias for module in modules)]
    of_x, *of_parameters = torch.autograd.grad(expected, wanted, g)
    assert_close(layer.backward(g.clone()), of_x)
    assert_close(torch.cat(gradients), torch.stack(of_parameters))
    assert_close(layer.running_mean, torch.stack([module.running_mean for module in modules]))
    assert_close(layer.running_variance, torch.stack([module.running_var for module in modules]))
    assert layer.batches.tolist() == [steps] * copies
    evaluated = torch.stack([module.eval()(own.mT).mT for module, own in zip(modules, x, strict=True)])
    assert_close(layer.evaluate(x), evaluated.detach())


def test_batch_norm_of_one_sample_is_refused_as_by_torch():
    (layer,) = layers(nn.Linear(1, 2), nn.BatchNorm1d(2))[1:]
    with pytest.raises(ValueError, match="Expected more than 1 value per channel when training"):
        layer.forward(torch.ones(2, 2, 1, dtype=torch.float64))


@settings(max_examples=15)
@given(pair=activations())
def test_noise_sends_the_gradient_back_as_it_is(pair):
    x, g = pair
    drawn = torch.empty_like(x).normal_(std=0.5, generator=generator())
    layer = Noise(0.5, generator())
    assert_close(layer.forward(x), x + drawn)
    assert torch.equal(layer.backward(g), g)
    assert not torch.equal(layer.forward(x), x + drawn), "it is drawn anew"


@settings(max_examples=15)
@given(pair=activations())
def test_squared_errors_and_their_derivative_are_autograds(pair):
    predictions, targets = pair
    leaf = predictions.clone().requires_grad_()
    expected = (leaf - targets).square().flatten(1).mean(1)
    (gradient,) = torch.autograd.grad(expected.sum(), leaf)
    losses, derivative = mean_squared_errors_derivative(predictions, targets)
    assert_close(losses, expected.detach())
    assert_close(derivative, gradient)


@settings(max_examples=15)
@given(data=st.data(), copies=few, n=few, classes=st.integers(2, 5), scale=st.sampled_from([1.0, 1e3]))
def test_cross_entropies_and_their_derivative_are_autograds(data, copies, n, classes, scale):
    leaf = (scale * data.draw(real_tensors(copies, n, classes))).requires_grad_()
    labels = data.draw(tensors((copies, n), torch.int64, st.integers(0, classes - 1)))
    expected = torch.stack([nn.functional.cross_entropy(*one) for one in zip(leaf, labels, strict=True)])
    (gradient,) = torch.autograd.grad(expected.sum(), leaf)
    losses, derivative = cross_entropies_derivative(leaf.detach(), labels)
    assert_close(losses, expected.detach())
    assert_close(derivative, gradient)


def stacked(module, copies):
    """Parameters and gradients of copies that differ, as an ensemble has them."""
    return tuple(
        {
            name: torch.stack([(copy + 1) * fill(p) for copy in range(copies)])
            for name, p in module.double().named_parameters()
        }
        for fill in (lambda p: p.detach(), torch.zeros_like)
    )


def running(module, copies):
    """Running statistics of copies, as an ensemble has them."""
    return {name: torch.stack([buffer.clone() for _ in range(copies)]) for name, buffer in module.named_buffers()}


@settings(max_examples=15)
@given(
    widths=st.lists(few, min_size=2, max_size=5),
    activation=st.sampled_from([nn.Tanh, nn.Sigmoid, nn.ReLU, None]),
    copies=few,
    n=few,
    data=st.data(),
)
def test_whole_networks_have_autograds_gradients(widths, activation, copies, n, data):
    module = MLP(widths, activation) if activation else MLP(widths)
    parameters, gradients = stacked(module, copies)
    x, g = data.draw(real_tensors(copies, widths[0], n)), data.draw(real_tensors(copies, widths[-1], n))
    layers = layers_of(module, parameters, gradients, {}, generator())
    for _ in range(2):  # the second time in the memory of the first
        outputs, gradient = x, g.clone()
        for layer in layers:
            outputs = layer.forward(outputs)
        for layer in reversed(layers):
            gradient = layer.backward(gradient)
    for copy in range(copies):
        own = {name: stack[copy].clone().requires_grad_() for name, stack in parameters.items()}
        expected = torch.func.functional_call(module, own, (x[copy].mT,)).mT
        assert_close(outputs[copy], expected.detach())
        of_copy = torch.autograd.grad(expected, list(own.values()), g[copy])
        assert_close([stack[copy] for stack in gradients.values()], list(of_copy))


@pytest.mark.parametrize("dim", [0, 1, 2])
def test_affine_takes_inputs_that_repeat_along_any_dimension(dim):
    x = torch.rand(3, 3, 3, dtype=torch.float64).narrow(dim, 0, 1).expand(3, 3, 3)
    weight, gradient = torch.rand(2, 3, 3, 3, dtype=torch.float64)
    layer = Affine(weight, None, gradient, None, first=True)
    assert_close(layer.forward(x), weight @ x)
    g = torch.rand(3, 3, 3, dtype=torch.float64)
    layer.backward(g)
    assert_close(gradient, g @ x.mT)


def test_layers_write_into_the_memory_of_the_last_call():
    weight, bias = torch.ones(2, 3, 4), torch.ones(2, 3)
    layer, x = Affine(weight, bias, torch.empty_like(weight), torch.empty_like(bias), first=False), torch.ones(2, 4, 5)
    first = layer.forward(x)
    assert layer.forward(x).data_ptr() == first.data_ptr()
    assert layer.forward(torch.ones(2, 4, 6)).shape == (2, 3, 6)
    activation = Tanh()
    assert activation.forward(first).data_ptr() == first.data_ptr()


def layers(*modules):
    module = nn.Sequential(*modules)
    return layers_of(module, *stacked(module, 2), running(module, 2), generator())


def test_known_layers_are_recognised():
    hidden = nn.Linear(2, 3), nn.BatchNorm1d(3), nn.ReLU(), nn.Dropout(), nn.Identity()
    known = layers(nn.Flatten(), GaussianNoise(0.1), *hidden, nn.Linear(3, 1))
    assert [type(layer) for layer in known] == [Noise, Affine, BatchNorm, ReLU, Dropout, Affine]
    noise, _, norm, _, dropout, _ = known
    assert (noise.std, dropout.p, norm.running_mean.shape, norm.running_variance.shape) == (0.1, 0.5, (2, 3), (2, 3))
    assert isinstance(noise.generator, torch.Generator)
    assert dropout.generator is noise.generator
    assert (known[1].first, layers(nn.Linear(2, 1))[0].first) == (False, True)


def test_the_parameters_of_a_norm_may_be_all_that_there_are():
    assert [type(layer) for layer in layers(GaussianNoise(0.1), nn.BatchNorm1d(3))] == [Noise, BatchNorm]


@pytest.mark.parametrize("register", ["register_forward_hook", "register_forward_pre_hook"])
def test_what_has_hooks_is_left_to_autograd(register):
    module = nn.Linear(2, 2)
    getattr(module, register)(lambda *_: None)
    assert layers(module, nn.Tanh()) is None


def test_a_layer_that_stands_twice_counts_twice():
    activation = nn.Tanh()
    assert [type(layer) for layer in layers(nn.Linear(2, 3), activation, nn.Linear(3, 1), activation)] == [
        Affine,
        Tanh,
        Affine,
        Tanh,
    ]


def frozen(name):
    layer = nn.Linear(2, 2)
    getattr(layer, name).requires_grad_(False)
    return layer


TIED = nn.Linear(2, 2)


@pytest.mark.parametrize(
    "modules",
    [
        [nn.BatchNorm1d(2), nn.Linear(2, 3)],
        [nn.Linear(2, 3), nn.BatchNorm1d(3, affine=False)],
        [nn.Linear(2, 3), nn.BatchNorm1d(3, track_running_stats=False)],
        [nn.Linear(2, 3), nn.BatchNorm1d(3, momentum=None)],
        [nn.Tanh(), nn.Linear(2, 3)],
        [nn.Linear(2, 3), nn.Tanh(), nn.Tanh()],
        [nn.Linear(2, 3), nn.Flatten()],
        [nn.Flatten(0), nn.Linear(2, 3)],
        [nn.Linear(2, 3), nn.Dropout(0.5, inplace=True)],
        [TIED, nn.Tanh(), TIED],
        [nn.utils.parametrizations.weight_norm(nn.Linear(2, 3))],
    ],
)
def test_networks_with_other_layers_are_left_to_autograd(modules):
    assert layers(*modules) is None


@pytest.mark.parametrize("name", ["weight", "bias"])
def test_frozen_parameters_are_left_to_autograd(name):
    module = nn.Sequential(frozen(name))
    trainable = {key: p[None] for key, p in module.named_parameters() if p.requires_grad}
    assert layers_of(module, trainable, trainable, {}, generator()) is None


def test_a_forward_of_its_own_is_left_to_autograd():
    class Residual(nn.Sequential):
        def forward(self, x):
            return x + super().forward(x)

    module = Residual(nn.Linear(2, 2))
    assert layers_of(module, *stacked(module, 2), {}, generator()) is None
