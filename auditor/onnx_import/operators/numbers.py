"""Number types, and functions whose derivative stays finite where a composed one's does not."""

from __future__ import annotations

from typing import Any

import keras
import numpy as np
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


def dtype_of(value: Value) -> str:
    """The name of a value's number type, as Keras spells it."""
    if isinstance(value, (np.ndarray, np.generic)):
        return value.dtype.name
    return str(keras.backend.standardize_dtype(value.dtype))


def is_float(value: Value) -> bool:
    """Whether a value's numbers are floating."""
    return "float" in dtype_of(value)


def cast(value: Value, dtype: str) -> Value:
    """A tensor of this type; a known value of any type (float8 too) becomes a tensor."""
    if isinstance(value, (np.ndarray, np.generic)):
        return ops.convert_to_tensor(np.asarray(value).astype(_numpy(dtype)))
    return value if dtype_of(value) == dtype else ops.cast(value, dtype)


def tensor(value: Value) -> Value:
    """A known value as a tensor; a tensor as it is."""
    return ops.convert_to_tensor(value) if isinstance(value, (np.ndarray, np.generic)) else value


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
    return ops.where(
        positive, ops.power(ops.where(positive, x, ops.ones_like(x)), exponent), 0 * x
    )


def _numpy(dtype: str) -> np.dtype[Any]:
    if dtype == "bfloat16":
        import ml_dtypes

        return np.dtype(ml_dtypes.bfloat16)
    return np.dtype(dtype)
