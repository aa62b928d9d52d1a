"""Section 5.5.1: what forward and backward hooks of a layer are given, and how the two kinds of the latter differ."""

import hypothesis.strategies as st
import pytest
import torch
from hypothesis import example, given
from torch import nn
from torch.nn import functional
from torch.testing import assert_close

from fitcore.testing import REFUTED, claim, error_of, override, replace
from fitcore.testing.strategies import shapes, tensors

deprecated = pytest.warns(FutureWarning, match="non-full backward hook .* is deprecated")


class DebugNet(nn.Module):
    """Two layers with hooks on one of them, which keep what they were given."""

    def __init__(self, register="register_backward_hook", hooked="fc1"):
        super().__init__()
        self.fc1 = nn.Linear(10, 5)
        self.fc2 = nn.Linear(5, 2)
        self.seen = {}
        layer = self.get_submodule(hooked)
        layer.register_forward_hook(self.keep_forward)
        getattr(layer, register)(self.keep_backward)

    def keep_forward(self, module, inputs, output):
        self.seen |= {"inputs": inputs, "output": output}
        output.retain_grad()

    def keep_backward(self, module, grad_input, grad_output):
        self.seen |= {"grad_input": grad_input, "grad_output": grad_output}

    def forward(self, x):
        return self.fc2(functional.relu(self.fc1(x)))


def seen_by_hooks(net, x):
    """What the hooks of ``net`` are given in one forward and backward pass."""
    net(x).sum().backward()
    return net.seen


def nothing_registered(module, hook):
    """Take the hook and forget it."""


@claim(
    "pytorch-notes/hook-listing-runs",
    finding="Both hooks print, the forward one first, after a FutureWarning: register_backward_hook is deprecated in "
    "favour of register_full_backward_hook.",
    controls=[
        replace("torch.nn.Module.register_forward_hook", nothing_registered, "no forward hook"),
        replace("torch.nn.Module.register_backward_hook", nothing_registered, "no backward hook"),
    ],
)
def test_both_hooks_print_the_shapes_of_what_passes(capsys):
    fc1, fc2 = nn.Linear(10, 5), nn.Linear(5, 2)
    fc1.register_forward_hook(lambda _, inputs, output: print(f"in {list(inputs[0].shape)}; mean {output.mean():.4f}"))
    fc1.register_backward_hook(lambda _, grad_input, grad_output: print(f"back {list(grad_output[0].shape)}"))
    with deprecated:
        loss = fc2(functional.relu(fc1(torch.ones(4, 10)))).sum()
    loss.backward()
    printed = capsys.readouterr().out.splitlines()
    assert [line.split(";")[0] for line in printed] == ["in [4, 10]", "back [4, 5]"]


class WeightedSum(nn.Module):
    def __init__(self, events):
        super().__init__()
        self.events = events

    def forward(self, *terms, weight=1.0):
        self.events.append("forward")
        return weight * sum(terms)


def before_the_forward(module, hook):
    module.register_forward_pre_hook(lambda module, inputs: hook(module, inputs, None))


def given_the_first_input(module, hook):
    module.register_forward_hook(lambda module, inputs, output: hook(module, inputs[0], output))


@claim(
    "pytorch-notes/forward-hook-input-is-a-tuple",
    finding="A tuple of the positional arguments, even of a single one, and the very tensor that forward returned. "
    "Keyword arguments are not among them.",
    controls=[
        override("called before the forward", register=before_the_forward),
        override("given the first input itself", register=given_the_first_input),
    ],
)
@given(
    terms=shapes().flatmap(lambda shape: st.lists(tensors(shape), min_size=1, max_size=3)),
    register=st.just(nn.Module.register_forward_hook),
)
def test_a_forward_hook_is_given_the_tuple_of_inputs_and_the_output_after_the_forward(terms, register):
    events = []
    module = WeightedSum(events)
    register(module, lambda *given: events.append(given))
    output = module(*terms, weight=2.0)
    assert len(events) == 2
    assert events[0] == "forward"
    hooked, inputs, returned = events[1]
    assert hooked is module
    assert returned is output
    assert isinstance(inputs, tuple)
    assert list(map(id, inputs)) == list(map(id, terms))


def remove(handles, chosen):
    for index in chosen:
        handles[index].remove()


KINDS = ["register_forward_pre_hook", "register_forward_hook", "register_full_backward_hook"]


@claim(
    "pytorch-notes/forward-hook-can-be-removed",
    finding="From the next call on, and none but that hook; backward hooks likewise.",
    controls=[replace("torch.utils.hooks.RemovableHandle.remove", lambda handle: None, "remove does nothing")],
)
@pytest.mark.parametrize("kind", KINDS)
@given(removed=st.sets(st.integers(0, 3), min_size=1))
def test_a_removed_hook_fires_no_more_and_the_others_still_do(kind, removed):
    layer, x, fired = nn.Linear(10, 5), torch.ones(4, 10, requires_grad=True), []
    register = getattr(layer, kind)
    handles = [register(lambda *_, number=number: fired.append(number)) for number in range(4)]
    layer(x).sum().backward()
    assert fired == [0, 1, 2, 3]
    remove(handles, removed)
    layer(x).sum().backward()
    assert fired[4:] == sorted({0, 1, 2, 3} - removed)


silent = pytest.mark.filterwarnings("ignore:Full backward hook is firing")  # where no input requires a gradient


@claim(
    "pytorch-notes/backward-hook-input-gradient-matches-module-input",
    verdict=REFUTED,
    finding="They are the gradients of what the layer's last operation, addmm, took: bias (5), input (4, 10) and "
    "transposed weight (10, 5). The listing's x requires no gradient, so the second is None, and it prints the shapes "
    "of the other two.",
    controls=[override("a full backward hook", register="register_full_backward_hook")],
)
@silent
@example(batch=4, tracked=False, register="register_backward_hook")
@given(batch=st.integers(1, 8), tracked=st.booleans(), register=st.just("register_backward_hook"))
def test_a_legacy_backward_hook_is_given_the_gradients_of_bias_input_and_transposed_weight(batch, tracked, register):
    net, x = DebugNet(register), torch.ones(batch, 10, requires_grad=tracked)
    with deprecated:
        grad_input = seen_by_hooks(net, x)["grad_input"]
    assert grad_input[0].shape == (5,)
    assert_close(grad_input, (net.fc1.bias.grad, x.grad, net.fc1.weight.grad.T), rtol=0, atol=0)
    assert (grad_input[1] is None) != tracked


@claim(
    "pytorch-notes/backward-hook-grad-output-is-output-shaped",
    controls=[override("hooks on the other layer", hooked="fc2")],
)
@silent
@pytest.mark.filterwarnings("ignore:Using a non-full backward hook")
@example(batch=4, register="register_backward_hook", hooked="fc1")
@given(
    batch=st.integers(1, 8),
    register=st.sampled_from(["register_backward_hook", "register_full_backward_hook"]),
    hooked=st.just("fc1"),
)
def test_grad_output_is_the_gradient_of_the_output(batch, register, hooked):
    net = DebugNet(register, hooked)
    seen = seen_by_hooks(net, torch.arange(batch * 10.0).reshape(batch, 10))
    (gradient,) = seen["grad_output"]
    assert gradient.shape == (batch, 5)
    assert torch.equal(gradient, seen["output"].grad)
    assert_close(gradient, (seen["output"] > 0) * net.fc2.weight.sum(0))


@claim(
    "pytorch-notes/full-backward-hook-shows-input-gradient-here",
    verdict=REFUTED,
    finding="The listing's x requires no gradient, so none is computed: the hook is given (None,), and the line prints "
    "an empty list. With x.requires_grad_() it is the gradient of x, (4, 10).",
    controls=[override("an input that requires a gradient", tracked=True)],
)
@silent
@example(batch=4, tracked=False)
@given(batch=st.integers(1, 8), tracked=st.just(False))
def test_a_full_backward_hook_sees_an_input_gradient_only_if_the_input_requires_it(batch, tracked):
    net, x = DebugNet("register_full_backward_hook"), torch.ones(batch, 10, requires_grad=tracked)
    assert seen_by_hooks(net, x)["grad_input"] == (None,)
    x.requires_grad_()
    (gradient,) = seen_by_hooks(net, x)["grad_input"]
    assert gradient.shape == (batch, 10)
    assert torch.equal(gradient, x.grad)


def remove_and_forget(layer, handle):
    handle.remove()
    layer._is_full_backward_hook = None


@claim(
    "pytorch-notes/legacy-and-full-backward-hooks-cannot-mix",
    verdict=REFUTED,
    finding="The layer stays of the kind that its first backward hook was, in either order: the other is a "
    "RuntimeError also after remove. A new layer with the same weights takes it.",
    controls=[override("the kind forgotten with the hook", take_off=remove_and_forget)],
)
@pytest.mark.parametrize(
    ("first", "second"),
    [("backward", "full_backward"), ("full_backward", "backward")],
    ids=["legacy first", "full first"],
)
def test_a_layer_keeps_to_the_kind_of_its_first_backward_hook(
    first, second, take_off=lambda layer, handle: handle.remove()
):
    layer, fresh = nn.Linear(10, 5), nn.Linear(10, 5)
    take_off(layer, getattr(layer, f"register_{first}_hook")(lambda *_: None))
    with pytest.raises(RuntimeError, match="Cannot use both regular backward hooks and full backward hooks"):
        getattr(layer, f"register_{second}_hook")(lambda *_: None)
    fresh.load_state_dict(layer.state_dict())
    assert error_of(getattr(fresh, f"register_{second}_hook"), lambda *_: None) is None
