"""Quantisation: to integers, back to floats, and products of integers.

A rounded value has no derivative. What is float on both sides and only rounds in between passes
the derivative straight through (Bengio et al. 2013): see `rounded_through`.
"""

from __future__ import annotations

import numpy as np
from keras import ops

from .numbers import NAMES, at_least_single, larger, product, quotient, smaller
from .table import Node, Unsupported, Value, is_known, operator
from .tensors import available, cast, dtype_of, tensor

#: The range of each integer type that a tensor can have.
RANGES = {
    "uint8": (0, 255),
    "int8": (-128, 127),
    "uint16": (0, 65535),
    "int16": (-32768, 32767),
}


@operator("QuantizeLinear", since=10, differentiable=False, note="to 8- and 16-bit integers")
def quantize_linear(node: Node, x: Value, scale: Value, zero_point: Value = None) -> Value:
    """The integers round(x / scale) + zero point, saturated; per tensor, per axis or in blocks."""
    if zero_point is not None:
        dtype = dtype_of(zero_point)
    else:
        named = int(node.get("output_dtype", 0))
        dtype = NAMES.get(named, "") if named else "uint8"
    precision = NAMES.get(int(node.get("precision", 0)))
    x = tensor(x)
    scale, zero_point = _spread_over(node, x, scale), _spread_over(node, x, zero_point)
    if precision is not None:
        x, scale = cast(x, precision), cast(scale, precision)
    return quantized(x, scale, zero_point, dtype)


@operator("DequantizeLinear", since=10)
def dequantize_linear(node: Node, x: Value, scale: Value, zero_point: Value = None) -> Value:
    """(x − zero point) · scale; per tensor, per axis or in blocks."""
    named = int(node.get("output_dtype", 0))
    dtype = NAMES[named] if named else dtype_of(scale)
    y = dequantized(
        x, _spread_over(node, x, scale), _spread_over(node, x, zero_point), at_least_single(dtype)
    )
    return cast(y, dtype)


@operator(
    "DynamicQuantizeLinear",
    since=11,
    note="the integers have no derivative; the scale has that of the range",
)
def dynamic_quantize_linear(node: Node, x: Value) -> Value:
    """To uint8 with the scale and zero point of its own range."""
    scale, zero_point = dynamic_range(x)
    return quantized(x, scale, zero_point, "uint8"), scale, cast(zero_point, "uint8")


@operator("MatMulInteger", since=10, differentiable=False)
def matmul_integer(
    node: Node, a: Value, b: Value, a_zero_point: Value = None, b_zero_point: Value = None
) -> Value:
    """(a − zero point) (b − zero point) in int32; the points per row of a and column of b."""
    return product(centred(a, rows(a_zero_point)), centred(b, b_zero_point))


@operator("QLinearMatMul", since=10, differentiable=False)
def qlinear_matmul(
    node: Node,
    a: Value,
    a_scale: Value,
    a_zero_point: Value,
    b: Value,
    b_scale: Value,
    b_zero_point: Value,
    y_scale: Value,
    y_zero_point: Value,
) -> Value:
    """The product of two quantised matrices, quantised."""
    exact = product(centred(a, rows(a_zero_point)), centred(b, b_zero_point))
    scale = cast(rows(a_scale), "float32") * cast(b_scale, "float32")
    y = ops.cast(exact, "float32") * scale
    return quantized(y, cast(y_scale, "float32"), y_zero_point, dtype_of(y_zero_point))


def quantized(x: Value, scale: Value, zero_point: Value, dtype: str) -> Value:
    """The integers round(x / scale) + zero point, half to even, within the type's limits."""
    if dtype not in RANGES or available(dtype) != dtype:
        raise Unsupported(f"quantisation to {dtype or 'that type'}")
    # Whole numbers of 16 bits are exact in float32, not in a half.
    whole = ops.round(quotient(x, scale))
    whole = cast(whole, at_least_single(dtype_of(whole)))
    if zero_point is not None:
        whole = whole + cast(zero_point, dtype_of(whole))
    low, high = RANGES[dtype]
    return ops.cast(ops.cast(ops.clip(whole, low, high), "int32"), dtype)


def dequantized(x: Value, scale: Value, zero_point: Value, dtype: str) -> Value:
    """(x − zero point) · scale in a float type."""
    x = _as_float(x, dtype)
    if zero_point is not None:
        x = x - _as_float(zero_point, dtype)
    return x * cast(scale, dtype)


def dynamic_range(x: Value) -> tuple[Value, Value]:
    """(scale, zero point) of uint8 for the range of x, which is made to include 0.

    A tensor of zeros has the scale 1, as in onnxruntime.
    """
    zero = ops.zeros((), dtype_of(x))
    low = smaller(ops.min(x), zero)
    high = larger(ops.max(x), zero)
    nothing = ops.equal(high, low)
    scale = ops.where(nothing, ops.ones_like(high), (high - low) / 255.0)
    return scale, ops.round(ops.clip(-low / scale, 0.0, 255.0))


def rounded_through(x: Value) -> Value:
    """What dynamic quantisation leaves of x, with the derivative of x itself."""
    scale, zero_point = dynamic_range(x)
    whole = ops.clip(ops.round(x / scale) + zero_point, 0.0, 255.0)
    return x + ops.stop_gradient((whole - zero_point) * scale - x)


def centred(x: Value, zero_point: Value) -> Value:
    """The int32 of x − zero point."""
    x = cast(x, "int32")
    return x if zero_point is None else x - cast(zero_point, "int32")


def rows(value: Value) -> Value:
    """A value per row as a column; per tensor as it is."""
    return value[..., None] if value is not None and len(value.shape) == 1 else value


def _as_float(x: Value, dtype: str) -> Value:
    """A tensor of a value; known ones may be of a type that no tensor has: 4 bits, float8."""
    return cast(x.astype(dtype) if is_known(x) else x, dtype)


def _spread_over(node: Node, x: Value, value: Value) -> Value:
    """A scale or zero point in a shape that broadcasts over x."""
    if value is None or len(value.shape) == 0:
        return value
    axis = int(node.get("axis", 1))
    size = int(node.get("block_size", 0))
    if not size:
        if value.shape[0] == 1:
            return value[0]
        shape = [1] * len(x.shape)
        shape[axis] = -1
        return value.reshape(shape) if isinstance(value, np.ndarray) else ops.reshape(value, shape)
    library = np if isinstance(value, np.ndarray) else ops
    wide = library.repeat(value, size, axis=axis)
    slices = [slice(None)] * len(x.shape)
    slices[axis] = slice(0, x.shape[axis])
    return wide[tuple(slices)]
