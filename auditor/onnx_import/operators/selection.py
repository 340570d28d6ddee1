"""One tensor's elements or another's, without a change of dtype.

Keras promotes two uint64 tensors to uint32, and on JAX and torch whatever has 64 bits to 32: so
uint64 is compared and selected as int64 in the same order, and nothing by `ops.maximum`.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from keras import ops

from .table import Value
from .tensors import dtype_of, is_float, tensor


def in_order(function: Callable[..., Value], *values: Value) -> Value:
    """A function that depends on the order of numbers alone, applied to tensors of one dtype."""
    tensors = [tensor(value) for value in values]
    if dtype_of(tensors[0]) != "uint64":
        return function(*tensors)
    half = np.uint64(1 << 63)
    signed = [ops.view(value ^ tensor(half), dtype="int64") for value in tensors]
    result = function(*signed)
    if dtype_of(result) != "int64":
        return result
    return ops.view(result, dtype="uint64") ^ tensor(half)


def greatest(first: Value, second: Value) -> Value:
    """The greater of two tensors' elements, or NaN; of equals the first, on every backend."""
    return in_order(lambda a, b: ops.where(_or_nan(a >= b, a), a, b), first, second)


def least(first: Value, second: Value) -> Value:
    """The smaller of two tensors' elements, or NaN; of equals the first, on every backend."""
    return in_order(lambda a, b: ops.where(_or_nan(a <= b, a), a, b), first, second)


def _or_nan(chosen: Value, value: Value) -> Value:
    return ops.logical_or(chosen, ops.isnan(value)) if is_float(dtype_of(value)) else chosen


def where(condition: Value, first: Value, second: Value) -> Value:
    """Elements of the first tensor where a condition holds, else of the second one."""
    condition = tensor(condition)
    return in_order(lambda one, other: ops.where(condition, one, other), first, second)
