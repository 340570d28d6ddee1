"""How much a node is about to make, from shapes and settings alone, before it makes it.

A few bytes of a file can ask for terabytes: ConstantOfShape, Expand, Tile, Range and the like, or
two vectors that broadcast to a matrix.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence

import numpy as np

from auditor.formats.limits import Limits
from auditor.onnx_import.interpreter.value import concrete, shape_of
from auditor.onnx_import.operators.table import Node, Unsupported, Value

#: Bytes of the widest number that is common; dtypes are not looked at.
WIDEST = 8

Estimate = Callable[[Node, Sequence[Value]], int | float]


def check(node: Node, inputs: Sequence[Value], limits: Limits) -> None:
    """Raise `Unsupported` for a node that would make more than `limits.inflated_bytes`."""
    estimate = ESTIMATES.get(node.kind, _broadcast) if not node.domain else _broadcast
    try:
        values = estimate(node, inputs)
    except (ValueError, TypeError, IndexError, OverflowError, ArithmeticError):
        return  # what does not fit is the operator's to say
    if not values * WIDEST <= limits.inflated_bytes:
        raise Unsupported(
            f"it makes {values:.3g} values, more than the {limits.inflated_bytes / 2**30:g} GiB "
            "allowed"
        )


def _sizes(value: Value) -> tuple[int, ...]:
    shape = shape_of(value)
    return tuple(size if isinstance(size, int) else 1 for size in shape or ())


def _numbers(inputs: Sequence[Value], place: int) -> list[float]:
    value = concrete(inputs[place]) if place < len(inputs) else None
    return [] if value is None else [float(item) for item in np.asarray(value).reshape(-1)]


def _product(numbers: Sequence[float]) -> float:
    return math.prod(max(abs(number), 0.0) for number in numbers)


def _broadcast(node: Node, inputs: Sequence[Value]) -> float:
    del node
    return math.prod(np.broadcast_shapes(*(_sizes(value) for value in inputs)))


def _by_shape(node: Node, inputs: Sequence[Value]) -> float:
    shape = node.get("shape")
    return _product([float(size) for size in shape] if shape else _numbers(inputs, 0))


def _expand(node: Node, inputs: Sequence[Value]) -> float:
    target = tuple(int(size) for size in _numbers(inputs, 1))
    return max(_product(target), math.prod(np.broadcast_shapes(_sizes(inputs[0]), target)))


def _tile(node: Node, inputs: Sequence[Value]) -> float:
    if node.since < 6:  # tiles along one axis
        return math.prod(_sizes(inputs[0])) * _product(_numbers(inputs, 1))
    return math.prod(_sizes(inputs[0])) * _product(_numbers(inputs, 1))


def _range(node: Node, inputs: Sequence[Value]) -> float:
    start, limit, delta = (_numbers(inputs, place)[0] for place in range(3))
    return abs((limit - start) / delta) if delta else math.inf


def _resize(node: Node, inputs: Sequence[Value]) -> float:
    sizes = _sizes(inputs[0])
    scales = _numbers(inputs, 1 if node.kind == "Upsample" or node.since < 11 else 2)
    scales = scales or [float(scale) for scale in node.get("scales", ())]
    wanted = _numbers(inputs, 3)
    grown = math.prod(sizes) * _product(scales) if scales else 0.0
    return max(grown, _product(wanted) if wanted else 0.0)


def _pad(node: Node, inputs: Sequence[Value]) -> float:
    sizes = _sizes(inputs[0])
    pads = _numbers(inputs, 1) or [float(pad) for pad in node.get("pads", node.get("paddings", ()))]
    axes = [int(axis) for axis in _numbers(inputs, 3)] or list(range(len(sizes)))
    padded = list(map(float, sizes))
    half = len(pads) // 2
    for place, axis in enumerate(axes[:half]):
        padded[axis] += max(pads[place], 0) + max(pads[place + half], 0)
    return _product(padded)


def _one_hot(node: Node, inputs: Sequence[Value]) -> float:
    return math.prod(_sizes(inputs[0])) * _product(_numbers(inputs, 1)[:1])


def _window(node: Node, inputs: Sequence[Value]) -> float:
    return _product(_numbers(inputs, 0)[:1])


def _mel(node: Node, inputs: Sequence[Value]) -> float:
    return _product([*_numbers(inputs, 0)[:1], *_numbers(inputs, 1)[:1]])


def _crop_pad(node: Node, inputs: Sequence[Value]) -> float:
    return math.prod(_sizes(inputs[0])) * max(_product(_numbers(inputs, 1)), 1.0)


def _matmul(node: Node, inputs: Sequence[Value]) -> float:
    left, right = _sizes(inputs[0]), _sizes(inputs[1])
    batch = np.broadcast_shapes(left[:-2], right[:-2])
    return (
        math.prod(batch) * (left[-2] if len(left) > 1 else 1) * (right[-1] if len(right) > 1 else 1)
    )


def _einsum(node: Node, inputs: Sequence[Value]) -> float:
    terms, arrow, result = str(node.get("equation", "")).replace(" ", "").partition("->")
    sizes: dict[str, int] = {}
    for term, value in zip(terms.split(","), inputs, strict=True):
        if "." in term:
            return 0
        for letter, size in zip(term, _sizes(value), strict=True):
            sizes[letter] = max(size, sizes.get(letter, 1))
    return math.prod(sizes[letter] for letter in (result if arrow else terms.replace(",", "")))


def _windowed(node: Node, inputs: Sequence[Value]) -> float:
    """Pooling and convolutions: what their padding makes of the input."""
    sizes = list(map(float, _sizes(inputs[0])))
    pads = [float(pad) for pad in node.get("pads", ())]
    half = len(pads) // 2
    for axis in range(half):
        sizes[2 + axis] += max(pads[axis], 0) + max(pads[axis + half], 0)
    return _product(sizes)


def _transposed(node: Node, inputs: Sequence[Value]) -> float:
    sizes = list(_sizes(inputs[0]))
    kernel = _sizes(inputs[1])
    spatial = len(sizes) - 2
    strides = node.get("strides") or (1,) * spatial
    dilations = node.get("dilations") or (1,) * spatial
    extra = node.get("output_padding") or (0,) * spatial
    made = [
        sizes[2 + axis] * abs(strides[axis]) + kernel[2 + axis] * abs(dilations[axis]) + extra[axis]
        for axis in range(spatial)
    ]
    given = [float(size) for size in node.get("output_shape", ())]
    outer = float(sizes[0] * kernel[1] * node.get("group", 1))
    return outer * max(_product(list(map(float, made))), _product(given) if given else 0.0)


def _gathered(node: Node, inputs: Sequence[Value]) -> float:
    sizes = _sizes(inputs[0])
    axis = int(node.get("axis", 0))
    return math.prod(sizes) / max(sizes[axis], 1) * math.prod(_sizes(inputs[1]))


def _nothing(node: Node, inputs: Sequence[Value]) -> float:
    """For operators that make no more than they are given."""
    return 0


ESTIMATES: Mapping[str, Estimate] = {
    "ConstantOfShape": _by_shape,
    "RandomNormal": _by_shape,
    "RandomUniform": _by_shape,
    "Expand": _expand,
    "Tile": _tile,
    "Range": _range,
    "Resize": _resize,
    "Upsample": _resize,
    "Pad": _pad,
    "OneHot": _one_hot,
    "BlackmanWindow": _window,
    "HammingWindow": _window,
    "HannWindow": _window,
    "MelWeightMatrix": _mel,
    "CenterCropPad": _crop_pad,
    "MatMul": _matmul,
    "Gemm": _matmul,
    "Einsum": _einsum,
    "MaxPool": _windowed,
    "AveragePool": _windowed,
    "LpPool": _windowed,
    "Conv": _windowed,
    "ConvTranspose": _transposed,
    "Gather": _gathered,
    **dict.fromkeys(("Reshape", "Shape", "Constant", "Concat", "Transpose", "Slice"), _nothing),
}
