"""Reductions over axes, with the values that empty sets have."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

from keras import ops

from .table import Implementation, Node, Value, known, operator
from .tensors import axis_of, cast, dtype_of, filled, is_demoted, is_float, limits, shape_of, tensor

#: (tensor, axes) → the tensor reduced over these axes, which are kept with size 1.
Reduction = Callable[[Value, tuple[int, ...]], Value]


def axes_of(node: Node, rank: int, given: Value) -> tuple[int, ...]:
    """The axes to reduce: an attribute in the older versions, an input in the newer ones.

    None given means all of them, or none at all where `noop_with_empty_axes` is set.
    """
    axes = node.get("axes")
    if given is not None:
        axes = known(given, "the axes").reshape(-1).tolist()
    if not axes:
        return () if node.get("noop_with_empty_axes", 0) else tuple(range(rank))
    return tuple(sorted({axis_of(int(axis), rank) for axis in axes}))


def _sum(value: Value, axes: tuple[int, ...]) -> Value:
    return ops.sum(value, axis=axes, keepdims=True)


def _mean(value: Value, axes: tuple[int, ...]) -> Value:
    if is_demoted(dtype_of(value)):
        shape = shape_of(value)
        return _sum(value, axes) / math.prod(shape[axis] for axis in axes)
    return ops.mean(value, axis=axes, keepdims=True)


def _product(value: Value, axes: tuple[int, ...]) -> Value:
    for axis in axes:  # torch takes one at a time
        value = ops.prod(value, axis=axis, keepdims=True, dtype=dtype_of(value))
    return value


def _maximum(value: Value, axes: tuple[int, ...]) -> Value:
    return ops.max(value, axis=axes, keepdims=True)


def _minimum(value: Value, axes: tuple[int, ...]) -> Value:
    return ops.min(value, axis=axes, keepdims=True)


def _sum_of_magnitudes(value: Value, axes: tuple[int, ...]) -> Value:
    return _sum(ops.absolute(value), axes)


def _sum_of_squares(value: Value, axes: tuple[int, ...]) -> Value:
    return _sum(value * value, axes)


def _norm(value: Value, axes: tuple[int, ...]) -> Value:
    """√Σx², whose derivative at 0 is taken as 0: √ alone would give 0 · inf there."""
    squares = _sum_of_squares(value, axes)
    if not is_float(dtype_of(squares)):
        squares = ops.cast(squares, "float32")
    positive = squares > 0
    root = ops.sqrt(ops.where(positive, squares, ops.ones_like(squares)))
    # what is not positive is 0 or NaN, and stays so
    return ops.where(positive, root, ops.stop_gradient(squares))


def _log_sum(value: Value, axes: tuple[int, ...]) -> Value:
    return ops.log(_sum(value, axes))


def _log_sum_exp(value: Value, axes: tuple[int, ...]) -> Value:
    greatest = ops.stop_gradient(_maximum(value, axes))
    shift = ops.where(ops.isfinite(greatest), greatest, ops.zeros_like(greatest))
    total = _sum(ops.exp(value - shift), axes)
    empty = total == 0  # every term is exp(−inf)
    logarithm = ops.log(ops.where(empty, ops.ones_like(total), total)) + shift
    return ops.where(empty, greatest, logarithm)


#: kind → (reduction, the value of an empty set).
REDUCTIONS: dict[str, tuple[Reduction, float]] = {
    "ReduceSum": (_sum, 0.0),
    "ReduceMean": (_mean, math.nan),
    "ReduceProd": (_product, 1.0),
    "ReduceMax": (_maximum, -math.inf),
    "ReduceMin": (_minimum, math.inf),
    "ReduceL1": (_sum_of_magnitudes, 0.0),
    "ReduceL2": (_norm, 0.0),
    "ReduceSumSquare": (_sum_of_squares, 0.0),
    "ReduceLogSum": (_log_sum, -math.inf),
    "ReduceLogSumExp": (_log_sum_exp, -math.inf),
}


def _reduced(reduction: Reduction, empty: float) -> Implementation:
    def run(node: Node, value: Value, axes: Value = None) -> Value:
        value = tensor(value)
        dtype, shape = dtype_of(value), shape_of(value)
        over = axes_of(node, len(shape), axes)
        keep = node.get("keepdims", 1)
        one = tuple(1 if axis in over else size for axis, size in enumerate(shape))
        left = one if keep else tuple(s for axis, s in enumerate(shape) if axis not in over)
        if 0 in shape:
            return tensor(filled(left, _of_nothing(empty, dtype), dtype))
        if not over:  # one axis of size 1: not every backend takes an empty tuple as no axis
            value, over = ops.reshape(value, (*shape, 1)), (len(shape),)
        return cast(ops.reshape(reduction(value, over), left), dtype)

    return run


def _of_nothing(value: float, dtype: str) -> Any:
    if is_float(dtype):
        return value
    if dtype == "bool":
        return value > 0
    if math.isinf(value):
        return limits(dtype)[value > 0]
    return 0 if math.isnan(value) else int(value)


for _kind, (_reduction, _empty) in REDUCTIONS.items():
    operator(_kind)(_reduced(_reduction, _empty))
