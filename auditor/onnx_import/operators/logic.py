"""Comparisons, truth values and python."""

from __future__ import annotations

import operator as python
from collections.abc import Callable

from keras import ops

from .arithmetic import operands
from .selection import in_order
from .table import Implementation, Node, Value, operator
from .tensors import tensor

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
    "BitwiseAnd": python.and_,
    "BitwiseOr": python.or_,
    "BitwiseXor": python.xor,
}


def _compared(function: Callable[[Value, Value], Value]) -> Implementation:
    def run(node: Node, first: Value, second: Value) -> Value:
        return in_order(function, *operands(node, first, second))

    return run


def _bitwise(function: Callable[[Value, Value], Value]) -> Implementation:
    def run(node: Node, first: Value, second: Value) -> Value:
        return function(tensor(first), tensor(second))

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
    return ~tensor(value)


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
