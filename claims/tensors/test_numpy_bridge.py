"""Sections 1.2 and 1.7: between tensors and NumPy arrays, with and without shared memory."""

import numpy as np
import pytest
import torch
from hypothesis import example, given

from fitcore.testing import REFUTED, claim, override, replace
from fitcore.testing.strategies import dtypes, shapes, strided, tensors

to_numpy = torch.Tensor.numpy
# NumPy has no bfloat16.
numpy_tensors = strided(
    tensors(shapes(), dtypes(boolean=True, complex=True).filter(lambda dtype: dtype != torch.bfloat16))
)
numpy_arrays = numpy_tensors.map(to_numpy)


def negate(array):
    """Make each element 0 where it isn't, and 1 where it is: no element keeps its value."""
    np.logical_not(array, out=array)


def by_way_of_a_list(array):
    return torch.tensor(array.tolist())


@claim(
    "pytorch-notes/from-numpy-int-array-dtype",
    finding="np.array([1, 2, 3, 4]) becomes int64, as it is; and so with every type that both sides have.",
    controls=[replace("torch.from_numpy", by_way_of_a_list)],
)
@example(array=np.array([1, 2, 3, 4]))
@given(array=numpy_arrays)
def test_from_numpy_keeps_the_dtype(array):
    tensor = torch.from_numpy(array)
    assert str(tensor.dtype) == f"torch.{array.dtype}"
    assert tensor.device.type == "cpu"
    assert tensor.tolist() == array.tolist()


@claim(
    "pytorch-notes/from-numpy-shares-memory",
    finding="In both directions, for any dtype and layout.",
    controls=[replace("torch.from_numpy", torch.tensor, name="torch.tensor")],
)
@given(array=numpy_arrays)
def test_a_tensor_from_numpy_and_its_array_change_together(array):
    tensor = torch.from_numpy(array)
    negate(array)
    assert tensor.tolist() == array.tolist()
    before = array.copy()
    tensor.logical_not_()
    assert tensor.tolist() == array.tolist()
    assert (array != before).all()


@claim(
    "pytorch-notes/torch-tensor-copies-numpy",
    controls=[
        replace("torch.tensor", torch.from_numpy, name="from_numpy"),
        replace("torch.tensor", torch.as_tensor, name="as_tensor"),
    ],
)
@example(array=np.array([1.0, 2.0]))
@given(array=numpy_arrays)
def test_torch_tensor_makes_a_copy_of_the_array(array):
    before = array.tolist()
    tensor = torch.tensor(array)
    negate(array)
    assert tensor.tolist() == before
    assert not np.shares_memory(array, tensor.numpy())


def transposed(tensor):
    return to_numpy(tensor).T


@claim("pytorch-notes/numpy-method-gives-equal-array", controls=[replace("torch.Tensor.numpy", transposed)])
@example(a=torch.ones((3, 3)))
@given(a=numpy_tensors)
def test_numpy_gives_an_array_of_the_same_shape_and_values(a):
    array = a.numpy()
    assert isinstance(array, np.ndarray)
    assert array.shape == a.shape
    assert f"torch.{array.dtype}" == str(a.dtype)
    assert array.tolist() == a.tolist()


def copied(tensor):
    return to_numpy(tensor).copy()


@claim(
    "pytorch-notes/tensor-numpy-shares-memory",
    finding="Both directions of the conversion share, and a change shows on either side. numpy() copies nothing.",
    controls=[replace("torch.Tensor.numpy", copied)],
)
@given(tensor=numpy_tensors)
def test_a_tensor_and_its_numpy_array_change_together(tensor):
    array = tensor.numpy()
    negate(array)
    assert tensor.tolist() == array.tolist()
    before = array.copy()
    tensor.logical_not_()
    assert tensor.tolist() == array.tolist()
    assert (array != before).all()


def requiring_a_gradient():
    return torch.ones(2, requires_grad=True)


def conjugated():
    return torch.ones(2, dtype=torch.complex64).conj()


def negated_view():
    return torch.ones(2, dtype=torch.complex64).conj().imag


def plain():
    return torch.ones(2)


@claim(
    "pytorch-notes/numpy-on-requires-grad-raises",
    verdict=REFUTED,
    finding="It refuses a tensor that requires a gradient, and lazily conjugated or negated ones: what NumPy would see "
    "isn't the value. numpy(force=True), or detach() and so on, converts them.",
    controls=[override("a plain tensor", make=plain)],
)
@pytest.mark.parametrize(
    ("make", "message"),
    [
        (requiring_a_gradient, r"requires grad\. Use tensor\.detach\(\)\.numpy\(\)"),
        (conjugated, "has conjugate bit set"),
        (negated_view, "has negative bit set"),
    ],
)
def test_numpy_refuses_what_it_cannot_show_as_it_is(make, message):
    with pytest.raises(RuntimeError, match=message):
        make().numpy()
    assert make().numpy(force=True).tolist() == make().tolist()


@claim(
    "pytorch-notes/numpy-on-requires-grad-raises",
    verdict=REFUTED,
    finding="Nor is there a NumPy type for bfloat16, or a NumPy array for a sparse tensor.",
    controls=[override("a plain tensor", tensor=torch.ones(2))],
)
@pytest.mark.parametrize(
    ("tensor", "message", "convert"),
    [
        (torch.ones(2, dtype=torch.bfloat16), "unsupported ScalarType BFloat16", torch.Tensor.float),
        (torch.ones(2).to_sparse(), "can't convert Sparse layout tensor", torch.Tensor.to_dense),
    ],
    ids=["bfloat16", "sparse"],
)
def test_numpy_refuses_what_numpy_does_not_have(tensor, message, convert):
    with pytest.raises(TypeError, match=message):
        tensor.numpy()
    assert convert(tensor).numpy().tolist() == [1, 1]


@claim(
    "pytorch-notes/from-numpy-is-tensor-method",
    verdict=REFUTED,
    finding="Neither a tensor nor the class has it: from_numpy is a function of the module torch.",
    controls=[override("the module", owner=torch)],
)
@pytest.mark.parametrize("owner", [torch.ones(1), torch.Tensor], ids=["a tensor", "the class"])
def test_from_numpy_belongs_to_the_module(owner):
    with pytest.raises(AttributeError, match="no attribute 'from_numpy'"):
        owner.from_numpy(np.ones(2))
    assert torch.from_numpy(np.ones(2)).tolist() == [1, 1]
