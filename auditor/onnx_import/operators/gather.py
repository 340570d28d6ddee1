"""Elements picked by their indices."""

from __future__ import annotations

import numpy as np
from keras import ops

from .indexing import gather_nd, wrapped
from .selection import where
from .table import Node, Value, is_known, known, operator
from .tensors import axis_of, cast, shape_of, tensor


@operator("Gather")
def gather(node: Node, value: Value, indices: Value) -> Value:
    """Slices along an axis."""
    value = tensor(value)
    axis = axis_of(node.get("axis", 0), len(value.shape))
    places = wrapped(indices, shape_of(value)[axis]) if is_known(indices) else tensor(indices)
    return ops.take(value, places, axis=axis)


@operator("GatherElements")
def gather_elements(node: Node, value: Value, indices: Value) -> Value:
    """One element for each index, at the index's own place in all other dimensions."""
    value = tensor(value)
    axis = axis_of(node.get("axis", 0), len(value.shape))
    shape = shape_of(indices)
    near = tuple(slice(None) if place == axis else slice(0, n) for place, n in enumerate(shape))
    places = wrapped(indices if is_known(indices) else tensor(indices), shape_of(value)[axis])
    return ops.take_along_axis(value[near], places, axis=axis)


@operator("GatherND")
def gather_slices(node: Node, value: Value, indices: Value) -> Value:
    """Slices at indices into several dimensions, within each of a batch."""
    return gather_nd(value, indices, node.get("batch_dims", 0))


@operator("ArrayFeatureExtractor", domain="ai.onnx.ml")
def extract_features(node: Node, value: Value, indices: Value) -> Value:
    """Columns of the last dimension."""
    value = tensor(value)
    if len(value.shape) == 1:
        value = value[None]
    places = indices if is_known(indices) else tensor(indices)
    return ops.take(value, places.reshape(-1) if is_known(places) else ops.ravel(places), axis=-1)


@operator("Compress", note="the condition is known before the model runs")
def compress(node: Node, value: Value, condition: Value) -> Value:
    """Slices along an axis (of all elements in a row by default) for which a condition holds."""
    value = tensor(value)
    (places,) = np.nonzero(known(condition, "the condition").reshape(-1))
    axis = node.get("axis")
    if axis is None:
        value, axis = ops.reshape(value, (-1,)), 0
    return ops.take(value, places.astype(np.int32), axis=axis_of(axis, len(value.shape)))


@operator("OneHot", note="the depth is known before the model runs")
def one_hot(node: Node, indices: Value, depth: Value, values: Value) -> Value:
    """The second value at each index along a new axis, the first one elsewhere."""
    size = int(known(depth, "the depth").reshape(-1)[0])
    places = ops.expand_dims(cast(indices, "int64"), (axis := _new_axis(node, indices)))
    places = ops.where(places < 0, places + size, places)
    along = [1] * len(places.shape)
    along[axis] = size
    targets = cast(np.arange(size, dtype=np.int64).reshape(along), "int64")
    values = tensor(values)
    return where(ops.equal(places, targets), values[1], values[0])


def _new_axis(node: Node, indices: Value) -> int:
    return axis_of(node.get("axis", -1), len(indices.shape) + 1)
