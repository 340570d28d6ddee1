"""Elements put in place by their indices."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np
from keras import ops

from .indexing import flat, gather_nd, narrow
from .selection import greatest, least, where
from .table import Node, Unsupported, Value, is_known, operator
from .tensors import axis_of, cast, dtype_of, shape_of, tensor

#: Reductions that a scatter makes one update after another, so that each backend differentiates
#: them: (held, update) → the new element.
STEPWISE: dict[str, Callable[[Value, Value], Value]] = {
    "mul": lambda held, update: held * update,
    "max": greatest,
    "min": least,
}
#: Most rounds that a stepwise reduction takes.
ROUNDS = 1024


@operator("ScatterND")
def scatter_slices(node: Node, value: Value, indices: Value, updates: Value) -> Value:
    """Slices put at indices into several dimensions."""
    value, updates = tensor(value), tensor(updates)
    held = shape_of(value)
    if not is_known(indices):
        indices = tensor(indices)
    deep = shape_of(indices)[-1]
    into, rest = held[:deep], held[deep:]
    rows = ops.reshape(value, (math.prod(into), *rest))
    places = _row(flat(indices, into))
    updates = ops.reshape(updates, (shape_of(places)[0], *rest))
    reduction = node.get("reduction", "none")
    return ops.reshape(_scattered(rows, places, updates, reduction), held)


@operator("ScatterElements", "Scatter")
def scatter_elements(node: Node, value: Value, indices: Value, updates: Value) -> Value:
    """Elements put at the index's own place in all dimensions but one."""
    value, updates = tensor(value), tensor(updates)
    held = shape_of(value)
    axis = axis_of(node.get("axis", 0), len(held))
    shape = shape_of(indices)
    grid = np.indices(shape, np.int64)
    strides = [math.prod(held[place + 1 :]) for place in range(len(held))]
    others = sum(grid[place] * strides[place] for place in range(len(held)) if place != axis)
    along = flat(
        indices[..., None] if is_known(indices) else tensor(indices)[..., None], (held[axis],)
    )
    if is_known(along):
        places = along * strides[axis] + others
    else:
        places = along * strides[axis] + cast(np.asarray(others), dtype_of(along))
    elements = _scattered(
        ops.reshape(value, (-1,)),
        _row(places),
        ops.reshape(updates, (-1,)),
        node.get("reduction", "none"),
    )
    return ops.reshape(elements, held)


def _row(indices: Value) -> Value:
    return indices.reshape(-1) if is_known(indices) else ops.reshape(indices, (-1,))


def _scattered(rows: Value, places: Value, updates: Value, reduction: str) -> Value:
    """Updates (n, …) put into rows (m, …) at places (n,)."""
    count = shape_of(places)[0]
    if count == 0:
        return rows
    if reduction in ("none", "add"):
        return ops.scatter_update(
            rows, _column(places), updates, reduction=None if reduction == "none" else "add"
        )
    if reduction not in STEPWISE:
        raise Unsupported(f"a scatter with reduction {reduction!r}")
    combine = STEPWISE[reduction]
    for chosen in _rounds(places):
        here = places[chosen] if is_known(places) else ops.take(places, chosen, axis=0)
        held = ops.take(rows, narrow(here), axis=0)
        update = ops.take(updates, chosen, axis=0)
        rows = ops.scatter_update(rows, _column(here), combine(held, update))
    return rows


def _rounds(places: Value) -> list[np.ndarray[Any, Any]]:
    """Numbers of updates in rounds that write to no place twice.

    Where the places are not known, each update is a round of its own. Raises `Unsupported` where
    there are too many.
    """
    count = shape_of(places)[0]
    if is_known(places):
        order = np.argsort(places, kind="stable")
        ranked = places[order]
        first = np.flatnonzero(np.r_[True, ranked[1:] != ranked[:-1]])
        rank = np.arange(count) - np.repeat(first, np.diff(np.r_[first, count]))
        number = int(rank.max()) + 1
    else:
        order = rank = np.arange(count)
        number = count
    if number > ROUNDS:
        raise Unsupported(f"a scatter of {number} updates one after another")
    return [order[rank == place].astype(np.int32) for place in range(number)]


def _column(places: Value) -> Value:
    if is_known(places):
        return tensor(narrow(places)[:, None])
    return ops.reshape(places, (-1, 1))


@operator("TensorScatter")
def update_cache(node: Node, cache: Value, update: Value, places: Value = None) -> Value:
    """A stretch of each sequence of a batch overwritten from an index on; circular or not."""
    cache, update = tensor(cache), tensor(update)
    held, rank = shape_of(cache), len(cache.shape)
    axis = axis_of(node.get("axis", -2), rank)
    length, new = held[axis], shape_of(update)[axis]
    start = cast(np.zeros(held[0], np.int32) if places is None else places, "int32")[:, None]
    offset = tensor(np.arange(length, dtype=np.int32))[None] - start
    if node.get("mode", "linear") == "circular":
        offset = offset % length
    inside = ops.logical_and(offset >= 0, offset < new)
    offset = ops.where(inside, offset, ops.zeros_like(offset))
    order = [0, axis, *(place for place in range(1, rank) if place != axis)]
    moved = gather_nd(ops.transpose(update, order), offset[..., None], batch=1)
    back = [order.index(place) for place in range(rank)]
    mask = ops.reshape(inside, shape_of(inside) + (1,) * (rank - 2))
    return where(ops.transpose(mask, back), ops.transpose(moved, back), cache)
