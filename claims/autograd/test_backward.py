"""Sections 2, 2.2, 2.4.3, 2.5 and 2.6: what backward reads, what it may be called on, and how often."""

import hypothesis.strategies as st
import pytest
import torch
from hypothesis import assume, given, settings
from torch import nn

from fitcore.testing import CONDITIONAL, REFUTED, claim, error_of, override, replace
from fitcore.testing.strategies import shapes, tensors

NO_SCALAR = "grad can be implicitly created only for scalar outputs"
FREED = "Trying to backward through the graph a second time"

vectors = st.just(torch.tensor([1.0, 2.0, 3.0])) | tensors(shapes(min_dims=1))


def leave_to_step(optimizer, parameters):
    """The usual cycle: backward only fills gradients."""


def step_within_backward(optimizer, parameters):
    for parameter in parameters:
        parameter.register_post_accumulate_grad_hook(lambda _: optimizer.step())


@claim(
    "pytorch-notes/backward-computes-does-not-update",
    finding="Forward and backward leave every bit of weight and bias alone; step() moves both.",
    controls=[override("stepping in a hook of backward", prepare=step_within_backward)],
)
def test_parameters_change_in_step_alone(trials, prepare=leave_to_step):
    def moved(seed):
        model = nn.Linear(3, 1)
        optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
        prepare(optimizer, model.parameters())
        start = nn.utils.parameters_to_vector(model.parameters()).detach()
        nn.functional.mse_loss(model(torch.randn(8, 3)), torch.randn(8, 1)).backward()
        by_backward = nn.utils.parameters_to_vector(model.parameters()) != start
        optimizer.step()
        by_step = nn.utils.parameters_to_vector(model.parameters()) != start
        return torch.stack([by_backward.any(), by_step.all()])

    by_backward, by_step = trials.map(moved).T
    trials.always(~by_backward, "backward moves nothing")
    trials.always(by_step, "step moves every parameter")


def history(result):
    """Names of the recorded operations, the last first, along each node's first input."""
    node, names = result.grad_fn, []
    while node is not None:
        names.append(node.name())
        node = node.next_functions[0][0] if node.next_functions else None
    return names


def thrice_by_addition(x):
    return x + x + x


@claim(
    "pytorch-notes/graph-of-mul-then-pow",
    finding="z's node is PowBackward0, which leads to MulBackward0, and that to the leaf's AccumulateGrad.",
    controls=[override("3x by addition", thrice=thrice_by_addition)],
)
@settings(max_examples=20)
@given(values=st.just(torch.tensor([2.0])) | tensors(), thrice=st.just(lambda x: x * 3))
def test_the_graph_of_a_power_of_a_product(values, thrice, evidence):
    x = values.clone().requires_grad_()
    names = history(thrice(x) ** 2)
    evidence.table("recorded, the last operation first", [{"node": name} for name in names])
    assert names == ["PowBackward0", "MulBackward0", "torch::autograd::AccumulateGrad"]
    assert (thrice(x) ** 2).grad_fn.next_functions[0][0].next_functions[0][0].variable is x


def first_element(output):
    return output.flatten()[:1].sum()


@claim(
    "pytorch-notes/backward-only-on-0d-scalar",
    verdict=CONDITIONAL,
    finding="Without argument on any output of one element, of shape (1,) or (1, 1) as well, and on no other, an empty "
    "one included. With a gradient argument of its shape on any output, as section 2.5 does.",
    controls=[override("reduced to a scalar", output_of=first_element)],
)
@given(x=tensors(shapes(min_side=0, max_side=2), requires_grad=True), output_of=st.just(torch.clone))
def test_backward_without_argument_needs_an_output_of_one_element(x, output_of):
    assert (NO_SCALAR in str(error_of((output_of(x) * 2).backward))) == (x.numel() != 1)
    x.grad = None
    assert error_of((x * 2).backward, torch.ones_like(x)) is None
    assert torch.equal(x.grad, torch.full_like(x, 2))


@claim(
    "pytorch-notes/backward-only-on-0d-scalar",
    verdict=CONDITIONAL,
    finding="Of the shapes (), (1,), (1, 1), (2,) and (0,) the first three do without an argument.",
    controls=[override("reduced to a scalar", output_of=first_element)],
)
def test_three_of_five_shapes_go_backward_without_argument(evidence, output_of=torch.clone):
    outputs = [output_of(torch.ones(shape, requires_grad=True)) * 2 for shape in [(), (1,), (1, 1), (2,), (0,)]]
    rows = [
        {"shape": str(tuple(output.shape)), "refused": NO_SCALAR in str(error_of(output.backward))}
        for output in outputs
    ]
    evidence.table("backward() without argument", rows)
    assert [row["refused"] for row in rows] == [False, False, False, True, True]


@claim(
    "pytorch-notes/backward-on-vector-without-arg-raises",
    controls=[override("the sum of the elements", output_of=torch.sum)],
)
@settings(max_examples=40)
@given(values=vectors, output_of=st.just(torch.clone))
def test_a_vector_cannot_go_backward_without_argument(values, output_of):
    assume(values.numel() > 1)
    x = values.clone().requires_grad_()
    with pytest.raises(RuntimeError, match=NO_SCALAR):
        output_of(x**2).backward()
    assert x.grad is None


def gradient_of_square(values, go_backward):
    x = values.clone().requires_grad_()
    go_backward(x**2)
    return x.grad


@claim(
    "pytorch-notes/square-grad-by-sum-and-by-weights",
    finding="And with other weights v the second way gives v·2x, the gradient of the weighted sum.",
    controls=[override("the mean in place of the sum", total=torch.mean)],
)
@settings(max_examples=40)
@given(values=vectors, data=st.data(), total=st.just(torch.sum))
def test_the_sum_and_a_weight_of_one_give_the_same_gradient(values, data, total):
    assume(values.numel() > 1)
    assume(values.any())
    weights = data.draw(tensors(tuple(values.shape)))
    by_sum = gradient_of_square(values, lambda y: total(y).backward())
    by_weights = gradient_of_square(values, lambda y: y.backward(torch.ones_like(y)))
    weighted = gradient_of_square(values, lambda y: y.backward(weights))
    assert torch.equal(by_sum, by_weights)
    assert torch.equal(by_sum, 2 * values)
    assert torch.equal(weighted, weights * by_sum)


def both_methods(retain_graph):
    """The two gradients that the listing prints: of y.sum(), then with a weight of one for each element of y."""
    x = torch.tensor([1.0, 2.0, 3.0], requires_grad=True)
    y = x**2
    y.sum().backward(retain_graph=retain_graph)
    by_sum = x.grad.tolist()
    x.grad.zero_()
    y.backward(torch.ones(3))
    return by_sum, x.grad.tolist()


@claim(
    "pytorch-notes/listing-25-runs-as-printed",
    verdict=REFUTED,
    finding="It prints [2, 4, 6] once. The first backward has freed what the graph had saved, and the second stops: "
    "'Trying to backward through the graph a second time'. With retain_graph=True in the first, it prints both.",
    controls=[override("the first retains the graph", retain_graph=True)],
)
def test_the_second_method_finds_the_graph_freed(retain_graph=False):
    with pytest.raises(RuntimeError, match=FREED):
        both_methods(retain_graph)
    assert both_methods(retain_graph=True) == ([2, 4, 6], [2, 4, 6])


SAVING = {
    "x ** 2": lambda x: x**2,
    "x * x": lambda x: x * x,
    "x * 2 + 1": lambda x: x * 2 + 1,
    "exp(x)": torch.exp,
    "max(x, 0)": torch.relu,
}
SAVING_NOTHING = {
    "x + 1": lambda x: x + 1,
    "-x": torch.neg,
    "x.clone()": torch.clone,
    "x.view(-1)": lambda x: x.view(-1),
    "x.cumsum(0)": lambda x: x.cumsum(0),
}


def named(operations):
    return pytest.mark.parametrize("operation", operations.values(), ids=operations.keys())


@claim(
    "pytorch-notes/second-backward-always-raises",
    "pytorch-notes/second-backward-needs-retain-graph",
    verdict=CONDITIONAL,
    finding="Where the first backward has freed a tensor that some operation had saved for it: x² saves x, exp its "
    "result, and even the factor of x·2 is saved.",
    controls=[
        override("an addition", operation=lambda x: x + 1),
        override("the graph retained", retain_graph=True),
    ],
)
@named(SAVING)
@settings(max_examples=10)
@given(x=tensors((3,), requires_grad=True), retain_graph=st.just(False))
def test_a_second_backward_raises_where_a_tensor_was_saved(x, retain_graph, operation):
    total = operation(x).sum()
    total.backward(retain_graph=retain_graph)
    assert FREED in str(error_of(total.backward))


@claim(
    "pytorch-notes/second-backward-always-raises",
    "pytorch-notes/second-backward-needs-retain-graph",
    verdict=CONDITIONAL,
    finding="Operations that save no tensor, such as x + 1, -x, a clone, a view or a cumulated sum, go backward again "
    "and again, and the gradients add up.",
    controls=[override("a square", operation=torch.square)],
)
@named(SAVING_NOTHING)
@settings(max_examples=10)
@given(x=tensors((3,), torch.float64, requires_grad=True))
def test_a_second_backward_passes_where_nothing_was_saved(x, operation):
    total = operation(x).sum()
    assert [error_of(total.backward), error_of(total.backward)] == [None, None]
    (once,) = torch.autograd.grad(operation(x).sum(), x)
    assert torch.equal(x.grad, 2 * once)


backward = torch.Tensor.backward


def backward_for_good(output, gradient=None, retain_graph=False):
    backward(output, gradient)


@claim(
    "pytorch-notes/retain-graph-keeps-the-graph",
    finding="Three times on one y, with gradients that add up to 3·2x. Without it the second call stops.",
    controls=[replace("torch.Tensor.backward", backward_for_good, name="retain_graph ignored")],
)
@settings(max_examples=40)
@given(start=st.just(torch.tensor(2.0)) | tensors(()))
def test_a_retained_graph_goes_backward_again(start):
    x = start.clone().requires_grad_()
    y = x**2
    assert [error_of(y.backward, retain_graph=True) for _ in range(3)] == [None] * 3
    assert torch.equal(x.grad, 3 * 2 * start)
    not_retained = x**2
    assert [FREED in str(error_of(not_retained.backward)) for _ in range(3)] == [False, True, True]
