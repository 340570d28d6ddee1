"""Shapes of operators that rearrange, cut, join, repeat or pick elements (ONNX Operators.md)."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

from auditor.formats.onnx_dimensions import (
    Case,
    Shapes,
    broadcast,
    by_operator,
    dims_of,
    plus,
    replaced,
)
from auditor.formats.onnx_folding import slices
from auditor.formats.onnx_symbols import Dim, product, quotient
from auditor.graph.layer_graph import Shape


def _reshape(case: Case) -> Shape | None:
    data = case.shape()
    target = case.value(1)
    if target is None and not case.given(1):
        attribute = case.node.integers("shape")
        target = None if attribute is None else list(attribute)
    if target is None:
        length = case.shape(1)
        rank = length[0] if length and isinstance(length[0], int) else None
        return (None,) * rank if rank is not None and rank <= 32 else None
    dims: list[Any] = list(target)
    if not case.node.integer("allowzero", 0):
        for axis, dim in enumerate(dims):
            if dim == 0:
                dims[axis] = data[axis] if data is not None else None
    if -1 in dims:
        rest = [dim for dim in dims if dim != -1]
        dims[dims.index(-1)] = None if data is None else quotient(data, rest)
    return dims_of(dims)


def _flatten(case: Case) -> Shape | None:
    data = case.shape()
    if data is None:
        return None, None
    axis = case.node.integer("axis", 1)
    axis = axis + len(data) if axis < 0 else axis
    return product(data[:axis]), product(data[axis:])


def _transpose(case: Case) -> Shape | None:
    data = case.shape()
    if data is None:
        return None
    perm = case.node.integers("perm") or tuple(reversed(range(len(data))))
    return tuple(data[axis] for axis in perm)


def _axes(case: Case) -> list[int] | None:
    given = case.node.integers("axes")
    axes = list(given) if given is not None else case.value(1)
    return None if axes is None or not all(isinstance(axis, int) for axis in axes) else axes


def _squeeze(case: Case) -> Shape | None:
    data, axes = case.shape(), _axes(case)
    if data is None or (axes is None and case.given(1)):
        return None
    if axes is None:
        return tuple(d for d in data if d != 1) if all(isinstance(d, int) for d in data) else None
    gone = {axis % len(data) for axis in axes}
    return tuple(dim for axis, dim in enumerate(data) if axis not in gone)


def _unsqueeze(case: Case) -> Shape | None:
    data, axes = case.shape(), _axes(case)
    if data is None or axes is None:
        return None
    rank = len(data) + len(axes)
    new = {axis % rank for axis in axes}
    if len(new) != len(axes):
        return None
    rest = iter(data)
    return tuple(1 if axis in new else next(rest) for axis in range(rank))


def _concat(case: Case) -> Shape | None:
    shapes = [shape for shape in case.shapes if shape is not None]
    if not shapes or len(shapes) != len(case.shapes):
        return None
    axis = case.node.integer("axis", 1) % len(shapes[0])
    return tuple(
        plus([shape[i] for shape in shapes]) if i == axis else _common_known(shapes, i)
        for i in range(len(shapes[0]))
    )


def _common_known(shapes: Sequence[Shape], axis: int) -> Dim:
    dims = [shape[axis] for shape in shapes]
    return next((dim for dim in dims if isinstance(dim, int)), dims[0])


def _split(case: Case) -> Shapes:
    data = case.shape()
    count = len(case.node.outputs)
    if data is None:
        return [None] * count
    axis = case.node.integer("axis", 0)
    whole = data[axis]
    sizes: Sequence[Any] | None = case.node.integers("split") or case.value(1)
    if sizes is None:
        even = -(-whole // count) if isinstance(whole, int) and not case.given(1) else None
        sizes = [even] * count
        if even is not None and isinstance(whole, int):
            sizes = [*sizes[:-1], whole - even * (count - 1)]
    return [replaced(data, {axis: dim}) for dim in dims_of(sizes)]


def _slice(case: Case) -> Shape | None:
    data = case.shape()
    if data is None:
        return None
    bounds = slices(case.node, case.values)
    if bounds is None:
        return (None,) * len(data)
    changes: dict[int, Dim] = {}
    for axis, start, end, step in bounds:
        dim = data[axis]
        if isinstance(dim, int):
            stop = None if step < 0 and end < -dim else end
            changes[axis] = len(range(*slice(start, stop, step).indices(dim)))
        else:
            whole = start == 0 and end >= 2**31 - 1 and step == 1
            changes[axis] = dim if whole else None
    return replaced(data, changes)


def _gather(case: Case) -> Shape | None:
    data, indices = case.shape(0), case.shape(1)
    if data is None or indices is None:
        return None
    axis = case.node.integer("axis", 0) % len(data)
    return (*data[:axis], *indices, *data[axis + 1 :])


def _gather_nd(case: Case) -> Shape | None:
    data, indices = case.shape(0), case.shape(1)
    batch = case.node.integer("batch_dims", 0)
    if data is None or not indices or not isinstance(indices[-1], int):
        return None
    return (*indices[:-1], *data[batch + indices[-1] :])


def _shape_of_second(case: Case) -> Shape | None:
    return case.shape(1)


def _expand(case: Case) -> Shape | None:
    data, target = case.shape(), case.value(1)
    if data is None or target is None:
        return None
    return broadcast(data, dims_of(target))


def _tile(case: Case) -> Shape | None:
    data, repeats = case.shape(), case.value(1)
    if data is None:
        return None
    if repeats is None:
        return (None,) * len(data)
    return tuple(product(pair) for pair in zip(data, repeats, strict=True))


def _pad(case: Case) -> Shape | None:
    data = case.shape()
    node = case.node  # the attribute's name was another in opset 1
    pads: Sequence[Any] | None = node.integers("pads") or node.integers("paddings") or case.value(1)
    if data is None:
        return None
    axes = case.value(3) if case.given(3) else list(range(len(data)))
    if pads is None or axes is None:
        return (None,) * len(data)
    half = len(pads) // 2
    changes: dict[int, Dim] = {}
    for axis, before, after in zip(axes, pads[:half], pads[half:], strict=True):
        dim = data[axis]
        known = isinstance(before, int) and isinstance(after, int)
        total = before + after if known else None
        changes[axis] = dim if total == 0 else plus([dim, total])
    return replaced(data, changes)


def _depth_to_space(case: Case) -> Shape | None:
    data, block = case.shape(), case.node.integer("blocksize", 0)
    if data is None or len(data) != 4 or block <= 0:
        return None
    batch, channels, *sides = data
    if case.node.op_type == "SpaceToDepth":
        return (batch, product((channels, block * block)), *(_over(s, block) for s in sides))
    return (batch, _over(channels, block * block), *(product((s, block)) for s in sides))


def _over(dim: Dim, divisor: int) -> Dim:
    return dim // divisor if isinstance(dim, int) else None


def _one_hot(case: Case) -> Shape | None:
    data, depth = case.shape(), case.value(1)
    if data is None:
        return None
    axis = case.node.integer("axis", -1)
    at = axis if axis >= 0 else axis + len(data) + 1
    size = int(depth[0]) if depth and isinstance(depth[0], (int, float)) else None
    return (*data[:at], size, *data[at:])


def _constant_of_shape(case: Case) -> Shape | None:
    target, length = case.value(0), case.shape(0)
    if target is not None:
        return dims_of(target)
    known = length and isinstance(length[0], int) and length[0] <= 32
    return (None,) * length[0] if known and length and isinstance(length[0], int) else None


def _range(case: Case) -> Shape | None:
    bounds = [case.value(position) for position in range(3)]
    numbers = [b[0] for b in bounds if b and isinstance(b[0], (int, float))]
    if len(numbers) < 3:
        whole = bounds[1] if bounds[0] == [0] and bounds[2] == [1] else None
        return dims_of(whole) if whole else (None,)
    start, limit, delta = numbers
    return (max(math.ceil((limit - start) / delta), 0),)


def _shape(case: Case) -> Shape | None:
    data = case.shape()
    if data is None:
        return (None,)
    start, end = case.node.integer("start", 0), case.node.integer("end", len(data))
    return (len(data[start:end]),)


def _scalar(_: Case) -> Shape | None:
    return ()


def _non_zero(case: Case) -> Shape | None:
    data = case.shape()
    return (None if data is None else len(data), None)


def _grid_sample(case: Case) -> Shape | None:
    data, grid = case.shape(0), case.shape(1)
    return None if data is None or grid is None else (*data[:2], *grid[1:-1])


def _declared_shape(case: Case) -> Shape | None:
    return case.node.integers("shape")


def _flatten_unique(_: Case) -> Shapes:
    return [None, (None,), (None,), (None,)]


def _nothing_but_first(case: Case) -> Shapes:
    return [case.shape()]


RULES = by_operator(
    {
        _nothing_but_first: "BatchNormalization LayerNormalization",
        _reshape: "Reshape",
        _flatten: "Flatten",
        _transpose: "Transpose",
        _squeeze: "Squeeze",
        _unsqueeze: "Unsqueeze",
        _concat: "Concat",
        _split: "Split",
        _slice: "Slice",
        _gather: "Gather",
        _gather_nd: "GatherND",
        _shape_of_second: "GatherElements",
        _expand: "Expand",
        _tile: "Tile",
        _pad: "Pad",
        _depth_to_space: "DepthToSpace SpaceToDepth",
        _one_hot: "OneHot",
        _constant_of_shape: "ConstantOfShape",
        _range: "Range",
        _shape: "Shape",
        _scalar: "Size",
        _non_zero: "NonZero",
        _grid_sample: "GridSample",
        _declared_shape: "RandomNormal RandomUniform",
        _flatten_unique: "Unique",
    }
)
