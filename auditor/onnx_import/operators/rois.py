"""Regions of interest: RoiAlign, MaxRoiPool."""

from __future__ import annotations

import math

import numpy as np
from keras import ops

from .numbers import floor, larger
from .table import Node, Value, known, operator
from .tensors import cast, dtype_of, tensor


@operator("RoiAlign", since=10)
def roi_align(node: Node, x: Value, rois: Value, samples: Value) -> Value:
    """(N, C, H, W), boxes (R, 4) as x₁ y₁ x₂ y₂, and whose they are (R) → (R, C, h, w).

    Each bin is the mean (or largest) of bilinear samples on a regular grid (He et al. 2017). A
    `sampling_ratio` of 0 takes as many as the box has pixels, which has to be known beforehand.
    """
    x = tensor(x)
    height, width = x.shape[2:]
    rows, columns = int(node.get("output_height", 1)), int(node.get("output_width", 1))
    ratio = int(node.get("sampling_ratio", 0))
    scale = float(node.get("spatial_scale", 1.0))
    half = str(node.get("coordinate_transformation_mode", "half_pixel")) == "half_pixel"
    half = half and node.since >= 16
    mode = str(node.get("mode", "avg")).lower()

    def sides(boxes: Value, first: int) -> tuple[Value, Value]:
        start = boxes[:, first] * scale - (0.5 if half else 0.0)
        size = boxes[:, first + 2] * scale - (0.5 if half else 0.0) - start
        return start, size

    counts = None
    most: tuple[int, ...] = (ratio, ratio)
    if not ratio:
        fixed = np.asarray(known(rois, "the number of samples of a region"), np.float64)
        sizes = [sides(fixed, first)[1] for first in (1, 0)]
        sizes = sizes if half else [np.maximum(size, 1.0) for size in sizes]
        counts = [
            np.maximum(np.ceil(size / bins), 0).astype(int)
            for size, bins in zip(sizes, (rows, columns), strict=True)
        ]
        most = tuple(max(int(count.max(initial=1)), 1) for count in counts)
    boxes = cast(rois, dtype_of(x))
    axes = []
    for axis, (first, bins, limit) in enumerate(((1, rows, height), (0, columns, width))):
        start, size = sides(boxes, first)
        if not half:
            size = larger(size, ops.ones_like(size))
        axes.append(
            _samples(
                start,
                size / bins,
                bins,
                most[axis],
                None if counts is None else counts[axis],
                limit,
            )
        )
    images = ops.take(x, ops.cast(tensor(samples), "int32"), axis=0)
    if mode == "max":
        y = _weighed_samples(images, axes[0], axes[1])
        y = ops.reshape(y, (-1, x.shape[1], rows, most[0], columns, most[1]))
        if counts is not None:
            used = [np.arange(n) < count[:, None] for n, count in zip(most, counts, strict=True)]
            both = used[0][:, None, None, :, None, None] & used[1][:, None, None, None, None, :]
            y = ops.where(ops.convert_to_tensor(both), y, ops.cast(-math.inf, dtype_of(x)))
        y = ops.max(y, axis=(3, 5))
        return ops.where(ops.isfinite(y), y, ops.zeros_like(y))
    share = 1.0 / (most[0] * most[1])
    if counts is not None:
        share = cast(1.0 / np.maximum(counts[0] * counts[1], 1), dtype_of(x))
        share = ops.reshape(share, (-1, 1, 1, 1))
    vertical = _bin_weights(axes[0], rows, most[0], height)
    horizontal = _bin_weights(axes[1], columns, most[1], width)
    y = ops.einsum("rih,rchw->rciw", vertical, images)
    return ops.einsum("rciw,rjw->rcij", y, horizontal) * share


@operator("MaxRoiPool")
def max_roi_pool(node: Node, x: Value, rois: Value) -> Value:
    """(N, C, H, W) and (R, 5) as sample x₁ y₁ x₂ y₂ → (R, C, h, w); an empty bin is 0.

    Boxes are rounded to whole pixels, bins overlap (Girshick 2015).
    """
    x, rois = tensor(x), tensor(rois)
    scale = float(node.get("spatial_scale", 1.0))
    images = ops.take(x, ops.cast(rois[:, 0], "int32"), axis=0)
    shape = [int(bins) for bins in node.get("pooled_shape")]
    masks = []
    for bins, limit, first in ((shape[0], x.shape[2], 2), (shape[1], x.shape[3], 1)):
        start = _rounded(rois[:, first] * scale)
        size = _rounded(rois[:, first + 2] * scale) - start + 1
        size = larger(size, ops.ones_like(size))
        bin_size = ops.expand_dims(size / bins, 1)
        places = ops.cast(ops.arange(bins), dtype_of(rois))
        start = ops.expand_dims(start, 1)
        low = ops.expand_dims(ops.clip(ops.floor(places * bin_size) + start, 0, limit), -1)
        high = ops.clip(ops.ceil((places + 1) * bin_size) + start, 0, limit)
        pixels = ops.cast(ops.arange(limit), dtype_of(rois))
        masks.append(
            ops.logical_and(
                ops.greater_equal(pixels, low), ops.less(pixels, ops.expand_dims(high, -1))
            )
        )
    nothing = ops.cast(-math.inf, dtype_of(x))
    rows = [
        ops.max(ops.where(masks[0][:, None, place, :, None], images, nothing), axis=2)
        for place in range(shape[0])
    ]
    y = ops.stack(rows, axis=2)
    columns = [
        ops.max(ops.where(masks[1][:, None, None, place, :], y, nothing), axis=3)
        for place in range(shape[1])
    ]
    y = ops.stack(columns, axis=3)
    return ops.where(ops.isfinite(y), y, ops.zeros_like(y))


def _rounded(x: Value) -> Value:
    """The nearest whole number, of two the one farther from 0, as C has it."""
    return ops.sign(x) * ops.floor(ops.abs(x) + 0.5)


def _samples(
    start: Value, step: Value, bins: int, most: int, counts: Value, limit: int
) -> list[tuple[Value, Value]]:
    """The two pixels beside each sample of one axis: [(index, weight)] × 2, (R, bins · most)."""
    dtype = dtype_of(start)
    places = np.arange(most) + 0.5
    if counts is None:
        within = np.broadcast_to(places / most, (1, most))
        used = np.ones((1, most), bool)
    else:
        within = places / np.maximum(counts[:, None], 1)
        used = np.arange(most) < counts[:, None]
    within = ops.expand_dims(cast(within, dtype), 1)
    bins_along = ops.reshape(ops.cast(ops.arange(bins), dtype), (1, -1, 1))
    at = ops.reshape(start, (-1, 1, 1)) + (bins_along + within) * ops.reshape(step, (-1, 1, 1))
    outside = ops.logical_or(ops.less(at, -1.0), ops.greater(at, float(limit)))
    valid = ops.logical_and(
        ops.logical_not(outside), ops.convert_to_tensor(np.expand_dims(used, 1))
    )
    at = ops.clip(at, 0.0, limit - 1.0)
    low = floor(at)
    share = at - low
    shape = (-1, bins * most)
    index = ops.cast(ops.reshape(low, shape), "int32")
    pairs = []
    for place, weight in ((index, 1 - share), (ops.clip(index + 1, 0, limit - 1), share)):
        weight = ops.where(valid, weight, ops.zeros_like(weight))
        pairs.append((place, ops.reshape(weight, shape)))
    return pairs


def _bin_weights(pairs: list[tuple[Value, Value]], bins: int, most: int, limit: int) -> Value:
    """(R, bins, limit): what each pixel of an axis adds to a bin's sum."""
    total = sum(
        ops.one_hot(index, limit, dtype=dtype_of(weight)) * ops.expand_dims(weight, -1)
        for index, weight in pairs
    )
    return ops.sum(ops.reshape(total, (-1, bins, most, limit)), axis=2)


def _weighed_samples(
    images: Value, vertical: list[tuple[Value, Value]], horizontal: list[tuple[Value, Value]]
) -> Value:
    """(R, C, rows, columns): the largest of the four weighed corners of each sample.

    Of a "max" that is what onnxruntime and the operator's own tests take, not their sum.
    """
    y = None
    for row, row_weight in vertical:
        for column, column_weight in horizontal:
            part = ops.take_along_axis(images, row[:, None, :, None], axis=2)
            part = ops.take_along_axis(part, column[:, None, None, :], axis=3)
            part = part * row_weight[:, None, :, None] * column_weight[:, None, None, :]
            y = part if y is None else larger(y, part)
    return y
