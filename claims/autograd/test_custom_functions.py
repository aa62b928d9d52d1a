"""Section 2.8: a ReLU with a backward of its own."""

import ast
import inspect
import textwrap

import hypothesis.strategies as st
import pytest
import torch
from hypothesis import given, settings
from torch import nn
from torch.autograd import gradcheck, gradgradcheck
from torch.nn import functional as F

from fitcore.gradients.functions import ReLU, ReLUMaskingNegatives
from fitcore.testing import REFUTED, claim, error_of, override, replace
from fitcore.testing.strategies import shapes, tensors

DOCUMENTED = torch.tensor([-1.0, 0.5, 2.0])

# torch's own forward mode still imports torch.jit, which warns.
warns_of_itself = pytest.mark.filterwarnings("ignore:.torch.jit.script. is deprecated")


def pass_everything(ctx, upstream):
    return upstream


unmasked = replace(
    "fitcore.gradients.functions.ReLUMaskingNegatives.backward", staticmethod(pass_everything), name="no mask"
)


def value_and_gradient(f, x, upstream):
    leaf = x.clone().requires_grad_()
    value = f(leaf)
    return value.detach(), torch.autograd.grad(value, leaf, upstream)[0]


@claim("pytorch-notes/custom-relu-output-and-grad", controls=[unmasked])
def test_output_and_gradient_are_as_printed(evidence):
    output, gradient = value_and_gradient(ReLUMaskingNegatives.apply, DOCUMENTED, torch.ones(3))
    as_printed = [
        evidence.figure("output", reported=[0, 0.5, 2], measured=output, tolerance=0),
        evidence.figure("gradient", reported=[0, 1, 1], measured=gradient, tolerance=0),
    ]
    assert as_printed == [True, True]


@claim(
    "pytorch-notes/custom-relu-grad-at-zero",
    verdict=REFUTED,
    finding="At 0.0 and at -0.0 it is 1: the listing's mask covers input < 0 only. With input <= 0 it is 0 there, as "
    "the docstring says and as F.relu has it.",
    controls=[override("the mask covers zero", function=ReLU)],
)
@settings(max_examples=40)
@given(
    x=tensors() | st.sampled_from([torch.tensor([0.0, -0.0]), torch.tensor(0.0)]),
    function=st.just(ReLUMaskingNegatives),
)
def test_the_gradient_at_zero_is_one(x, function):
    ones = torch.ones_like(x)
    _, gradient = value_and_gradient(function.apply, x, ones)
    assert torch.equal(gradient, (x >= 0).float())
    _, repaired = value_and_gradient(ReLU.apply, x, ones)
    _, built_in = value_and_gradient(F.relu, x, ones)
    assert torch.equal(repaired, (x > 0).float())
    assert torch.equal(repaired, built_in)


whole_but_zero = st.integers(1, 9) | st.integers(-9, -1)


@claim("pytorch-notes/custom-relu-equals-relu-elsewhere", controls=[unmasked])
@given(data=st.data(), shape=shapes(min_side=0), dtype=st.sampled_from([torch.float64, torch.float32, torch.float16]))
def test_away_from_zero_it_is_relu_in_value_and_gradient(data, shape, dtype):
    x = data.draw(tensors(shape, dtype, whole_but_zero))
    upstream = data.draw(tensors(shape, dtype))
    ours = value_and_gradient(ReLUMaskingNegatives.apply, x, upstream)
    built_in = value_and_gradient(F.relu, x, upstream)
    assert torch.equal(ours[0], built_in[0])
    assert torch.equal(ours[1], built_in[1])


@claim(
    "pytorch-notes/custom-relu-equals-relu-elsewhere",
    finding="Differences confirm its first and second derivatives too (gradcheck, gradgradcheck).",
    controls=[unmasked],
)
@settings(max_examples=10)
@given(x=tensors(shapes(max_dims=2, max_side=3), torch.float64, whole_but_zero, requires_grad=True))
def test_differences_confirm_its_derivatives_away_from_zero(x):
    assert gradcheck(ReLUMaskingNegatives.apply, x, raise_exception=False)
    assert gradgradcheck(ReLUMaskingNegatives.apply, x, raise_exception=False)


class ReLUModule(nn.Module):
    def forward(self, x):
        return torch.where(x > 0, x, 0)


class ModuleRoundTheFunction(nn.Module):
    def forward(self, x):
        return ReLU.apply(x)


def statements(written):
    """Statements of a class's methods, docstrings left out."""
    tree = ast.parse(textwrap.dedent(inspect.getsource(written)))
    return sum(
        isinstance(node, ast.stmt) and not (isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant))
        for method in ast.walk(tree)
        if isinstance(method, ast.FunctionDef)
        for node in method.body
    )


TRANSFORMS = {
    "torch.func.grad": lambda f, x: torch.func.grad(lambda x: f(x).sum())(x),
    "torch.vmap": lambda f, x: torch.vmap(f)(x),
    "torch.func.jvp": lambda f, x: torch.func.jvp(f, (x,), (torch.ones_like(x),)),
}


@claim(
    "pytorch-notes/custom-function-rarely-needed",
    finding="One ReLU, written by us both ways, is 1 statement as a module and 4 as a Function, its derivative among "
    "them; value and gradient are the same. The module also works under torch.func.grad, vmap and jvp, each of which "
    "the Function refuses until more is written.",
    controls=[override("the module calls the Function", module=ModuleRoundTheFunction)],
)
@warns_of_itself
@pytest.mark.parametrize("transform", TRANSFORMS.values(), ids=TRANSFORMS.keys())
@settings(max_examples=10)
@given(x=tensors((3,)) | st.just(DOCUMENTED), module=st.just(ReLUModule))
def test_a_module_takes_less_writing_and_does_more(x, module, transform):
    by_module = value_and_gradient(module(), x, torch.ones(3))
    by_function = value_and_gradient(ReLU.apply, x, torch.ones(3))
    assert torch.equal(torch.stack(by_module), torch.stack(by_function))
    assert (statements(ReLUModule), statements(ReLU)) == (1, 4)
    assert error_of(transform, module(), x) is None
    assert "must override the setup_context" in str(error_of(transform, ReLU.apply, x))
