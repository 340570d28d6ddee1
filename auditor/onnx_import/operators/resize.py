"""Resize and Upsample: one small matrix an axis, because interpolation is separable."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from keras import ops

from .numbers import at_least_single, product
from .table import Node, Unsupported, Value, known, operator
from .tensors import cast, dtype_of, is_float, tensor

Array = np.ndarray[Any, np.dtype[Any]]


@dataclass(frozen=True, kw_only=True)
class Axis:
    """How one axis is resized. scale: output / input; roi: start and end of tf_crop_and_resize."""

    axis: int
    size: int
    output: int
    scale: float
    roi: tuple[float, float]


@operator("Upsample")
def upsample(node: Node, x: Value, scales: Value = None) -> Value:
    """Scaled up: version 1 says by how much in height_scale and width_scale, 7 in scales."""
    if node.since < 7:
        factors: Any = [1.0, 1.0, node.get("height_scale"), node.get("width_scale")]
    elif node.since < 9:
        factors = node.get("scales")
    else:
        factors = known(scales, "the scale")
    mode = str(node.get("mode", "nearest"))
    mode = {"bilinear": "linear"}.get(mode, mode)
    for axis in _axes(x, range(len(x.shape)), factors, None, "stretch", None):
        x = _resized(x, axis, mode, "asymmetric", "floor")
    return x


@operator("Resize", since=10)
def resize_10(node: Node, x: Value, scales: Value) -> Value:
    """Version 10: coordinates are index / scale; nearest rounds up where an axis shrinks.

    The rounding is that of the operator's own tests, and of onnxruntime.
    """
    x = tensor(x)
    factors = known(scales, "the scale")
    for axis in _axes(x, range(len(x.shape)), factors, None, "stretch", None):
        rounding = "ceil" if axis.scale < 1 else "floor"
        x = _resized(x, axis, str(node.get("mode")), "asymmetric", rounding)
    return x


@operator("Resize", since=11)
def resize(
    node: Node, x: Value, roi: Value = None, scales: Value = None, sizes: Value = None
) -> Value:
    """Resized to `sizes` or by `scales`, along `axes` (all)."""
    rank = len(x.shape)
    axes = [int(axis) % rank for axis in node.get("axes") or range(rank)]
    mode = str(node.get("mode", "nearest"))
    transformation = str(node.get("coordinate_transformation_mode", "half_pixel"))
    factors = _given(scales, "the scale")
    wanted = _given(sizes, "the size")
    if (factors is None) == (wanted is None):
        raise Unsupported("not exactly one of scales and sizes")
    window = None
    if transformation == "tf_crop_and_resize":
        window = _given(roi, "the region")
        if window is None:
            raise Unsupported("tf_crop_and_resize without a region")
    policy = str(node.get("keep_aspect_ratio_policy", "stretch"))
    for axis in _axes(x, axes, factors, wanted, policy, window):
        x = _resized(
            x,
            axis,
            mode,
            transformation,
            str(node.get("nearest_mode", "round_prefer_floor")),
            a=float(node.get("cubic_coeff_a", -0.75)),
            antialias=bool(node.get("antialias", 0)),
            exclude=bool(node.get("exclude_outside", 0)),
            extrapolation=float(node.get("extrapolation_value", 0.0)),
        )
    return x


def coordinates(axis: Axis, transformation: str, number: type[np.floating[Any]]) -> Array:
    """(output): where each output element lies on the input's axis, computed in a float type."""
    at: Array = np.arange(axis.output, dtype=number)
    size, scale = number(axis.size), number(axis.scale)
    exact = scale * size
    middle: Array = (at + 0.5) / scale - 0.5
    if transformation == "half_pixel":
        return middle
    if transformation == "pytorch_half_pixel":
        return middle if exact != 1 else np.full_like(at, -0.5)
    if transformation == "half_pixel_symmetric":
        # In this order, for the same rounding.
        at = size / 2 * (1 - number(axis.output) / exact) + (at + 0.5) / scale - 0.5
    elif transformation == "asymmetric":
        at = at / scale
    elif transformation == "align_corners":
        at = at * (size - 1) / (exact - 1) if exact != 1 else 0 * at
    elif transformation == "tf_crop_and_resize":
        start, end = (number(edge) for edge in axis.roi)
        if exact != 1:
            at = at * (end - start) * (size - 1) / (exact - 1)
        else:
            at = np.full_like(at, (end - start) * (size - 1) / 2)
        at = at + start * (size - 1)
    else:
        raise Unsupported(f"a coordinate transformation named {transformation!r}")
    return at


def nearest_places(at: Array, rounding: str, size: int) -> Array:
    """(output): the input element of each output element."""
    if rounding == "floor":
        place: Array = np.floor(at)
    elif rounding == "ceil":
        place = np.ceil(at)
    elif rounding == "round_prefer_floor":
        place = np.ceil(at - 0.5)
    elif rounding == "round_prefer_ceil":
        place = np.floor(at + 0.5)
    else:
        raise Unsupported(f"a nearest_mode named {rounding!r}")
    return np.asarray(np.clip(place, 0, size - 1), np.int64)


def weights(at: Array, axis: Axis, mode: str, *, a: float, antialias: bool, exclude: bool) -> Array:
    """(output, size): what each input element adds to each output element.

    The kernel is a triangle, or Keys' cubic (1981) with the coefficient a; `antialias` widens it
    by the factor of shrinking. What lies outside counts for the border, or with `exclude` not.
    """
    if mode not in ("linear", "cubic"):
        raise Unsupported(f"interpolation named {mode!r}")
    narrowing = min(axis.scale, 1.0) if antialias else 1.0
    reach = math.ceil((1 if mode == "linear" else 2) / narrowing)
    steps = np.arange(-reach, reach + 1)
    places = np.floor(at)[:, None] + steps
    distance = np.abs(places - at[:, None]) * narrowing
    if mode == "linear":
        shares = np.maximum(1 - distance, 0)
    else:
        near = ((a + 2) * distance - (a + 3)) * distance**2 + 1
        far = ((a * distance - 5 * a) * distance + 8 * a) * distance - 4 * a
        shares = np.where(distance <= 1, near, np.where(distance < 2, far, 0))
    if exclude:
        shares = np.where((places < 0) | (places >= axis.size), 0, shares)
    total = shares.sum(axis=1, keepdims=True)
    shares = shares / np.where(total == 0, 1, total)
    matrix = np.zeros((len(at), axis.size))
    clipped = np.clip(places, 0, axis.size - 1).astype(np.int64)
    np.add.at(matrix, (np.arange(len(at))[:, None], clipped), shares)
    return matrix


def _resized(
    x: Value,
    axis: Axis,
    mode: str,
    transformation: str,
    rounding: str,
    *,
    a: float = -0.75,
    antialias: bool = False,
    exclude: bool = False,
    extrapolation: float = 0.0,
) -> Value:
    cropped = transformation == "tf_crop_and_resize" and axis.roi != (0.0, 1.0)
    if axis.scale == 1 and axis.output == axis.size and not cropped:
        return x
    # Runtimes compute the coordinates in float32, and which of two pixels is nearer hangs on it.
    at = coordinates(axis, transformation, np.float32 if mode == "nearest" else np.float64)
    beyond = np.zeros(len(at), bool)
    if transformation == "tf_crop_and_resize":
        beyond = (at < 0) | (at > axis.size - 1)
    if mode == "nearest":
        y = _picked(x, nearest_places(at, rounding, axis.size), axis)
    else:
        matrix = weights(at, axis, mode, a=a, antialias=antialias, exclude=exclude)
        y = _mixed(x, matrix, axis.axis)
    if not beyond.any():
        return y
    shape = [1] * len(x.shape)
    shape[axis.axis] = -1
    return ops.where(
        ops.convert_to_tensor(beyond.reshape(shape)), ops.cast(extrapolation, dtype_of(x)), y
    )


def _picked(x: Value, places: Array, axis: Axis) -> Value:
    factor, rest = divmod(axis.output, axis.size)
    if rest == 0 and (places == np.arange(axis.output) // factor).all():
        # Repetition is a broadcast, cheaper than a gather, and so is its derivative.
        shape = list(ops.shape(x))
        apart = ops.expand_dims(tensor(x), axis.axis + 1)
        widened = [*shape[: axis.axis + 1], factor, *shape[axis.axis + 1 :]]
        shape[axis.axis] = axis.output
        return ops.reshape(ops.broadcast_to(apart, widened), shape)
    return ops.take(x, ops.convert_to_tensor(places), axis=axis.axis)


def _mixed(x: Value, matrix: Array, axis: int) -> Value:
    dtype = dtype_of(x)
    wide = cast(tensor(x), at_least_single(dtype))
    moved = ops.moveaxis(wide, axis, -1)
    mixed = product(moved, ops.convert_to_tensor(matrix.T.astype(dtype_of(wide))))
    y = ops.moveaxis(mixed, -1, axis)
    if is_float(dtype_of(x)):
        return cast(y, dtype)
    limits = np.iinfo(dtype)
    return ops.cast(ops.clip(ops.round(y), float(limits.min), float(limits.max)), dtype)


def _given(value: Value, what: str) -> Array | None:
    if value is None:
        return None
    array = known(value, what)
    return array if array.size else None


def _axes(
    x: Value,
    axes: Sequence[int],
    factors: Any,
    wanted: Any,
    policy: str,
    window: Array | None,
) -> list[Axis]:
    sizes = [x.shape[axis] for axis in axes]
    if wanted is not None:
        outputs = [int(size) for size in wanted]
        ratios = [have and want / have for want, have in zip(outputs, sizes, strict=True)]
        if policy != "stretch":
            ratio = min(ratios) if policy == "not_larger" else max(ratios)
            ratios = [ratio] * len(axes)
            outputs = [int(ratio * size + 0.5) for size in sizes]
    else:
        ratios = [float(factor) for factor in factors]
        outputs = [
            size if ratio == 1 else int(ratio * size)
            for ratio, size in zip(ratios, sizes, strict=True)
        ]
    regions = [(0.0, 1.0)] * len(axes)
    if window is not None:
        regions = [
            (float(window[place]), float(window[place + len(axes)])) for place in range(len(axes))
        ]
    return [
        Axis(axis=axis, size=size, output=output, scale=ratio, roi=roi)
        for axis, size, output, ratio, roi in zip(
            axes, sizes, outputs, ratios, regions, strict=True
        )
    ]
