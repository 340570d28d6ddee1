"""Convolutions: Conv, ConvTranspose.

The frameworks' kernels take channels last on every device; ONNX has them first. Each convolution
here is one kernel between two transpositions (of the activations; a pass over memory each, which
compilers fuse with their neighbours).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import keras
from keras import ops

from .numbers import product
from .table import Node, Value, operator
from .tensors import tensor
from .windows import Windows, elements, fit, spread, windows_of


@operator("Conv")
def conv(node: Node, x: Value, w: Value, b: Value = None) -> Value:
    """(N, C, *sizes) by (M, C / group, *kernel) and (M) → (N, M, *counts)."""
    windows = windows_of(node, x.shape[2:], w.shape[2:])
    y = convolved(tensor(x), tensor(w), windows, int(node.get("group", 1)))
    return y if b is None else y + per_channel(tensor(b), len(y.shape))


@operator("ConvTranspose")
def conv_transpose(node: Node, x: Value, w: Value, b: Value = None) -> Value:
    """(N, C, *sizes) by (C, M / group, *kernel) and (M) → (N, M, *outputs)."""
    x, w = tensor(x), tensor(w)
    rank = len(w.shape) - 2
    groups = int(node.get("group", 1))
    strides = tuple(int(s) for s in node.get("strides") or (1,) * rank)
    dilations = tuple(int(d) for d in node.get("dilations") or (1,) * rank)
    extents = [(k - 1) * d + 1 for k, d in zip(w.shape[2:], dilations, strict=True)]
    places = _places(node, tuple(x.shape[2:]), extents, strides)
    if groups == 1 and all(d == 1 for d in dilations):
        y = ops.conv_transpose(
            _channels_last(x),
            ops.transpose(w, (*range(2, rank + 2), 1, 0)),
            strides=strides,
            padding="valid",
            data_format="channels_last",
        )
        margins = [
            (-before, size - (full - before))
            for (before, size), full in zip(places, y.shape[1:-1], strict=True)
        ]
        y = _channels_first(fit(y, margins, first=1))
    else:
        y = _spread_and_convolved(x, w, groups, strides, dilations, places)
    return y if b is None else y + per_channel(tensor(b), len(y.shape))


def convolved(x: Value, w: Value, windows: Windows, groups: int) -> Value:
    """The cross-correlation of (N, C, *sizes) with (M, C / groups, *kernel)."""
    channels, rank = x.shape[1], len(windows.kernel)
    if channels != w.shape[1] * groups or w.shape[0] % groups:
        raise ValueError(f"{channels} channels in {groups} groups by a kernel {tuple(w.shape)}")
    depthwise = 1 < groups == channels and rank < 3
    if windows.strided and (windows.dilated or (depthwise and len(set(windows.strides)) > 1)):
        # Not every framework's kernel does these: all windows, of which some are kept.
        dense = replace(
            windows,
            strides=(1,) * rank,
            counts=tuple(
                (n - 1) * s + 1 for n, s in zip(windows.counts, windows.strides, strict=True)
            ),
        )
        y = convolved(x, w, dense, groups)
        return y[(slice(None), slice(None), *(slice(None, None, s) for s in windows.strides))]
    x = _channels_last(x)
    same = windows.same_as_frameworks()
    if not same:
        x = fit(x, windows.margins, first=1)
    options = {
        "strides": windows.strides,
        "padding": "same" if same else "valid",
        "data_format": "channels_last",
        "dilation_rate": windows.dilations,
    }
    if depthwise:
        multiplier = w.shape[0] // groups
        kernel = ops.reshape(w, (channels, multiplier, *w.shape[2:]))
        kernel = ops.transpose(kernel, (*range(2, rank + 2), 0, 1))
        return _channels_first(ops.depthwise_conv(x, kernel, **options))
    if _needs_own_kernel(windows, groups):
        if same:
            x = fit(x, windows.margins, first=1)
        return _channels_first(_by_places(x, w, windows, groups))
    kernel = ops.transpose(w, (*range(2, rank + 2), 1, 0))
    return _channels_first(ops.conv(x, kernel, **options))


def per_channel(values: Value, rank: int) -> Value:
    """(C) → (1, C, 1, …) of a rank."""
    return ops.reshape(values, (1, -1, *(1,) * (rank - 2)))


def _needs_own_kernel(windows: Windows, groups: int) -> bool:
    """TensorFlow has no grouped kernel on a CPU, nor a dilated one of three axes.

    `keras.ops.conv` compiles the former with XLA anew at each eager call.
    """
    if keras.config.backend() != "tensorflow":
        return False
    return groups > 1 or (len(windows.kernel) == 3 and windows.dilated)


def _by_places(x: Value, w: Value, windows: Windows, groups: int) -> Value:
    """A grouped convolution as one batched product a place of the kernel.

    x: (N, *padded, C). Returns: (N, *counts, M).
    """
    rank = len(windows.kernel)
    each, outputs = w.shape[1], w.shape[0] // groups
    batch = ops.shape(x)[0]
    x = ops.reshape(x, (batch, *x.shape[1:-1], groups, each))
    x = ops.transpose(x, (rank + 1, *range(rank + 1), rank + 2))
    w = ops.reshape(w, (groups, outputs, each, elements(windows.kernel)))
    w = ops.transpose(w, (3, 0, 2, 1))
    total = None
    for index, slices in enumerate(windows.slices()):
        place = x[(slice(None), slice(None), *slices)]
        part = product(ops.reshape(place, (groups, -1, each)), w[index])
        total = part if total is None else total + part
    y = ops.reshape(total, (groups, batch, *windows.counts, outputs))
    y = ops.transpose(y, (*range(1, rank + 2), 0, rank + 2))
    return ops.reshape(y, (batch, *windows.counts, groups * outputs))


def _places(
    node: Node, sizes: tuple[int, ...], extents: Sequence[int], strides: Sequence[int]
) -> list[tuple[int, int]]:
    """A spatial axis each: (elements cut off in front, elements kept) of the full result."""
    rank = len(sizes)
    auto = node.get("auto_pad", "NOTSET") or "NOTSET"
    wanted = node.get("output_shape")
    extra = node.get("output_padding") or (0,) * rank
    pads = node.get("pads") or (0,) * (2 * rank)
    if wanted is None and auto in ("SAME_UPPER", "SAME_LOWER"):
        wanted = [size * stride for size, stride in zip(sizes, strides, strict=True)]
    places = []
    for axis in range(rank):
        full = strides[axis] * (sizes[axis] - 1) + int(extra[axis]) + extents[axis]
        if wanted is not None:
            size = int(wanted[axis - rank])  # some writers list the batch and channels too
            total = max(full - size, 0)
            before = total // 2 if auto == "SAME_UPPER" else total - total // 2
        elif auto == "VALID":
            before, size = 0, full
        else:
            before = int(pads[axis])
            size = full - before - int(pads[axis + rank])
        if size < 1:
            raise ValueError(f"an output of {size} elements")
        places.append((before, size))
    return places


def _spread_and_convolved(
    x: Value,
    w: Value,
    groups: int,
    strides: Sequence[int],
    dilations: tuple[int, ...],
    places: Sequence[tuple[int, int]],
) -> Value:
    """A transposed convolution as a plain one, of the input with zeros between its elements."""
    rank = len(strides)
    kernel = tuple(w.shape[2:])
    x = spread(x, strides, first=2)
    w = ops.flip(w, axis=tuple(range(2, rank + 2)))
    each = w.shape[0] // groups
    w = ops.reshape(w, (groups, each, w.shape[1], *kernel))
    w = ops.transpose(w, (0, 2, 1, *range(3, rank + 3)))
    w = ops.reshape(w, (-1, each, *kernel))
    windows = Windows(
        sizes=tuple(x.shape[2:]),
        kernel=kernel,
        strides=(1,) * rank,
        dilations=dilations,
        pads=tuple(
            ((k - 1) * d - before, 0)
            for k, d, (before, _) in zip(kernel, dilations, places, strict=True)
        ),
        counts=tuple(size for _, size in places),
    )
    return convolved(x, w, windows, groups)


def _channels_last(x: Value) -> Value:
    rank = len(x.shape)
    return ops.transpose(x, (0, *range(2, rank), 1))


def _channels_first(x: Value) -> Value:
    rank = len(x.shape)
    return ops.transpose(x, (0, rank - 1, *range(1, rank - 1)))
