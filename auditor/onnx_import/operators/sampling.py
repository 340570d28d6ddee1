"""Sampling between grid points: GridSample, AffineGrid, DeformConv."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Sequence

import numpy as np
from keras import ops

from .convolution import per_channel
from .numbers import floor, product
from .table import Node, Unsupported, Value, known, operator
from .tensors import dtype_of, tensor
from .windows import elements, windows_of

#: How samples outside of a tensor are found: "zeros", "border", "reflection".
Padding = str


@operator("GridSample")
def grid_sample(node: Node, x: Value, grid: Value) -> Value:
    """(N, C, *sizes) at (N, *outputs, rank) → (N, C, *outputs).

    The grid's last axis runs from the innermost spatial axis outward, in [−1, 1]: the outermost
    pixels' centres with `align_corners`, else their far edges.
    """
    x, grid = tensor(x), tensor(grid)
    mode = {"bilinear": "linear", "bicubic": "cubic"}.get(*[str(node.get("mode"))] * 2)
    padding = str(node.get("padding_mode", "zeros"))
    corners = bool(node.get("align_corners", 0))
    sizes = tuple(x.shape[2:])
    outputs = tuple(grid.shape[1:-1])
    batch = ops.shape(x)[0]
    grid = ops.reshape(grid, (batch, elements(outputs), len(sizes)))
    coordinates = []
    for axis, size in enumerate(sizes):
        place = grid[..., len(sizes) - 1 - axis]
        place = (place + 1) / 2 * (size - 1) if corners else ((place + 1) * size - 1) / 2
        if mode == "nearest":
            place = ops.round(place)
        if padding == "border" and mode != "cubic":  # there the neighbours alone are clipped
            place = ops.clip(place, 0, size - 1)
        elif padding == "reflection":
            place = _reflected(place, size, corners)
        coordinates.append(place)
    y = sampled(x, coordinates, mode=mode, padding=padding, corners=corners)
    return ops.reshape(y, (batch, x.shape[1], *outputs))


@operator("AffineGrid", since=20)
def affine_grid(node: Node, theta: Value, size: Value) -> Value:
    """(N, rank, rank + 1) → (N, *sizes, rank): where an affine map takes each output pixel."""
    sizes = known(size, "the size of the grid").tolist()[2:]
    axes = []
    for count in sizes:
        if node.get("align_corners", 0):
            axes.append(np.linspace(-1, 1, count) if count > 1 else np.full(1, -1.0))
        else:
            axes.append((2 * np.arange(count) + 1) / count - 1)
    mesh = np.meshgrid(*axes, indexing="ij")
    points = np.stack([*reversed(mesh), np.ones(sizes)], axis=-1).reshape(-1, len(sizes) + 1)
    points = ops.convert_to_tensor(points.astype(dtype_of(theta)))
    grid = product(points, ops.swapaxes(theta, 1, 2))
    return ops.reshape(grid, (-1, *sizes, len(sizes)))


@operator("DeformConv", since=19)
def deform_conv(
    node: Node, x: Value, w: Value, offset: Value, b: Value = None, mask: Value = None
) -> Value:
    """A convolution whose taps are moved by `offset` and weighed by `mask` (Zhu et al. 2019).

    x: (N, C, *sizes). w: (M, C / group, *kernel). offset: (N, groups · taps · rank, *counts).
    mask: (N, groups · taps, *counts).
    """
    x, w, offset = tensor(x), tensor(w), tensor(offset)
    windows = windows_of(node, x.shape[2:], w.shape[2:])
    rank, taps, places = len(windows.kernel), elements(windows.kernel), elements(windows.counts)
    groups, shifting = int(node.get("group", 1)), int(node.get("offset_group", 1))
    batch, channels = ops.shape(x)[0], x.shape[1]
    each = channels // shifting
    moved = ops.reshape(offset, (batch * shifting, taps, rank, places))
    dtype = dtype_of(x)
    coordinates = []
    for axis in range(rank):
        # (kernel, counts) of this axis, broadcast over those of the others.
        shape = [1] * (2 * rank)
        shape[axis], shape[rank + axis] = windows.kernel[axis], windows.counts[axis]
        plain = windows.places(axis).T.reshape(shape)
        plain = np.broadcast_to(plain, (*windows.kernel, *windows.counts)).reshape(taps, places)
        coordinate = moved[:, :, axis] + ops.convert_to_tensor(plain.astype(dtype))
        coordinates.append(ops.reshape(coordinate, (batch * shifting, taps * places)))
    apart = ops.reshape(x, (batch * shifting, each, *windows.sizes))
    columns = ops.reshape(sampled(apart, coordinates), (batch, shifting, each, taps, places))
    if mask is not None:
        columns = columns * ops.reshape(tensor(mask), (batch, shifting, 1, taps, places))
    columns = ops.reshape(columns, (batch, groups, channels // groups * taps, places))
    kernel = ops.reshape(w, (groups, w.shape[0] // groups, -1))
    y = ops.reshape(product(kernel, columns), (batch, w.shape[0], *windows.counts))
    return y if b is None else y + per_channel(tensor(b), len(y.shape))


def sampled(
    x: Value,
    coordinates: Sequence[Value],
    *,
    mode: str = "linear",
    padding: Padding = "zeros",
    corners: bool = False,
) -> Value:
    """Interpolated values of (N, C, *sizes) at coordinates in pixels, (N, P) an axis → (N, C, P).

    mode: "nearest" (the coordinates are whole), "linear" or "cubic" (Keys 1981, a = −0.75).
    """
    weights_of = _WEIGHTS.get(mode)
    if weights_of is None:
        raise Unsupported(f"interpolation named {mode!r}")
    sizes = tuple(x.shape[2:])
    dtype = dtype_of(x)
    along = []
    for coordinate, size in zip(coordinates, sizes, strict=True):
        first = floor(coordinate)
        neighbours = []
        for step, weight in weights_of(coordinate - first):
            place = first + step
            if padding == "zeros":
                inside = ops.logical_and(
                    ops.greater_equal(place, 0), ops.less_equal(place, size - 1)
                )
                weight = ops.where(inside, weight, 0 * weight)
            elif padding == "reflection":
                place = _reflected(place, size, corners)
            index = ops.cast(ops.clip(place, 0, size - 1), "int32")
            neighbours.append((index, ops.cast(weight, dtype)))
        along.append(neighbours)
    batch, channels, points = ops.shape(x)[0], x.shape[1], coordinates[0].shape[1]
    rank = len(sizes)
    flat = ops.reshape(ops.transpose(x, (0, *range(2, rank + 2), 1)), (-1, channels))
    sample = ops.reshape(ops.arange(batch, dtype="int32"), (-1, 1))
    total = None
    for corner in itertools.product(*along):
        index, weight = sample, None
        for (place, share), size in zip(corner, sizes, strict=True):
            index = index * size + place
            weight = share if weight is None else weight * share
        values = ops.take(flat, ops.reshape(index, (-1,)), axis=0)
        part = ops.reshape(values, (-1, points, channels)) * ops.expand_dims(weight, -1)
        total = part if total is None else total + part
    return ops.transpose(total, (0, 2, 1))


def _nearest(fraction: Value) -> list[tuple[int, Value]]:
    return [(0, ops.ones_like(fraction))]


def _linear(fraction: Value) -> list[tuple[int, Value]]:
    return [(0, 1 - fraction), (1, fraction)]


def _cubic(fraction: Value) -> list[tuple[int, Value]]:
    return [(step, _keys(fraction - step, abs(step - 0.5) > 1)) for step in (-1, 0, 1, 2)]


def _keys(distance: Value, far: bool) -> Value:
    a = -0.75
    t = ops.abs(distance)
    if far:
        return ((a * t - 5 * a) * t + 8 * a) * t - 4 * a
    return ((a + 2) * t - (a + 3)) * t * t + 1


_WEIGHTS: dict[str, Callable[[Value], list[tuple[int, Value]]]] = {
    "nearest": _nearest,
    "linear": _linear,
    "cubic": _cubic,
}


def _reflected(place: Value, size: int, corners: bool) -> Value:
    """Folded back at the borders until it lies within."""
    low, span = (0.0, size - 1.0) if corners else (-0.5, float(size))
    if span == 0:
        return 0 * place
    turned = ops.mod(place - low, 2 * span)
    return span - ops.abs(span - turned) + low
