"""What flows along edges: which of it is known, and what it is as a number or an array."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import keras
import ml_dtypes
import numpy as np

from auditor.onnx_import.operators.table import Value, is_known

#: What Keras holds on every backend as it is; all else stays with NumPy.
TENSOR_DTYPES = frozenset(
    {"bool", "uint8", "int8", "int16", "int32", "int64"}
    | {"float16", "float32", "float64", "bfloat16"}
)
#: What PyTorch has no arithmetic for, and the others have.
UNSIGNED = frozenset({"uint16", "uint32", "uint64"})


def all_known(values: Iterable[Value]) -> bool:
    """Whether no value is, or holds, a tensor of the backend; None and strings are known."""
    return all(
        all_known(value) if isinstance(value, (list, tuple)) else value is None or is_known(value)
        for value in values
    )


def concrete(value: Value) -> Value | None:
    """A value as NumPy has it, nested lists alike; None where it is being traced.

    Of a tensor in eager execution that is a copy, through which no gradient passes.
    """
    if value is None or is_known(value):
        return value
    if isinstance(value, (list, tuple)):
        elements = [concrete(element) for element in value]
        missing = any(
            found is None and element is not None
            for found, element in zip(elements, value, strict=True)
        )
        return None if missing else elements
    if isinstance(value, keras.KerasTensor):
        return None
    name = dtype_of(value)
    if name.startswith("float8"):  # of which torch makes no NumPy array
        wide = concrete(keras.ops.cast(value, "float32"))
        return None if wide is None else wide.astype(getattr(ml_dtypes, name))
    try:
        # JAX: what is differentiated outside of a compiled function is known but for its tangent.
        return np.asarray(keras.ops.convert_to_numpy(keras.ops.stop_gradient(value)))
    except (TypeError, ValueError, NotImplementedError, AttributeError, RuntimeError):
        return None  # each framework has its own way to say that a value is traced


def tensor(value: np.ndarray[Any, Any]) -> Value:
    """A known value as a tensor of the backend; itself where the backend has no such dtype."""
    name = value.dtype.name
    if name in TENSOR_DTYPES or (name in UNSIGNED and keras.backend.backend() != "torch"):
        return keras.ops.convert_to_tensor(np.ascontiguousarray(value).reshape(value.shape))
    return value


def dtype_of(value: Value) -> str:
    """The dtype's name, such as "float32"; empty for what has none."""
    if is_known(value):
        return str(np.asarray(value).dtype)
    if value is None or isinstance(value, (list, tuple)):
        return ""
    return str(keras.backend.standardize_dtype(value.dtype))


def shape_of(value: Value) -> tuple[int | None, ...] | None:
    """The shape as far as it is known; None for what has none."""
    if value is None or isinstance(value, (list, tuple)):
        return None
    shape = getattr(value, "shape", None)
    try:
        return None if shape is None else tuple(shape)
    except ValueError:  # TensorFlow: not even the rank is known
        return None
