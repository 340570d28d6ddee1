"""Indices as ONNX counts them: from the end where negative, into several dimensions at once."""

from __future__ import annotations

import math

import numpy as np
from keras import ops

from .table import Value, is_known
from .tensors import cast, dtype_of, shape_of, tensor


def part(value: Value, axis: int, start: int, stop: int, step: int = 1) -> Value:
    """Every `step`-th slice along an axis, from `start` to before `stop`."""
    places = [slice(None)] * len(value.shape)
    places[axis] = slice(start, stop, step)
    return value[tuple(places)]


def wrapped(indices: Value, size: int) -> Value:
    """Indices into one dimension, counted from the front: known ones stay known."""
    if is_known(indices):
        return np.where(indices < 0, indices + size, indices)
    return ops.where(indices < 0, indices + size, indices)


def flat(indices: Value, sizes: tuple[int, ...]) -> Value:
    """Indices (…, k) into k dimensions as indices (…) into these dimensions laid in a row."""
    if not sizes:
        return np.zeros(shape_of(indices)[:-1], np.int32)
    place = wrapped(indices[..., 0], sizes[0])
    for number, size in enumerate(sizes[1:], start=1):
        place = place * size + wrapped(indices[..., number], size)
    return place


def gather_nd(value: Value, indices: Value, batch: int = 0) -> Value:
    """Slices of (*b, *d, …) at indices (*b, …, k) into the k dimensions d after the batch's.

    Returns (*b, *indices.shape[batch:-1], …).
    """
    value = tensor(value)
    if not is_known(indices):
        indices = tensor(indices)
    held, shape = shape_of(value), shape_of(indices)
    deep = shape[-1]
    into, rest = held[batch : batch + deep], held[batch + deep :]
    rows, row = math.prod(held[:batch]), math.prod(into)
    place = flat(indices, into)
    if batch:
        offset = (np.arange(rows) * row).reshape(held[:batch] + (1,) * (len(shape) - 1 - batch))
        if is_known(place):
            place = place + offset
        else:
            place = place + cast(offset, dtype_of(place))
    taken = ops.take(ops.reshape(value, (rows * row, *rest)), narrow(place), axis=0)
    return ops.reshape(taken, shape[:-1] + rest)


def narrow(indices: Value) -> Value:
    """Known indices as int32, which every backend has."""
    return indices.astype(np.int32) if is_known(indices) else indices
