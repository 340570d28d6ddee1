"""Element types by number, and arithmetic: finite derivatives at 0, one precision throughout."""

from __future__ import annotations

import math

import keras
from keras import ops

from .table import Value
from .tensors import cast, dtype_of, tensor

#: Names of ONNX's element types (TensorProto.DataType) that a tensor can have.
NAMES = {
    1: "float32",
    2: "uint8",
    3: "int8",
    4: "uint16",
    5: "int16",
    6: "int32",
    7: "int64",
    9: "bool",
    10: "float16",
    11: "float64",
    12: "uint32",
    13: "uint64",
    16: "bfloat16",
}


def at_least_single(dtype: str) -> str:
    """The type to compute in: half precisions in float32, float64 in itself."""
    return "float64" if dtype == "float64" else "float32"


def root(x: Value) -> Value:
    """√x of x ≥ 0, whose derivative at 0 is 0 instead of infinite."""
    positive = ops.greater(x, 0)
    return ops.where(positive, ops.sqrt(ops.where(positive, x, ops.ones_like(x))), 0 * x)


def power(x: Value, exponent: float) -> Value:
    """x^exponent of x ≥ 0, whose derivative at 0 is 0."""
    if exponent == 1:
        return x
    if exponent == 0.5:
        return root(x)
    positive = ops.greater(x, 0)
    return ops.where(positive, ops.power(ops.where(positive, x, ops.ones_like(x)), exponent), 0 * x)


# Keras knows no float64 in its promotions: on torch it multiplies, averages and compares such
# tensors in float32.


def product(a: Value, b: Value) -> Value:
    """The matrix product in the operands' own type."""
    return a @ b


def quotient(a: Value, b: Value) -> Value:
    """The quotient a / b, as near as the type has it.

    XLA multiplies by the reciprocal of a divisor that it spreads within the division, which is a
    step off: enough to round the other way.
    """
    a, b = tensor(a), tensor(b)
    if keras.backend.backend() == "jax" and len(b.shape) < len(a.shape):
        b = ops.broadcast_to(b, a.shape)
    return a / b


def mean(x: Value, axes: tuple[int, ...], *, keepdims: bool = True) -> Value:
    """The mean over axes in x's own type; half precisions are summed in float32."""
    dtype = dtype_of(x)
    wide = cast(x, at_least_single(dtype))
    shape = ops.shape(x)
    count = math.prod(shape[axis] for axis in axes)
    total = ops.sum(wide, axis=axes, keepdims=keepdims)
    return cast(total / (count if isinstance(count, int) else cast(count, dtype_of(wide))), dtype)


def larger(a: Value, b: Value) -> Value:
    """The larger of two tensors of one type; NaN where either is."""
    return ops.where((a >= b) | (a != a), a, b)


def smaller(a: Value, b: Value) -> Value:
    """The smaller of two tensors of one type; NaN where either is."""
    return ops.where((a <= b) | (a != a), a, b)


def floor(x: Value) -> Value:
    """The greatest whole number not above x, as a constant."""
    return ops.stop_gradient(cast(ops.floor(x), dtype_of(x)))
