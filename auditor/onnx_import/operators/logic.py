"""Comparisons, truth values and bits."""

from __future__ import annotations

from collections.abc import Callable

from keras import ops

from .arithmetic import operands
from .table import Implementation, Node, Value, operator
from .tensors import cast, dtype_of, tensor

#: Functions of two tensors to truth values.
COMPARISONS: dict[str, Callable[[Value, Value], Value]] = {
    "Equal": ops.equal,
    "Greater": ops.greater,
    "GreaterOrEqual": ops.greater_equal,
    "Less": ops.less,
    "LessOrEqual": ops.less_equal,
    "And": ops.logical_and,
    "Or": ops.logical_or,
    "Xor": ops.logical_xor,
}
#: Functions of two integer tensors to one of the same dtype.
BITWISE: dict[str, Callable[[Value, Value], Value]] = {
    "BitwiseAnd": ops.bitwise_and,
    "BitwiseOr": ops.bitwise_or,
    "BitwiseXor": ops.bitwise_xor,
}


def _compared(function: Callable[[Value, Value], Value]) -> Implementation:
    def run(node: Node, first: Value, second: Value) -> Value:
        return function(*operands(node, first, second))

    return run


def _bitwise(function: Callable[[Value, Value], Value]) -> Implementation:
    def run(node: Node, first: Value, second: Value) -> Value:
        first = tensor(first)
        return cast(function(first, tensor(second)), dtype_of(first))

    return run


for _kind, _function in COMPARISONS.items():
    operator(_kind, differentiable=False)(_compared(_function))
for _kind, _function in BITWISE.items():
    operator(_kind, differentiable=False)(_bitwise(_function))


@operator("Not", differentiable=False)
def negation(node: Node, value: Value) -> Value:
    """Whether a value is false."""
    return ops.logical_not(tensor(value))


@operator("BitwiseNot", differentiable=False)
def complement(node: Node, value: Value) -> Value:
    """All bits turned over."""
    value = tensor(value)
    return cast(ops.bitwise_not(value), dtype_of(value))


@operator("IsNaN", differentiable=False)
def is_nan(node: Node, value: Value) -> Value:
    """Whether an element is no number."""
    return ops.isnan(tensor(value))


@operator("IsInf", differentiable=False)
def is_infinite(node: Node, value: Value) -> Value:
    """Whether an element is infinite, of the signs asked for."""
    value = tensor(value)
    found = ops.isinf(value)
    if not node.get("detect_negative", 1):
        found = ops.logical_and(found, value > 0)
    if not node.get("detect_positive", 1):
        found = ops.logical_and(found, value < 0)
    return found
