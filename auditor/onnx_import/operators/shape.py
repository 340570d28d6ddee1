"""Shapes asked for and changed: the elements stay in their order."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import onnx.helper
from keras import ops

from .table import Node, Unsupported, Value, is_known, known, operator
from .tensors import axis_of, dtype_of, shape_of, tensor


@operator("Shape", differentiable=False)
def shape(node: Node, value: Value) -> Value:
    """A tensor's shape, from `start` to `end`: known as soon as the tensor is traced."""
    sizes = shape_of(value)[slice(node.get("start", 0), node.get("end"))]
    return np.asarray(sizes, np.int64)


@operator("Size", differentiable=False)
def size(node: Node, value: Value) -> Value:
    """A tensor's number of elements."""
    return np.asarray(math.prod(shape_of(value)), np.int64)


@operator("Identity")
def identity(node: Node, value: Value) -> Value:
    """The input itself, a sequence as well."""
    return value if value is None or is_known(value) or isinstance(value, list) else tensor(value)


@operator("Reshape", note="the shape is known before the model runs")
def reshape(node: Node, value: Value, to: Value = None) -> Value:
    """Another shape: 0 keeps a dimension (unless `allowzero`), −1 is what is left."""
    value = tensor(value)
    held = shape_of(value)
    wanted = node.get("shape") if to is None else known(to, "the shape").reshape(-1).tolist()
    sizes = [int(size) for size in wanted]
    if not node.get("allowzero", 0):
        if any(size == 0 and place >= len(held) for place, size in enumerate(sizes)):
            raise Unsupported(f"shape {sizes} of a tensor of rank {len(held)}")
        sizes = [held[place] if size == 0 else size for place, size in enumerate(sizes)]
    if -1 in sizes:
        rest = math.prod(size for size in sizes if size != -1)
        sizes[sizes.index(-1)] = math.prod(held) // rest if rest else 0
    if math.prod(sizes) != math.prod(held) or min(sizes, default=0) < 0:
        raise Unsupported(f"shape {held} as {tuple(sizes)}")
    return ops.reshape(value, sizes)


@operator("Flatten")
def flatten(node: Node, value: Value) -> Value:
    """A matrix: the dimensions before an axis, and those from it on."""
    value = tensor(value)
    held = shape_of(value)
    axis = node.get("axis", 1)
    axis = axis + len(held) if axis < 0 else axis
    return ops.reshape(value, (math.prod(held[:axis]), math.prod(held[axis:])))


@operator("Squeeze", note="the axes are known before the model runs")
def squeeze(node: Node, value: Value, axes: Value = None) -> Value:
    """Dimensions of size 1 left out: those named, or all."""
    value = tensor(value)
    held = shape_of(value)
    named = _axes(node, axes)
    if named is None:
        out = {place for place, size in enumerate(held) if size == 1}
    else:
        out = {axis_of(axis, len(held)) for axis in named}
    if any(held[place] != 1 for place in out):
        raise Unsupported(f"axes {sorted(out)} of shape {held} squeezed")
    return ops.reshape(value, [size for place, size in enumerate(held) if place not in out])


@operator("Unsqueeze", note="the axes are known before the model runs")
def unsqueeze(node: Node, value: Value, axes: Value = None) -> Value:
    """Dimensions of size 1 put in, at places of the result."""
    value = tensor(value)
    named = _axes(node, axes) or []
    held = list(shape_of(value))
    rank = len(held) + len(named)
    places = {axis_of(axis, rank) for axis in named}
    if len(places) != len(named):
        raise Unsupported(f"axes {named} named twice")
    sizes = iter(held)
    return ops.reshape(value, [1 if place in places else next(sizes) for place in range(rank)])


def _axes(node: Node, given: Value) -> list[int] | None:
    if given is not None:
        return [int(axis) for axis in known(given, "the axes").reshape(-1)]
    axes = node.get("axes")
    return None if axes is None else [int(axis) for axis in axes]


@operator("Transpose")
def transpose(node: Node, value: Value) -> Value:
    """Dimensions in another order, by default reversed."""
    value = tensor(value)
    order = node.get("perm")
    return ops.transpose(value, None if order is None else tuple(order))


@operator("Expand", note="the shape is known before the model runs")
def expand(node: Node, value: Value, to: Value) -> Value:
    """A tensor broadcast with a shape, either of which may have the 1."""
    value = tensor(value)
    wanted = tuple(int(size) for size in known(to, "the shape").reshape(-1))
    return ops.broadcast_to(value, np.broadcast_shapes(shape_of(value), wanted))


@operator("EyeLike", differentiable=False)
def eye_like(node: Node, value: Value) -> Value:
    """Ones on a diagonal, in the shape of a matrix."""
    rows, columns = shape_of(value)
    to = node.get("dtype")
    dtype: Any = dtype_of(value) if to is None else onnx.helper.tensor_dtype_to_np_dtype(to)
    return np.eye(rows, columns, k=node.get("k", 0)).astype(dtype)
