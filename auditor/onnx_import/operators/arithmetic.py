"""Arithmetic, element by element, with broadcasting as every version of ONNX has it."""

from __future__ import annotations

from functools import reduce

import numpy as np
from keras import ops

from .indexing import part
from .numbers import quotient as exact_quotient
from .selection import greatest, least
from .selection import where as select
from .table import Node, Unsupported, Value, is_known, known, operator
from .tensors import axis_of, cast, dtype_of, is_demoted, is_float, shape_of, tensor


def operands(node: Node, first: Value, second: Value) -> tuple[Value, Value]:
    """Both operands, ready for NumPy's broadcasting.

    Before version 7 the second one was broadcast on request alone (`broadcast`), aligned with the
    first one's dimensions from `axis` on, by default with its last ones.
    """
    first, second = tensor(first), tensor(second)
    if node.since >= 7 or not node.get("broadcast", 0):
        return first, second
    axis = node.get("axis")
    if axis is not None:
        rank = len(first.shape)
        missing = rank - axis_of(axis, rank) - len(second.shape)
        second = ops.reshape(second, shape_of(second) + (1,) * missing)
    return first, second


@operator("Add")
def add(node: Node, first: Value, second: Value) -> Value:
    """A + B."""
    first, second = operands(node, first, second)
    return first + second


@operator("Sub")
def subtract(node: Node, first: Value, second: Value) -> Value:
    """A − B."""
    first, second = operands(node, first, second)
    return first - second


@operator("Mul")
def multiply(node: Node, first: Value, second: Value) -> Value:
    """A · B."""
    first, second = operands(node, first, second)
    return first * second


@operator("Div")
def divide(node: Node, first: Value, second: Value) -> Value:
    """A / B; between integers the quotient is truncated toward zero."""
    first, second = operands(node, first, second)
    dtype = dtype_of(first)
    if is_float(dtype):
        return exact_quotient(first, second)
    quotient = first // second
    if dtype.startswith("uint"):
        return quotient
    inexact = (first - quotient * second) != 0
    return quotient + cast(inexact & ((first < 0) != (second < 0)), dtype)


@operator("Mod")
def modulo(node: Node, first: Value, second: Value) -> Value:
    """The remainder, with the divisor's sign, or with the dividend's where `fmod` is set."""
    first, second = operands(node, first, second)
    if is_float(dtype_of(first)):
        # ⌊x / y⌋, the derivative by y, has to be finite where the remainder is not used
        plain = ops.isfinite(first) & ops.isfinite(second) & (second != 0)
        zero, one = ops.zeros_like(first), ops.ones_like(second)
        remainder = ops.where(plain, first, zero) % ops.where(plain, second, one)
        # a finite number within an infinite one: some backends compute x − ⌊x / ∞⌋ · ∞ = NaN
        inside = ops.logical_and(ops.isfinite(first), ops.isinf(second))
        other_sign = ops.logical_and(first != 0, (first < 0) != (second < 0))
        within = ops.where(other_sign, second, first)
        remainder = ops.where(plain, remainder, ops.full_like(remainder, np.nan))
        remainder = ops.where(inside, within, remainder)
    else:
        remainder = first % second
    if not node.get("fmod", 0) or dtype_of(first).startswith("uint"):
        return remainder
    other_sign = ops.logical_and(remainder != 0, (remainder < 0) != (first < 0))
    # x − trunc(x / y) · y is one divisor off x − ⌊x / y⌋ · y where the signs differ
    off = ops.logical_and(other_sign, ops.logical_not(ops.isinf(second)))
    moved = ops.where(off, remainder - second, remainder)
    return ops.where(ops.logical_and(other_sign, ops.isinf(second)), first, moved)


@operator("Pow")
def power(node: Node, base: Value, exponent: Value) -> Value:
    """A power in the base's dtype, whatever the exponent's."""
    if is_known(exponent) and is_float(dtype_of(base)):
        exponent = exponent.astype(dtype_of(base))  # torch has no unsigned ones
    base, exponent = operands(node, base, exponent)
    dtype, other = dtype_of(base), dtype_of(exponent)
    if is_float(dtype):
        exponent = cast(exponent, dtype)
        # d/dy xʸ = xʸ · ln x is NaN for x < 0, where only whole exponents have a value at all
        exponent = ops.where(base < 0, ops.stop_gradient(exponent), exponent)
        return ops.power(base, exponent)
    if is_float(other):
        return cast(ops.power(cast(base, other), exponent), dtype)
    wide = "int64"
    return cast(ops.power(cast(base, wide), cast(exponent, wide)), dtype)


@operator("Sum")
def total(node: Node, *values: Value) -> Value:
    """The sum of all inputs."""
    return reduce(lambda one, other: one + other, map(tensor, values))


@operator("Mean")
def mean(node: Node, *values: Value) -> Value:
    """The mean of all inputs."""
    return total(node, *values) / len(values)


@operator("Max")
def maximum(node: Node, *values: Value) -> Value:
    """The greatest of all inputs."""
    return reduce(greatest, map(tensor, values))


@operator("Min")
def minimum(node: Node, *values: Value) -> Value:
    """The least of all inputs."""
    return reduce(least, map(tensor, values))


@operator("Clip")
def clip(node: Node, value: Value, low: Value = None, high: Value = None) -> Value:
    """Values held between two bounds; where they cross, the upper one holds.

    At a bound the derivative is 1 on every backend.
    """
    value = tensor(value)
    if node.since < 11:
        low, high = node.get("min"), node.get("max")
    if low is not None:
        value = _bounded(value, low, below=True)
    if high is not None:
        value = _bounded(value, high, below=False)
    return value


def _bounded(value: Value, bound: Value, *, below: bool) -> Value:
    dtype = dtype_of(value)
    if isinstance(bound, float):
        bound = np.asarray(bound, np.dtype(dtype))
    bound = ops.reshape(cast(bound, dtype), ())
    return ops.where(value < bound if below else value > bound, bound, value)


@operator("Neg")
def negative(node: Node, value: Value) -> Value:
    """−x."""
    return -tensor(value)


@operator("Abs")
def absolute(node: Node, value: Value) -> Value:
    """|x|."""
    value = tensor(value)
    return value if dtype_of(value).startswith("uint") else ops.absolute(value)


@operator("Sign", differentiable=False)
def sign(node: Node, value: Value) -> Value:
    """−1, 0 or 1."""
    value = tensor(value)
    return cast(ops.sign(value), dtype_of(value))


@operator("Where")
def where(node: Node, condition: Value, first: Value, second: Value) -> Value:
    """Elements of one input or of the other."""
    return select(condition, first, second)


@operator("BitShift", differentiable=False)
def shift(node: Node, value: Value, amount: Value) -> Value:
    """Bits moved left or right; beyond the width of the type nothing is left but the sign."""
    value, amount = tensor(value), tensor(amount)
    dtype = dtype_of(value)
    bits = np.iinfo(np.dtype(dtype)).bits
    outside = ops.logical_or(amount < 0, amount > bits - 1)
    amount = ops.cast(select(outside, ops.zeros_like(amount), amount), "int32")
    rest = ops.zeros_like(value)
    powers = (np.uint64(1) << np.arange(bits, dtype=np.uint64)).astype(np.dtype(dtype))
    if node.get("direction") == "LEFT":  # a product in the integers modulo 2ᵇⁱᵗˢ
        shifted = value * ops.take(tensor(powers), amount)
    elif dtype.startswith("uint"):
        shifted = value // ops.take(tensor(powers), amount)
    else:
        shifted = ops.right_shift(value, cast(amount, dtype))
        rest = ops.where(value < 0, rest - 1, rest)
    return select(outside, rest, shifted)


@operator("CumSum")
def cumulative_sum(node: Node, value: Value, axis: Value) -> Value:
    """Sums of all elements up to each one along an axis."""
    return _cumulated(node, value, axis, product=False)


@operator("CumProd")
def cumulative_product(node: Node, value: Value, axis: Value) -> Value:
    """Products of all elements up to each one along an axis.

    By multiplication alone: TensorFlow's own derivative divides by the elements, NaN at a zero.
    """
    return _cumulated(node, value, axis, product=True)


def _cumulated(node: Node, value: Value, axis: Value, *, product: bool) -> Value:
    value = tensor(value)
    dtype = dtype_of(value)
    place = axis_of(int(known(axis, "the axis").reshape(())), len(value.shape))
    size = shape_of(value)[place]
    if size == 0:
        return value
    if node.get("reverse", 0):
        value = ops.flip(value, axis=place)
    if node.get("exclusive", 0):
        first = ops.ones_like if product else ops.zeros_like
        start, rest = part(value, place, 0, 1), part(value, place, 0, size - 1)
        value = ops.concatenate([first(start), rest], axis=place)
    if product or is_demoted(dtype):
        value = _scanned(value, place, product=product)
    else:
        value = ops.cumsum(value, axis=place)
    if node.get("reverse", 0):
        value = ops.flip(value, axis=place)
    return cast(value, dtype)


def _scanned(value: Value, axis: int, *, product: bool) -> Value:
    """Each element with all before it, by shifts of 1, 2, 4, … (Hillis and Steele 1986)."""
    size, reach = shape_of(value)[axis], 1
    neutral = ops.ones_like if product else ops.zeros_like
    while reach < size:
        before = ops.concatenate(
            [
                neutral(part(value, axis, 0, reach)),
                part(value, axis, 0, size - reach),
            ],
            axis=axis,
        )
        value = value * before if product else value + before
        reach *= 2
    return value


@operator("Gradient", domain="ai.onnx.preview.training")
def gradient(node: Node, *values: Value) -> Value:
    """Derivatives as a part of the graph: not offered."""
    raise Unsupported("derivatives taken within the graph")
