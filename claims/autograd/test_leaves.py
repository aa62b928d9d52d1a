"""Sections 2.1, 2.4.1 and 2.9: what is tracked, and which tensors get a gradient."""

import hypothesis.strategies as st
import pytest
import torch
from hypothesis import given, settings
from torch.testing import assert_close

from fitcore.gradients.graph import graph_leaves
from fitcore.testing import CONDITIONAL, claim, override, replace
from fitcore.testing.strategies import tensors

vectors = tensors((3,), torch.float64)
leaves_of_either_kind = st.builds(torch.Tensor.requires_grad_, vectors, st.booleans())

asks_non_leaves = pytest.mark.filterwarnings("ignore:The .grad attribute of a Tensor that is not a leaf")


def backward_to_all(z, leaves):
    z.backward()


def backward_to_the_first(z, leaves):
    z.backward(inputs=leaves[:1])


@claim(
    "pytorch-notes/backward-fills-all-leaves",
    finding="Every leaf that z uses and that requires a gradient gets it, of one to five; a leaf that z doesn't use "
    "keeps None, and so does one that requires none.",
    controls=[override("backward to one of them", backward=backward_to_the_first)],
)
@given(
    used=st.lists(leaves_of_either_kind, max_size=4),
    tracked=vectors.map(torch.Tensor.requires_grad_),
    unused=vectors.map(torch.Tensor.requires_grad_),
    backward=st.just(backward_to_all),
)
def test_backward_fills_every_leaf_of_the_graph_that_requires_it(used, tracked, unused, backward):
    leaves = [tracked, *used]
    expecting = [leaf for leaf in leaves if leaf.requires_grad]
    backward(sum((leaf**2).sum() for leaf in leaves), expecting)
    assert [leaf.grad is not None for leaf in leaves] == [leaf.requires_grad for leaf in leaves]
    assert_close([leaf.grad for leaf in expecting], [2 * leaf for leaf in expecting])
    assert unused.grad is None


TRACKED = {
    "x * 2": lambda x: x * 2,
    "x.floor()": torch.floor,
    "x.max(0).values": lambda x: x.max(0).values,
    "x.half()": torch.Tensor.half,
    "x.to(complex64)": lambda x: x.to(torch.complex64),
    "x.sum()": torch.sum,
}
UNTRACKED = {
    "x > 1": lambda x: x > 1,
    "x.argmax()": torch.argmax,
    "x.long()": torch.Tensor.long,
    "x.max(0).indices": lambda x: x.max(0).indices,
    "x.argsort()": torch.argsort,
    "x.histc(3)": lambda x: x.histc(3),
    "x.detach()": torch.detach,
}


def named(operations):
    return pytest.mark.parametrize("operation", operations.values(), ids=operations.keys())


@claim(
    "pytorch-notes/requires-grad-tracks-every-op",
    verdict=CONDITIONAL,
    finding="Tracked is what can be differentiated, even where the derivative is 0 everywhere, as that of floor(); and "
    "that outside no_grad only.",
    controls=[
        override("of a detached tensor", operation=lambda x: x.detach() * 2),
        replace("torch.no_grad", torch.enable_grad, name="enable_grad in place of no_grad"),
    ],
)
@named(TRACKED)
@settings(max_examples=10)
@given(x=tensors((2,), requires_grad=True) | st.just(torch.tensor([1.0, 2.0], requires_grad=True)))
def test_differentiable_operations_are_tracked_outside_no_grad(x, operation):
    assert graph_leaves(operation(x)) == {x}
    with torch.no_grad():
        assert operation(x).grad_fn is None


@claim(
    "pytorch-notes/requires-grad-tracks-every-op",
    verdict=CONDITIONAL,
    finding="Results without a derivative have no history: booleans, integers and indices, and of the floats the "
    "counts of histc(); nor has what detach() returns.",
    controls=[override("a differentiable operation", operation=torch.square)],
)
@named(UNTRACKED)
@settings(max_examples=10)
@given(x=tensors((2,), requires_grad=True) | st.just(torch.tensor([1.0, 2.0], requires_grad=True)))
def test_operations_without_a_derivative_are_not_tracked(x, operation):
    result = operation(x)
    assert not result.requires_grad
    assert result.grad_fn is None


@claim(
    "pytorch-notes/nonleaf-grad-none-by-default",
    finding="Reading y.grad or z.grad also warns that neither is a leaf.",
    controls=[override("with retain_grad", prepare=torch.Tensor.retain_grad)],
)
@settings(max_examples=40)
@given(x=tensors(requires_grad=True), prepare=st.just(torch.Tensor.size))
def test_after_backward_only_the_leaf_has_a_gradient(x, prepare):
    y = x * 2
    z = (y**2).sum()
    prepare(y)
    z.backward()
    assert (x.is_leaf, y.is_leaf, z.is_leaf) == (True, False, False)
    assert torch.equal(x.grad, 8 * x)
    with pytest.warns(UserWarning, match="not a leaf"):
        assert y.grad is None
    with pytest.warns(UserWarning, match="not a leaf"):
        assert z.grad is None


def with_retain_grad(z, y):
    y.retain_grad()
    z.backward()


def with_inputs(z, y):
    z.backward(inputs=[y])


def by_default(z, y):
    z.backward()


@claim(
    "pytorch-notes/grad-only-ever-on-leaves",
    verdict=CONDITIONAL,
    finding="By default, as the document adds. After y.retain_grad() backward writes y.grad as well, and "
    "backward(inputs=[y]) writes y.grad instead of x.grad.",
    controls=[override("not requested", backward=by_default)],
)
@asks_non_leaves
@pytest.mark.parametrize(("backward", "leaf_too"), [(with_retain_grad, True), (with_inputs, False)])
@settings(max_examples=20)
@given(x=tensors((1,), requires_grad=True))
def test_a_tensor_in_the_middle_gets_a_gradient_on_request_only(x, backward, leaf_too):
    y, again = x * 2, x * 2
    by_default(y**2, y)
    assert y.grad is None
    assert torch.equal(x.grad, 8 * x)
    x.grad = None
    backward(again**2, again)
    assert [tensor.grad is None for tensor in (again, x)] == [False, not leaf_too]
    assert torch.equal(again.grad, 2 * again)


@claim(
    "pytorch-notes/leaf-without-requires-grad-no-grad",
    verdict=CONDITIONAL,
    finding="Only if it requires one: c is a leaf and keeps None; after c.requires_grad_() it gets x.",
    controls=[override("c requires a gradient from the start", requires_grad=True)],
)
@settings(max_examples=40)
@given(x=tensors((2,), requires_grad=True), values=tensors((2,)), requires_grad=st.just(False))
def test_a_leaf_that_requires_no_gradient_gets_none(x, values, requires_grad):
    c = values.requires_grad_(requires_grad)
    (c * x).sum().backward()
    assert c.is_leaf
    assert c.grad is None
    assert torch.equal(x.grad, c)
    (c.requires_grad_() * x).sum().backward()
    assert torch.equal(c.grad, x)


def untouched(values):
    return values.clone().requires_grad_()


def used_before(values):
    x = untouched(values)
    x.sum().backward()
    return x


@claim(
    "pytorch-notes/grad-none-then-ones",
    "pytorch-notes/sum-grad-is-ones",
    controls=[
        override("a leaf that had a backward before", make=used_before),
        override("the mean in place of the sum", total=torch.mean),
    ],
)
@settings(max_examples=40)
@given(
    values=st.just(torch.tensor([1.0, 2.0, 3.0])) | tensors(),
    make=st.just(untouched),
    total=st.just(torch.sum),
)
def test_the_sum_leaves_a_gradient_of_ones_where_there_was_none(values, make, total):
    x = make(values)
    y = total(x)
    assert y.requires_grad
    assert x.grad is None
    y.backward()
    assert torch.equal(x.grad, torch.ones_like(values))
