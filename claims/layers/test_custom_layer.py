"""Section 5.5.2: a linear layer written by hand that adds noise to its inputs in training."""

from functools import partial

import hypothesis.strategies as st
import torch
from hypothesis import example, given
from torch import nn
from torch.nn import functional

from fitcore.ensembles import Ensemble, fit
from fitcore.models import NoisyLinear, number_of_parameters
from fitcore.seeding import seeded
from fitcore.testing import claim, override, replace
from fitcore.testing.strategies import shapes, strided, tensors

PASSES = 4_000
sizes = st.integers(1, 8)
seeds = st.integers(0, 2**32 - 1)


class UnregisteredLinear(NoisyLinear):
    """The same layer with plain tensors for parameters."""

    def __init__(self, in_features, out_features, noise_std=0.1):
        super().__init__(in_features, out_features, noise_std)
        weight, bias = self.weight.detach(), self.bias.detach()
        del self.weight, self.bias
        self.weight, self.bias = weight, bias


class NoiseOnOutputs(NoisyLinear):
    def forward(self, x):
        y = functional.linear(x, self.weight, self.bias)
        return y + self.noise_std * torch.randn_like(y)


class NoiseInPlace(NoisyLinear):
    def forward(self, x):
        return functional.linear(x.add_(self.noise_std * torch.randn_like(x)), self.weight, self.bias)


class CustomNet(nn.Module):
    def __init__(self, layer=NoisyLinear):
        super().__init__()
        self.layer1 = layer(10, 20, noise_std=0.05)
        self.layer2 = nn.Linear(20, 5)

    def forward(self, x):
        return self.layer2(functional.relu(self.layer1(x)))


stays_in_training = replace("torch.nn.Module.eval", lambda module: module, "eval does nothing")


@claim(
    "pytorch-notes/custom-layer-noise-only-in-train",
    controls=[stays_in_training, override("without noise", noise_std=0.0)],
)
@example(rows=4, noise_std=0.05, seed=0)
@given(rows=st.integers(1, 5), noise_std=st.floats(0.01, 1), seed=seeds)
def test_outputs_are_random_in_training_and_repeat_in_evaluation(rows, noise_std, seed):
    with seeded(seed):
        layer, x = NoisyLinear(10, 20, noise_std), torch.randn(rows, 10)
        assert not torch.equal(layer(x), layer(x))
        layer.eval()
        assert torch.equal(layer(x), layer(x))
        assert not torch.equal(layer.train()(x), layer(x))


@claim(
    "pytorch-notes/custom-layer-in-eval-equals-linear",
    finding="To the bit, from the same state: the two have the same parameters under the same names.",
    controls=[stays_in_training],
)
@given(in_features=sizes, out_features=sizes, batch=shapes(max_dims=2), seed=seeds)
def test_in_evaluation_the_layer_is_the_linear_layer_of_its_weights(in_features, out_features, batch, seed):
    with seeded(seed):
        layer, linear = NoisyLinear(in_features, out_features), nn.Linear(in_features, out_features)
        linear.load_state_dict(layer.state_dict())
        x = torch.randn(*batch, in_features)
        assert torch.equal(layer.eval()(x), linear(x))


@claim(
    "pytorch-notes/custom-layer-noise-scale",
    finding="With ten weights of size 0.01 a row has norm 0.03, and noise of 0.05 on the inputs is 0.0015 on the "
    "outputs. Small weights shrink signal and noise alike.",
    controls=[override("noise on the outputs", layer=NoiseOnOutputs)],
    trials=20,
)
def test_an_output_has_the_noise_of_the_inputs_times_the_norm_of_its_weights(trials, evidence, layer=NoisyLinear):
    @torch.no_grad()
    def stds(seed):
        built, x = layer(10, 20, noise_std=0.05), torch.randn(10)
        return torch.stack([built(x.expand(PASSES, 10)).std(0), 0.05 * built.weight.norm(dim=1)])

    measured, predicted = trials.map(stds).swapaxes(0, 1)
    evidence.observe("standard deviation of the noise of an output", measured, limit=0.05)
    trials.always((abs(measured / predicted - 1) < 7 / (2 * PASSES) ** 0.5).all(1), name="within seven standard errors")
    trials.always((measured < 0.05 / 5).all(1), name="less than a fifth of the noise on the inputs")


def left_plain(tensor):
    return tensor.requires_grad_()


@claim(
    "pytorch-notes/parameter-registers-tensor-in-module",
    finding="Requiring a gradient isn't enough: a plain tensor gets one, but parameters(), state_dict() and to() pass "
    "it by.",
    controls=[override("a tensor that requires a gradient", wrap=left_plain)],
)
@given(tensor=tensors(), wrap=st.just(nn.Parameter))
def test_a_parameter_belongs_to_the_module_and_a_plain_tensor_does_not(tensor, wrap):
    module = nn.Module()
    module.wrapped, module.plain = wrap(tensor.clone()), left_plain(tensor.clone())
    assert [name for name, _ in module.named_parameters()] == ["wrapped"]
    assert list(module.state_dict()) == ["wrapped"]
    assert module.wrapped.requires_grad
    module.double()
    assert (module.wrapped.dtype, module.plain.dtype) == (torch.float64, torch.float32)


@claim(
    "pytorch-notes/extra-repr-appears-in-print",
    controls=[replace("fitcore.models.NoisyLinear.extra_repr", nn.Module.extra_repr, "the inherited extra_repr")],
)
@example(in_features=10, out_features=20, noise_std=0.05)
@given(in_features=sizes, out_features=sizes, noise_std=st.floats(0, 1))
def test_print_shows_what_extra_repr_says(in_features, out_features, noise_std):
    layer = NoisyLinear(in_features, out_features, noise_std)
    described = f"NoisyLinear(in_features={in_features}, out_features={out_features}, noise_std={noise_std})"
    assert str(layer) == described
    assert f"\n  (0): {described}\n" in str(nn.Sequential(layer))


@claim(
    "pytorch-notes/custom-layer-listing-runs",
    finding="On targets of a random linear map 100 updates of Adam at 0.01 lower the loss to about 0.65 % (median).",
    controls=[override("plain tensors for parameters", layer=UnregisteredLinear)],
    trials=20,
)
def test_the_network_maps_ten_features_to_five_and_learns_in_both_layers(trials, evidence, layer=NoisyLinear):
    ensemble = Ensemble(lambda: CustomNet(layer), trials.seeds)
    with seeded(int(trials.seeds[0])):
        x, teachers = torch.randn(trials.count, 64, 10), torch.randn(trials.count, 10, 5) / 10**0.5
    assert ensemble(x).shape == (trials.count, 64, 5)
    before = {name: stack.clone() for name, stack in ensemble.stacks().items()}
    losses = fit(ensemble, (x, x @ teachers), epochs=100, optimizer=partial(torch.optim.Adam, lr=0.01)).losses
    changes = {name: (stack - before[name]).flatten(1) for name, stack in ensemble.stacks().items()}
    evidence.curve("loss, first seed", range(100), {"loss": losses[:, 0]}, x_label="update")
    evidence.observe("last loss over the first", losses[-1] / losses[0])
    assert set(changes) == {"layer1.weight", "layer1.bias", "layer2.weight", "layer2.bias"}
    trials.always(torch.stack([change.any(1) for change in changes.values()]).all(0), name="all four move")
    trials.always(losses[-1] < 0.02 * losses[0], name="the loss falls to less than 2 %")


@claim(
    "pytorch-notes/custom-layer-leaves-input-unchanged",
    finding="x + noise is a new tensor, to which the name x is bound; x += noise would have changed the caller's.",
    controls=[override("added in place", layer=NoiseInPlace)],
)
@given(x=strided(tensors(st.tuples(st.integers(1, 4), st.just(10)))), seed=seeds, layer=st.just(NoisyLinear))
def test_the_input_keeps_every_bit(x, seed, layer):
    before, version = x.clone(), x._version
    with seeded(seed):
        layer(10, 20)(x)
    assert torch.equal(x, before)
    assert x._version == version


@claim(
    "pytorch-notes/customnet-has-325-parameters",
    finding="220 and 105, in tensors of the same shapes.",
    controls=[override("plain tensors for parameters", layer=UnregisteredLinear)],
)
def test_the_network_has_the_parameters_of_one_with_two_linear_layers(layer=NoisyLinear):
    shapes = [tuple(parameter.shape) for parameter in CustomNet(layer).parameters()]
    plain = nn.Sequential(nn.Linear(10, 20), nn.Linear(20, 5))
    assert shapes == [tuple(parameter.shape) for parameter in plain.parameters()]
    assert number_of_parameters(CustomNet(layer)) == 325
