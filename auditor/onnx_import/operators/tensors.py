"""Tensors of the running backend: made from what is known, their dtypes and their shapes.

ONNX operators keep the dtype of their inputs, while `keras.ops` promotes in its own way and a
backend may lack a dtype (JAX has no int64 without its 64-bit mode, torch no uint16): every
implementation makes its tensors, reads dtypes and casts here.
"""

from __future__ import annotations

from functools import cache
from typing import Any

import keras
import numpy as np
from keras import ops

from .table import Unsupported, Value


def tensor(value: Value) -> Value:
    """A value as a tensor of the running backend, in its own dtype.

    Raises `Unsupported` for what no tensor of the backend holds: strings, 4-bit numbers.
    """
    if isinstance(value, (np.ndarray, np.generic)):
        dtype = available(value.dtype.name)
        if dtype.startswith("float8"):  # which torch takes from no NumPy array
            return ops.cast(ops.convert_to_tensor(value.astype(np.float32)), dtype)
    return ops.convert_to_tensor(value)


@cache
def available(dtype: str) -> str:
    """The dtype in which the running backend holds values of an ONNX dtype (NumPy's name).

    Raises `Unsupported` where it has none.
    """
    zero = np.zeros((), np.float32 if dtype.startswith("float8") else np.dtype(dtype))
    try:
        sample = ops.convert_to_tensor(zero)
        if dtype.startswith("float8"):
            sample = ops.cast(sample, dtype)
        return str(keras.backend.standardize_dtype(sample.dtype))
    except (ValueError, TypeError, KeyError, AttributeError, NotImplementedError) as error:
        backend = keras.backend.backend()
        raise Unsupported(f"{backend} has no tensors of dtype {dtype}") from error


def dtype_of(value: Value) -> str:
    """The name of a value's dtype, as NumPy and Keras spell it."""
    if isinstance(value, (np.ndarray, np.generic)):
        return value.dtype.name
    return str(keras.backend.standardize_dtype(value.dtype))


def cast(value: Value, dtype: str) -> Value:
    """A value as a tensor of another dtype, or of what the backend has in its place."""
    value = tensor(value)
    dtype = available(dtype)
    return value if dtype_of(value) == dtype else ops.cast(value, dtype)


def is_demoted(dtype: str) -> bool:
    """Whether `keras.ops` that promote dtypes turn this one into a narrower one.

    On JAX and torch Keras makes 32 bits of 64, even where both operands have 64.
    """
    return str(keras.backend.result_type(dtype)) != dtype


def is_float(dtype: str) -> bool:
    """Whether a dtype holds floating-point numbers."""
    return dtype.startswith(("float", "bfloat"))


def is_integer(dtype: str) -> bool:
    """Whether a dtype holds integers."""
    return dtype.startswith(("int", "uint"))


def limits(dtype: str) -> tuple[int, int]:
    """The least and the greatest integer of a dtype."""
    bounds = np.iinfo(np.dtype(dtype))
    return int(bounds.min), int(bounds.max)


def shape_of(value: Value) -> tuple[int, ...]:
    """A value's shape. Raises `Unsupported` where a dimension is not known while it is traced."""
    shape = tuple(value.shape)
    if any(size is None for size in shape):
        raise Unsupported("a dimension is not known before the model runs")
    return tuple(int(size) for size in shape)


def axis_of(axis: int, rank: int) -> int:
    """An axis counted from the front. Raises `Unsupported` for one that is not there."""
    if not -rank <= axis < rank:
        raise Unsupported(f"axis {axis} of a tensor of rank {rank}")
    return axis % rank


def filled(shape: tuple[int, ...], value: Any, dtype: str) -> np.ndarray[Any, Any]:
    """A known array of one value."""
    return np.full(shape, value, np.dtype(dtype))
