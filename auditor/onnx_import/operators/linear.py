"""Products of matrices and tensors."""

from __future__ import annotations

from keras import ops

from .table import Node, Value, operator
from .tensors import available, cast, dtype_of, is_float, tensor


@operator("MatMul")
def matrix_product(node: Node, first: Value, second: Value) -> Value:
    """A @ B, with NumPy's rules for vectors and stacks."""
    return _product(tensor(first), tensor(second))


def _product(first: Value, second: Value) -> Value:
    """By the framework's own operator: `ops.matmul` makes float32 of integers and of float64."""
    dtype = dtype_of(first)
    if not is_float(dtype):  # exact to 2⁵³ where the backend has float64
        first, second = cast(first, "float64"), cast(second, "float64")
    left, right = len(first.shape) == 1, len(second.shape) == 1
    rows = first[None, :] if left else first
    columns = second[:, None] if right else second
    result = rows @ columns
    if right:
        result = ops.squeeze(result, axis=-1)
    if left:
        result = ops.squeeze(result, axis=-1 if right else -2)
    return cast(result, dtype)


@operator("Gemm")
def general_product(node: Node, first: Value, second: Value, third: Value = None) -> Value:
    """α A′ @ B′ + β C, C broadcast to the product."""
    first, second = tensor(first), tensor(second)
    if node.get("transA", 0):
        first = ops.transpose(first)
    if node.get("transB", 0):
        second = ops.transpose(second)
    result = _scaled(_product(first, second), node.get("alpha", 1.0))
    beta = node.get("beta", 1.0)
    if third is None or beta == 0:
        return result
    return result + _scaled(tensor(third), beta)


def _scaled(value: Value, factor: float) -> Value:
    if factor == 1:
        return value
    dtype = dtype_of(value)
    if is_float(dtype):
        return value * factor
    return cast(cast(value, "float64") * factor, dtype)


@operator("Einsum")
def einsum(node: Node, *values: Value) -> Value:
    """A sum of products by an equation."""
    tensors = [tensor(value) for value in values]
    dtype = dtype_of(tensors[0])
    equation = node.get("equation").replace(" ", "")
    if not is_float(dtype) and available("float64") == "float64":
        tensors = [cast(value, "float64") for value in tensors]
    return cast(ops.einsum(equation, *tensors), dtype)


@operator("Det")
def determinant(node: Node, value: Value) -> Value:
    """Determinants of the last two dimensions."""
    return ops.det(tensor(value))
