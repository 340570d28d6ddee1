"""Element types by number, and roots and powers whose derivative at 0 is finite."""

from __future__ import annotations

from keras import ops

from .table import Value

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
