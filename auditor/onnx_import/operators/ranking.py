"""Orders along an axis: the greatest, the least, the k first of them."""

from __future__ import annotations

from keras import ops

from .table import Node, Value, known, operator
from .tensors import axis_of, cast, shape_of, tensor


@operator("ArgMax", differentiable=False)
def index_of_maximum(node: Node, value: Value) -> Value:
    """The index of the greatest element along an axis: the first such, or the last."""
    return _index(node, value, greatest=True)


@operator("ArgMin", differentiable=False)
def index_of_minimum(node: Node, value: Value) -> Value:
    """The index of the least element along an axis: the first such, or the last."""
    return _index(node, value, greatest=False)


def _index(node: Node, value: Value, *, greatest: bool) -> Value:
    value = tensor(value)
    axis = axis_of(node.get("axis", 0), len(value.shape))
    last = node.get("select_last_index", 0)
    if last:
        value = ops.flip(value, axis=axis)
    index = cast((ops.argmax if greatest else ops.argmin)(value, axis=axis), "int64")
    if last:
        index = shape_of(value)[axis] - 1 - index
    return ops.expand_dims(index, axis) if node.get("keepdims", 1) else index


@operator("TopK", note="how many is known before the model runs; indices have no derivative")
def top_k(node: Node, value: Value, count: Value = None) -> tuple[Value, Value]:
    """The k greatest (or least) elements in order and their indices; of equals the first."""
    value = tensor(value)
    rank = len(value.shape)
    axis = axis_of(node.get("axis", -1), rank)
    k = node.get("k") if count is None else int(known(count, "k").reshape(()))
    size = shape_of(value)[axis]
    if node.get("largest", 1):
        # ascending of the reversed, reversed: a stable order in which equals keep their places,
        # without a negation, which unsigned numbers and the least integer do not have
        order = ops.flip(size - 1 - _ascending(ops.flip(value, axis=axis), axis), axis=axis)
    else:
        order = _ascending(value, axis)
    first = [slice(None)] * rank
    first[axis] = slice(0, k)
    indices = order[tuple(first)]
    return ops.take_along_axis(value, indices, axis=axis), cast(indices, "int64")


def _ascending(value: Value, axis: int) -> Value:
    return ops.argsort(ops.stop_gradient(value), axis=axis)
