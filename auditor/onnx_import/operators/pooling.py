"""Poolings over windows and over whole feature maps, and MaxUnpool."""

from __future__ import annotations

import numpy as np
from keras import ops

from .numbers import larger, mean, power
from .table import Node, Unsupported, Value, known, operator
from .tensors import dtype_of, is_float, tensor
from .windows import Windows, covered, elements, fit, windows_of


@operator("MaxPool")
def max_pool(node: Node, x: Value) -> Value:
    """(N, C, *sizes) → (N, C, *counts) and, where asked for, int64 indices into the flat x."""
    windows = _windows(node, x)
    y = _largest(x, windows)
    if node.outputs < 2:
        return y
    return y, _indices(x, windows, column_major=bool(node.get("storage_order", 0)))


@operator("AveragePool")
def average_pool(node: Node, x: Value) -> Value:
    """(N, C, *sizes) → (N, C, *counts); padding counts where `count_include_pad` is set."""
    windows = _windows(node, x)
    return _averages(x, windows, with_pads=bool(node.get("count_include_pad", 0)))


@operator("LpPool")
def lp_pool(node: Node, x: Value) -> Value:
    """(N, C, *sizes) → (Σ |x|^p)^(1/p) over each window."""
    windows = _windows(node, x)
    p = float(node.get("p", 2))
    sums = _averages(_magnitude(x, p), windows, with_pads=True, partial=True)
    return power(sums * float(elements(windows.kernel)), 1 / p)


@operator("GlobalAveragePool")
def global_average_pool(node: Node, x: Value) -> Value:
    """(N, C, *sizes) → (N, C, 1, …)."""
    return mean(x, _spatial(x))


@operator("GlobalMaxPool")
def global_max_pool(node: Node, x: Value) -> Value:
    """(N, C, *sizes) → (N, C, 1, …)."""
    return ops.max(x, axis=_spatial(x), keepdims=True)


@operator("GlobalLpPool")
def global_lp_pool(node: Node, x: Value) -> Value:
    """(N, C, *sizes) → (N, C, 1, …)."""
    p = float(node.get("p", 2))
    return power(ops.sum(_magnitude(x, p), axis=_spatial(x), keepdims=True), 1 / p)


@operator("MaxUnpool")
def max_unpool(node: Node, x: Value, indices: Value, output_shape: Value = None) -> Value:
    """(N, C, *counts) and where each came from → (N, C, *sizes), zero elsewhere.

    indices: into the flat tensor that the kernel, strides and pads alone imply; a larger
    `output_shape` has zeros behind it.
    """
    rank = len(x.shape) - 2
    kernel = node.get("kernel_shape")
    strides = node.get("strides") or (1,) * rank
    pads = node.get("pads") or (0,) * (2 * rank)
    implied = [
        (x.shape[axis + 2] - 1) * strides[axis] - pads[axis] - pads[axis + rank] + kernel[axis]
        for axis in range(rank)
    ]
    shape = (*x.shape[:2], *map(int, implied))
    flat = ops.zeros((elements(shape),), dtype_of(x))
    places = ops.reshape(ops.cast(tensor(indices), "int32"), (-1, 1))
    # Overlapping windows hold one element several times: it is set, not added.
    y = ops.reshape(ops.scatter_update(flat, places, ops.reshape(x, (-1,))), shape)
    if output_shape is None:
        return y
    wanted = known(output_shape, "the output's shape").tolist()
    margins = [(0, want - have) for want, have in zip(wanted, shape, strict=True)]
    return fit(y, margins, first=0)


def _windows(node: Node, x: Value) -> Windows:
    kernel = node.get("kernel_shape")
    return windows_of(node, x.shape[2:], kernel, ceil=bool(node.get("ceil_mode", 0)))


def _spatial(x: Value) -> tuple[int, ...]:
    return tuple(range(2, len(x.shape)))


def _magnitude(x: Value, p: float) -> Value:
    return ops.square(x) if p == 2 else power(ops.abs(x), p)


def _has_kernel(x: Value, windows: Windows) -> bool:
    # TensorFlow's poolings of three axes take no float64.
    return (
        is_float(dtype_of(x))
        and not windows.dilated
        and len(windows.kernel) <= (2 if dtype_of(x) == "float64" else 3)
    )


def _largest(x: Value, windows: Windows) -> Value:
    lowest = -np.inf if is_float(dtype_of(x)) else int(np.iinfo(dtype_of(x)).min)
    if not _has_kernel(x, windows):
        parts = covered(x, windows, fill=lowest)
        y = next(parts)
        for part in parts:
            y = larger(y, part)
        return y
    same = windows.same_as_frameworks()
    return ops.max_pool(
        x if same else fit(x, windows.margins, first=2, fill=lowest),
        windows.kernel,
        strides=windows.strides,
        padding="same" if same else "valid",
        data_format="channels_first",
    )


def _averages(x: Value, windows: Windows, *, with_pads: bool, partial: bool = False) -> Value:
    """Means over windows.

    with_pads: declared padding counts as elements; partial: the mean is over the whole kernel,
    even where the last window hangs over the padding.
    """
    size = elements(windows.kernel)
    counted = windows.inside(with_declared_pads=with_pads)
    share = np.full_like(counted, size) if partial else np.maximum(counted, 1)
    if _has_kernel(x, windows):
        y = ops.average_pool(
            fit(x, windows.margins, first=2),
            windows.kernel,
            strides=windows.strides,
            padding="valid",
            data_format="channels_first",
        )
    else:
        y = sum(covered(x, windows)) / size
    if (share == size).all():
        return y
    return y * ops.cast(ops.convert_to_tensor(size / share), dtype_of(x))


def _indices(x: Value, windows: Windows, *, column_major: bool) -> Value:
    lowest = -np.inf if is_float(dtype_of(x)) else int(np.iinfo(dtype_of(x)).min)
    rank = len(windows.kernel)
    largest = ops.argmax(ops.stack(list(covered(x, windows, fill=lowest)), axis=0), axis=0)
    largest = ops.cast(largest, "int64")
    plane = elements(windows.sizes)
    if any(not isinstance(size, int) for size in x.shape[:2]):
        raise Unsupported("indices of a batch of unknown size")
    flat = ops.reshape(
        ops.arange(x.shape[0] * x.shape[1], dtype="int64") * plane,
        (x.shape[0], x.shape[1], *(1,) * rank),
    )
    inner = 1
    for axis in reversed(range(rank)):
        within = ops.mod(ops.floor_divide(largest, inner), windows.kernel[axis])
        starts = windows.places(axis)[:, 0].reshape(-1, *(1,) * (rank - 1 - axis))
        place = within * windows.dilations[axis] + ops.convert_to_tensor(starts, "int64")
        sizes = windows.sizes[:axis] if column_major else windows.sizes[axis + 1 :]
        flat = flat + place * elements(sizes)
        inner *= windows.kernel[axis]
    return flat
