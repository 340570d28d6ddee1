"""Casts between dtypes."""

from __future__ import annotations

import onnx.helper
from keras import ops

from .table import Node, Unsupported, Value, operator
from .tensors import available, dtype_of, is_float, tensor
from .tensors import cast as as_dtype

#: The greatest finite numbers of the 8-bit floating-point dtypes that Keras knows.
GREATEST = {"float8_e4m3fn": 448.0, "float8_e5m2": 57344.0}


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
    if available(dtype) != dtype:
        raise Unsupported(f"the bits of {dtype}, which the backend does not hold as such")
    if "bool" in (dtype, dtype_of(value)):
        return as_dtype(value, dtype)  # one byte, 0 or 1
    return ops.view(value, dtype=dtype)


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
    if node.get("saturate", 1) and greatest is not None:
        # NaN is neither below nor above: it stays
        value = ops.where(value < -greatest, ops.cast(-greatest, held), value)
        value = ops.where(value > greatest, ops.cast(greatest, held), value)
    return as_dtype(value, dtype)
