"""Casts between dtypes."""

from __future__ import annotations

import math

import numpy as np
import onnx.helper
from keras import ops

from .table import Node, Unsupported, Value, operator
from .tensors import available, dtype_of, is_float, tensor
from .tensors import cast as as_dtype

#: The greatest finite numbers of the 8-bit floating-point dtypes that Keras knows.
GREATEST = {"float8_e4m3fn": 448.0, "float8_e5m2": 57344.0}

#: What overflows without saturation, and to what: half a step above the greatest number is rounded
#: to the even neighbour, down for the first and up for the second.
OVERFLOW = {
    "float8_e4m3fn": (np.nextafter(np.float32(464), np.float32(465)).item(), math.nan),
    "float8_e5m2": (61440.0, math.inf),
}


@operator("Cast", note="to dtypes that the backend has")
def cast(node: Node, value: Value) -> Value:
    """A tensor in the dtype `to`."""
    return _converted(node, value, _wanted(node))


@operator("CastLike", note="to dtypes that the backend has")
def cast_like(node: Node, value: Value, like: Value) -> Value:
    """A tensor in the dtype of another."""
    return _converted(node, value, dtype_of(like))


@operator("BitCast", differentiable=False, note="to dtypes that the backend has")
def bit_cast(node: Node, value: Value) -> Value:
    """The same bits read as another dtype of the same width."""
    value, dtype = tensor(value), _wanted(node)
    if available(dtype) != dtype or _width(dtype) != _width(dtype_of(value)):
        raise Unsupported(f"the bits of {dtype}, which the backend does not hold as such")
    if "bool" in (dtype, dtype_of(value)):
        return as_dtype(value, dtype)  # one byte, 0 or 1
    return ops.view(value, dtype=dtype)


def _width(dtype: str) -> int:
    return np.dtype(dtype).itemsize


def _wanted(node: Node) -> str:
    to = node.get("to")
    if to == onnx.TensorProto.STRING:
        raise Unsupported("a cast to strings")
    return str(onnx.helper.tensor_dtype_to_np_dtype(to).name)


def _converted(node: Node, value: Value, dtype: str) -> Value:
    value = tensor(value)
    held = dtype_of(value)
    if dtype == "bool":
        return value if held == "bool" else value != 0
    if not dtype.startswith("float8") or not is_float(held):
        return as_dtype(value, dtype)
    greatest = GREATEST.get(dtype)
    if greatest is not None and not node.get("saturate", 1):
        # beyond half a step above the greatest number; torch saturates of its own accord
        beyond, outcome = OVERFLOW[dtype]
        value = ops.where(ops.absolute(value) >= beyond, outcome * ops.sign(value), value)
    elif greatest is not None:
        # NaN is neither below nor above: it stays
        value = ops.where(value < -greatest, ops.cast(-greatest, held), value)
        value = ops.where(value > greatest, ops.cast(greatest, held), value)
    return as_dtype(value, dtype)
