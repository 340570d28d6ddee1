"""Shapes of convolutions, poolings, resizings and recurrent layers (ONNX Operators.md)."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

from auditor.formats.onnx_dimensions import (
    Case,
    Shapes,
    by_operator,
    dims_of,
    replaced,
)
from auditor.formats.onnx_symbols import Dim, product
from auditor.graph.layer_graph import Shape


def _spatial(case: Case, spatial: Shape, kernel: Sequence[Dim]) -> Shape:
    """Output size along each spatial axis of a convolution or pooling window."""
    rank = len(spatial)
    strides = case.node.integers("strides") or (1,) * rank
    dilations = case.node.integers("dilations") or (1,) * rank
    pads = case.node.integers("pads") or (0,) * (2 * rank)
    auto = case.node.text("auto_pad", "NOTSET")
    ceil = case.node.integer("ceil_mode", 0)
    result: list[Dim] = []
    for axis, (dim, window) in enumerate(zip(spatial, kernel, strict=True)):
        stride = strides[axis]
        if dim == 1 and window == 1 and stride == 1:
            result.append(dim)
        elif not isinstance(dim, int):
            result.append(dim if stride == 1 and auto.startswith("SAME") else None)
        elif auto.startswith("SAME"):
            result.append(-(-dim // stride))
        elif not isinstance(window, int):
            result.append(None)
        else:
            before, after = (0, 0) if auto == "VALID" else (pads[axis], pads[axis + rank])
            room = dim + before + after - dilations[axis] * (window - 1) - 1
            size = (-(-room // stride) if ceil else room // stride) + 1
            if ceil and (size - 1) * stride >= dim + before:
                size -= 1  # the last window would begin in the padding
            result.append(max(size, 0))
    return tuple(result)


def _conv(case: Case, weight: int = 1) -> Shape | None:
    data, kernel = case.shape(0), case.shape(weight)
    if data is None:
        return None
    rank = len(data) - 2
    window = case.node.integers("kernel_shape") or (kernel[2:] if kernel else (None,) * rank)
    return (data[0], kernel[0] if kernel else None, *_spatial(case, data[2:], window))


def _qlinear_conv(case: Case) -> Shape | None:
    return _conv(case, 3)


def _conv_transpose(case: Case) -> Shape | None:
    data, kernel = case.shape(0), case.shape(1)
    if data is None or kernel is None:
        return None
    rank = len(data) - 2
    channels = product((kernel[1], case.node.integer("group", 1)))
    fixed = case.node.integers("output_shape")
    if fixed is not None:
        return (data[0], channels, *fixed[-rank:])
    strides = case.node.integers("strides") or (1,) * rank
    dilations = case.node.integers("dilations") or (1,) * rank
    pads = case.node.integers("pads") or (0,) * (2 * rank)
    extra = case.node.integers("output_padding") or (0,) * rank
    same = case.node.text("auto_pad", "NOTSET").startswith("SAME")
    spatial: list[Dim] = []
    for axis, (dim, window) in enumerate(zip(data[2:], kernel[2:], strict=True)):
        if not isinstance(dim, int) or not isinstance(window, int):
            spatial.append(None)
        elif same:
            spatial.append(dim * strides[axis])
        else:
            reach = dilations[axis] * (window - 1) + 1 - pads[axis] - pads[axis + rank]
            spatial.append(strides[axis] * (dim - 1) + extra[axis] + reach)
    return (data[0], channels, *spatial)


def _pool(case: Case) -> Shapes:
    data, kernel = case.shape(), case.node.integers("kernel_shape")
    if data is None or kernel is None:
        return [None, None]
    shape = (*data[:2], *_spatial(case, data[2:], kernel))
    return [shape, shape]


def _global_pool(case: Case) -> Shape | None:
    data = case.shape()
    return None if data is None else (*data[:2], *(1,) * (len(data) - 2))


def _resize(case: Case) -> Shape | None:
    data = case.shape()
    if data is None:
        return None
    axes = case.node.integers("axes") or tuple(range(len(data)))
    position = 1 if case.node.op_type == "Upsample" or case.opset < 11 else 2
    scales: Sequence[Any] | None = case.value(position)
    if scales is None and isinstance(case.node.attributes.get("scales"), tuple):
        scales = [*case.node.attributes["scales"]]  # type: ignore[misc]
    if "width_scale" in case.node.attributes and len(data) == 4:  # opset 1
        sides = (case.node.number(name, 1.0) for name in ("height_scale", "width_scale"))
        scales = [1, 1, *sides]
    sizes = case.value(3)
    if sizes is not None and len(sizes) == len(axes):
        if case.node.text("keep_aspect_ratio_policy", "stretch") != "stretch":
            return replaced(data, dict.fromkeys(axes))
        return replaced(data, dict(zip(axes, dims_of(sizes), strict=True)))
    if scales is not None and len(scales) == len(axes):
        return replaced(
            data, {axis: _scaled(data[axis], s) for axis, s in zip(axes, scales, strict=True)}
        )
    return (None,) * len(data)


def _scaled(dim: Dim, scale: Any) -> Dim:
    if scale == 1:
        return dim
    return math.floor(dim * scale) if isinstance(dim, int) and scale is not None else None


def _recurrent(case: Case) -> Shapes:
    data, kernel = case.shape(0), case.shape(2)
    directions = kernel[0] if kernel else None
    hidden = kernel[2] if kernel and len(kernel) == 3 else case.node.attributes.get("hidden_size")
    width = hidden if isinstance(hidden, (int, str)) else None
    if data is None or len(data) != 3:
        return [None, None, None]
    if case.node.integer("layout", 0):
        state: Shape = (data[0], directions, width)
        return [(data[0], data[1], directions, width), state, state]
    state = (directions, data[1], width)
    return [(data[0], directions, data[1], width), state, state]


RULES = by_operator(
    {
        _conv: "Conv ConvInteger DeformConv",
        _qlinear_conv: "QLinearConv",
        _conv_transpose: "ConvTranspose",
        _pool: "AveragePool LpPool MaxPool",
        _global_pool: "GlobalAveragePool GlobalLpPool GlobalMaxPool",
        _resize: "Resize Upsample",
        _recurrent: "GRU LSTM RNN",
    }
)
