"""Elements put together, taken apart and moved."""

from __future__ import annotations

from itertools import accumulate
from typing import Any

import numpy as np
from keras import ops

from .indexing import part
from .selection import where
from .table import Node, Unsupported, Value, is_known, known, operator
from .tensors import axis_of, cast, dtype_of, shape_of, tensor


@operator("Concat")
def concat(node: Node, *values: Value) -> Value:
    """Tensors side by side along an axis, in the first version 1 by default."""
    tensors = [tensor(value) for value in values]
    axis = node.get("axis", 1)
    return ops.concatenate(tensors, axis=axis_of(axis, len(tensors[0].shape)))


@operator("Split", note="the sizes are known before the model runs")
def split(node: Node, value: Value, sizes: Value = None) -> tuple[Value, ...]:
    """A tensor in parts along an axis: of given sizes, or equal but for a smaller last one."""
    value = tensor(value)
    axis = axis_of(node.get("axis", 0), len(value.shape))
    length = shape_of(value)[axis]
    if sizes is not None:
        parts = [int(size) for size in known(sizes, "the sizes").reshape(-1)]
    elif node.get("split") is not None:
        parts = [int(size) for size in node.get("split")]
    else:
        count = node.get("num_outputs", node.outputs)
        each = -(-length // count)
        parts = [max(min(each, length - each * place), 0) for place in range(count)]
    if sum(parts) != length:
        raise Unsupported(f"parts of {parts} of a dimension of {length}")
    ends = list(accumulate(parts))
    return tuple(part(value, axis, end - size, end) for end, size in zip(ends, parts, strict=True))


@operator("Slice", note="the bounds are known before the model runs")
def slice_(
    node: Node,
    value: Value,
    starts: Value = None,
    ends: Value = None,
    axes: Value = None,
    steps: Value = None,
) -> Value:
    """A range along each of some axes; a negative step goes backwards."""
    value = tensor(value)
    first = _integers(node.get("starts"), starts, "the starts") or []
    last = _integers(node.get("ends"), ends, "the ends") or []
    over = _integers(node.get("axes"), axes, "the axes") or list(range(len(first)))
    strides = _integers(None, steps, "the steps") or [1] * len(first)
    for start, end, axis, step in zip(first, last, over, strides, strict=True):
        place = axis_of(axis, len(value.shape))
        if step == 0:
            raise Unsupported("a step of 0")
        taken = range(*slice(start, end, step).indices(shape_of(value)[place]))
        if step > 0:
            value = part(value, place, taken.start, max(taken.stop, taken.start), step)
        elif len(taken) == 0:
            value = part(value, place, 0, 0)
        else:
            forward = part(value, place, taken[-1], taken[0] + 1, -step)
            value = ops.flip(forward, axis=place)
    return value


def _integers(attribute: Any, given: Value, what: str) -> list[int] | None:
    if given is not None:
        return [int(number) for number in known(given, what).reshape(-1)]
    return None if attribute is None else [int(number) for number in attribute]


@operator("Pad", note="how much is known before the model runs")
def pad(
    node: Node, value: Value, pads: Value = None, fill: Value = None, axes: Value = None
) -> Value:
    """Elements added at both ends of axes; a negative number takes some away."""
    value = tensor(value)
    rank = len(value.shape)
    attribute = node.get("pads", node.get("paddings"))
    amounts = _integers(attribute, pads, "the pads") or [0] * (2 * rank)
    over = _integers(None, axes, "the axes")
    places = [axis_of(axis, rank) for axis in (range(rank) if over is None else over)]
    widths = [(0, 0)] * rank
    for place, begin, end in zip(
        places, amounts[: len(places)], amounts[len(places) :], strict=True
    ):
        widths[place] = (begin, end)
    for place, (begin, end) in enumerate(widths):
        length = shape_of(value)[place]
        if begin < 0 or end < 0:
            value = part(value, place, max(-begin, 0), max(length + min(end, 0), 0))
    grown = [(max(begin, 0), max(end, 0)) for begin, end in widths]
    mode = node.get("mode", "constant")
    if mode == "constant":
        return _filled(value, grown, node.get("value", 0.0) if fill is None else fill)
    for place, width in enumerate(grown):
        if width != (0, 0):
            indices = np.pad(np.arange(shape_of(value)[place]), width, mode=mode)
            value = ops.take(value, indices.astype(np.int32), axis=place)
    return value


def _filled(value: Value, widths: list[tuple[int, int]], fill: Value) -> Value:
    if all(width == (0, 0) for width in widths):
        return value
    dtype, held = dtype_of(value), shape_of(value)
    if dtype == "bool":
        padded = cast(ops.pad(cast(value, "uint8"), widths), "bool")
    else:
        padded = ops.pad(value, widths)
    if isinstance(fill, float) or is_known(fill):
        number = np.asarray(fill).reshape(())
        if number == 0:
            return padded
        fill = number.astype(np.dtype(dtype))
    inside = np.pad(np.ones(held, np.bool_), widths)
    return where(inside, padded, ops.reshape(cast(fill, dtype), ()))


@operator("Tile", note="the repeats are known before the model runs")
def tile(node: Node, value: Value, repeats: Value, axis: Value = None) -> Value:
    """A tensor repeated along its axes; in the first version along one."""
    value = tensor(value)
    times = known(repeats, "the repeats").reshape(-1)
    if axis is not None:
        every = [1] * len(value.shape)
        every[int(known(axis, "the axis").reshape(()))] = int(times[0])
        return ops.tile(value, every)
    return ops.tile(value, [int(number) for number in times])


@operator("DepthToSpace")
def depth_to_space(node: Node, value: Value) -> Value:
    """Channels laid out as blocks of b × b pixels."""
    value = tensor(value)
    batch, channels, height, width = shape_of(value)
    block = node.get("blocksize")
    depth = channels // (block * block)
    if node.get("mode", "DCR") == "DCR":
        apart = ops.reshape(value, (batch, block, block, depth, height, width))
        mixed = ops.transpose(apart, (0, 3, 4, 1, 5, 2))
    else:
        apart = ops.reshape(value, (batch, depth, block, block, height, width))
        mixed = ops.transpose(apart, (0, 1, 4, 2, 5, 3))
    return ops.reshape(mixed, (batch, depth, height * block, width * block))


@operator("SpaceToDepth")
def space_to_depth(node: Node, value: Value) -> Value:
    """Blocks of b × b pixels laid out as channels."""
    value = tensor(value)
    batch, depth, height, width = shape_of(value)
    block = node.get("blocksize")
    apart = ops.reshape(value, (batch, depth, height // block, block, width // block, block))
    order = (0, 3, 5, 1, 2, 4) if node.get("mode", "DCR") == "DCR" else (0, 1, 3, 5, 2, 4)
    mixed = ops.transpose(apart, order)
    return ops.reshape(mixed, (batch, depth * block * block, height // block, width // block))


@operator("Trilu", note="the diagonal is known before the model runs")
def triangle(node: Node, value: Value, diagonal: Value = None) -> Value:
    """The upper or lower triangle of matrices, 0 elsewhere."""
    value = tensor(value)
    k = 0 if diagonal is None else int(known(diagonal, "the diagonal").reshape(()))
    ones = np.ones(shape_of(value)[-2:], np.bool_)
    mask = np.triu(ones, k) if node.get("upper", 1) else np.tril(ones, k)
    return where(mask, value, ops.zeros_like(value))


@operator("ReverseSequence")
def reverse_sequence(node: Node, value: Value, lengths: Value) -> Value:
    """The first elements of each sequence reversed, as many as it has."""
    value = tensor(value)
    rank = len(value.shape)
    batch, time = axis_of(node.get("batch_axis", 1), rank), axis_of(node.get("time_axis", 0), rank)
    rest = [axis for axis in range(rank) if axis not in (batch, time)]
    order = [batch, time, *rest]
    moved = ops.transpose(value, order)
    steps = tensor(np.arange(shape_of(moved)[1], dtype=np.int32))[None, :]
    length = cast(lengths, "int32")[:, None]
    indices = ops.where(steps < length, length - 1 - steps, steps)
    indices = ops.reshape(indices, shape_of(indices) + (1,) * len(rest))
    taken = ops.take_along_axis(moved, indices, axis=1)
    return ops.transpose(taken, [order.index(axis) for axis in range(rank)])
