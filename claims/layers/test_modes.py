"""Section 5, the table of train() and eval(): what the mode changes, and what it has no say in."""

from functools import partial

import hypothesis.strategies as st
import torch
from hypothesis import given
from torch import nn
from torch.nn.utils import parameters_to_vector
from torch.testing import assert_close

from fitcore.gradients.graph import graph_leaves
from fitcore.models import MLP
from fitcore.testing import CONDITIONAL, REFUTED, claim, error_of, override, replace

WIDTH = 4
LAYERS = {
    "Linear": partial(nn.Linear, WIDTH, WIDTH),
    "ReLU": nn.ReLU,
    "Dropout": nn.Dropout,
    "BatchNorm1d": partial(nn.BatchNorm1d, WIDTH),
    "LayerNorm": partial(nn.LayerNorm, WIDTH),
    "AlphaDropout": nn.AlphaDropout,
    "RReLU": nn.RReLU,
}


def in_sequence(some):
    return nn.Sequential(*some)


def after_linear_and_dropout(part):
    return nn.Sequential(nn.Linear(WIDTH, WIDTH), nn.Dropout(), part)


layers = st.sampled_from(list(LAYERS)).map(lambda name: LAYERS[name]())
parts = st.recursive(layers, lambda part: st.lists(part, max_size=3).map(in_sequence), max_leaves=5)
models = parts.map(after_linear_and_dropout)


def ending_in_a_layer(model):
    """The same with a last layer, whose bias has a gradient even if no unit before it is active."""
    return nn.Sequential(*model, nn.Linear(WIDTH, WIDTH))


def batch():
    return torch.randn(8, WIDTH)


def gradients(model):
    return [parameter.grad for parameter in model.parameters()]


train, initialise = nn.Module.train, nn.Module.__init__


def switch_the_top_alone(module, mode=True):
    module.training = mode
    return module


def freeze_in_evaluation(module, mode=True):
    return train(module, mode).requires_grad_(mode)


def stay_in_training(module, mode=True):
    return module


def born_in_evaluation(module, *arguments, **options):
    initialise(module, *arguments, **options)
    module.training = False


def attributes(model):
    """Everything that the module and its parts hold, but for the flag."""
    return {
        (name, key): value
        for name, part in model.named_modules()
        for key, value in vars(part).items()
        if key != "training"
    }


def flags(model):
    return {part.training for part in model.modules()}


@claim(
    "pytorch-notes/train-and-eval-only-flip-the-training-flag",
    finding="Every attribute of every part is the same object as before, and parameters and buffers keep every bit.",
    controls=[
        replace("torch.nn.Module.train", switch_the_top_alone),
        replace("torch.nn.Module.train", freeze_in_evaluation),
    ],
)
@given(model=models)
def test_modes_differ_in_the_flag_of_all_parts_and_in_nothing_else(model):
    held, tensors = attributes(model), model.state_dict(keep_vars=True)
    before = {name: (tensor.tolist(), tensor.requires_grad) for name, tensor in tensors.items()}
    assert model.eval() is model
    assert flags(model) == {False}
    assert held.keys() == attributes(model).keys()
    assert all(value is held[key] for key, value in attributes(model).items())
    assert before == {name: (tensor.tolist(), tensor.requires_grad) for name, tensor in tensors.items()}
    assert model.train() is model
    assert flags(model) == {True}


@claim(
    "pytorch-notes/fresh-modules-start-in-train-mode",
    finding="So do all its parts: train() changes nothing before the first eval().",
    controls=[replace("torch.nn.Module.__init__", born_in_evaluation)],
)
@given(data=st.data())
def test_a_new_module_is_in_training_mode(data):
    model = data.draw(models)
    assert flags(model) == {True}


dropout = nn.functional.dropout


def nothing_dropped(x, p=0.5, training=True, inplace=False):
    return x.clone()


def ignoring_the_mode(model):
    """The weight decay of an ordinary optimizer."""
    return 0.1


def heeding_the_mode(model):
    return 0.1 if model.training else 0.0


@claim(
    "pytorch-notes/train-mode-switches-on-all-regularisation",
    verdict=CONDITIONAL,
    finding="True of the layers that read the flag, dropout and batch normalisation among them. What stands outside of "
    "the model doesn't see it: in eval() too, weight decay 0.1 at lr 0.1 shrinks weights of gradient zero by 1 %, "
    "backward() fills the gradients, and step() moves the weights.",
    controls=[
        replace("torch.nn.functional.dropout", nothing_dropped),
        override("a weight decay that heeds the mode", decay=heeding_the_mode),
        replace("torch.nn.Module.train", freeze_in_evaluation),
    ],
    trials=20,
)
def test_train_switches_on_layers_and_not_what_stands_outside_the_model(trials, decay=ignoring_the_mode):
    def outcome(seed, mode):
        model, x = MLP([20, 50, 3], nn.ReLU, dropout=0.5).train(mode), torch.randn(8, 20)
        weight = model[-1].weight
        optimizer = torch.optim.SGD([weight], lr=0.1, weight_decay=decay(model))
        weight.grad = torch.zeros_like(weight)
        before = weight.detach().clone()
        optimizer.step()
        shrinkage = (weight / before).mean()
        drops = not torch.equal(model(x), model(x))
        learns = error_of(lambda: model(x).square().mean().backward()) is None and weight.grad.any()
        return torch.tensor([drops, abs(shrinkage - 0.99) < 1e-6, learns])

    in_training, in_evaluation = (trials.map(partial(outcome, mode=mode)) for mode in (True, False))
    trials.always(in_training.all(1), name="train(): dropout, weight decay and gradients")
    trials.always(~in_evaluation[:, 0], name="eval(): no dropout")
    trials.always(in_evaluation[:, 1], name="eval(): weight decay")
    trials.always(in_evaluation[:, 2], name="eval(): gradients")


def evaluate(model):
    return model.eval()


def freeze(model):
    return model.eval().requires_grad_(False)


@claim(
    "pytorch-notes/eval-mode-stops-learning",
    verdict=REFUTED,
    finding="backward() fills the gradients of all parameters in eval mode, and SGD moves each by lr times its "
    "gradient. What stops learning is requires_grad_(False), or no_grad over the forward pass: then backward() raises.",
    controls=[override("frozen", evaluate=freeze)],
)
@given(
    model=st.builds(MLP, st.just([20, 50, 3]), st.just(nn.ReLU), st.booleans(), st.sampled_from([0.0, 0.5]))
    | models.map(ending_in_a_layer),
    evaluate=st.just(evaluate),
)
def test_a_model_in_evaluation_learns(model, evaluate):
    evaluate(model)
    x = torch.randn(8, model[0].in_features)
    assert error_of(lambda: model(x).sum().backward()) is None
    assert None not in gradients(model)
    before, gradient = parameters_to_vector(model.parameters()).detach(), parameters_to_vector(gradients(model))
    torch.optim.SGD(model.parameters(), lr=0.1).step()
    assert gradient.any()
    assert_close(parameters_to_vector(model.parameters()).detach(), before - 0.1 * gradient)
    assert "does not require grad" in str(error_of(lambda: freeze(model)(x).sum().backward()))


@claim(
    "pytorch-notes/eval-output-repeats-exactly",
    finding="Of any composition of layers, dropout and batch normalisation among them; in training dropout makes them "
    "differ.",
    controls=[replace("torch.nn.Module.train", stay_in_training)],
)
@given(model=models, passes=st.integers(2, 4))
def test_outputs_in_evaluation_repeat_to_the_bit(model, passes):
    x = batch()
    first, *others = (model.eval()(x) for _ in range(passes))
    assert all(torch.equal(other, first) for other in others)


def recorded(model, x, mode, guard):
    with guard():
        return model.train(mode)(x).requires_grad


@claim(
    "pytorch-notes/train-mode-decides-gradient-computation",
    verdict=REFUTED,
    finding="no_grad decides it, and the mode has no say: outputs require gradients after train() and after eval(), "
    "and under no_grad neither does.",
    controls=[replace("torch.nn.Module.train", freeze_in_evaluation)],
)
@given(model=models)
def test_no_grad_decides_what_is_recorded_and_not_the_mode(model):
    assert [recorded(model, batch(), mode, torch.enable_grad) for mode in (True, False)] == [True, True]
    assert [recorded(model, batch(), mode, torch.no_grad) for mode in (True, False)] == [False, False]


def as_ever(model):
    return model(batch())


def without_gradients(model):
    with torch.no_grad():
        return model(batch())


def with_frozen_parameters(model):
    return model.requires_grad_(False)(batch())


@claim(
    "pytorch-notes/train-mode-computes-gradients-by-default",
    finding="Nothing has to be switched on: after backward() every parameter stores a gradient of its shape.",
    controls=[
        override("under no_grad", forward=without_gradients),
        override("frozen", forward=with_frozen_parameters),
    ],
)
@given(model=models, forward=st.just(as_ever))
def test_gradients_are_computed_and_stored_in_training(model, forward):
    output = forward(model.train())
    assert output.requires_grad
    assert set(gradients(model)) == {None}
    output.sum().backward()
    assert None not in gradients(model)
    assert all(parameter.grad.shape == parameter.shape for parameter in model.parameters())


@claim(
    "pytorch-notes/eval-alone-stops-gradient-recording",
    finding="From the output of a model in eval mode the graph leads to every parameter, until no_grad is added.",
    controls=[
        replace("torch.nn.Module.train", freeze_in_evaluation),
        replace("torch.no_grad", torch.enable_grad),
    ],
)
@given(model=models)
def test_eval_records_the_graph_unless_no_grad_is_added(model):
    assert graph_leaves(model.eval()(batch())) == set(model.parameters())
    assert without_gradients(model.eval()).grad_fn is None
