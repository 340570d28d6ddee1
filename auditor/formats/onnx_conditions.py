"""What an ONNX node has to be, beside its type, to take part in a layer's pattern."""

from __future__ import annotations

import math

from auditor.formats.onnx_model import OnnxNode
from auditor.formats.onnx_values import Values


def last_axes(node: OnnxNode, values: Values) -> bool:
    """Whether a reduction runs over the last axes and no other: each position by itself."""
    axes = reduced_axes(node, values)
    return axes is not None and axes[-1] == -1 and axes == tuple(range(-len(axes), 0))


def reduced_axes(node: OnnxNode, values: Values) -> tuple[int, ...] | None:
    """Axes of a reduction, counted from the end (−1 is the last) and sorted; None if unknown."""
    shape = values.shape(node.inputs[0])
    if node.op_type == "GlobalAveragePool":  # of rank 3, a mean over the last axis: tf2onnx
        return tuple(range(2 - len(shape), 0)) if shape and len(shape) > 2 else None
    axes = node.integers("axes")
    if axes is None and len(node.inputs) > 1 and node.inputs[1]:
        known = values.known.get(node.inputs[1])
        if known is None or not all(isinstance(axis, int) for axis in known.reshape(-1)):
            return None
        axes = tuple(int(axis) for axis in known.reshape(-1))
    if not axes:
        return tuple(range(-len(shape), 0)) if shape else None
    if min(axes) >= 0 and shape is None:
        return None
    rank = len(shape or ())
    return tuple(sorted(axis if axis < 0 else axis - rank for axis in axes))


def clip_bounds(node: OnnxNode, values: Values) -> tuple[float | None, float | None]:
    """Lower and upper bound of a Clip: None where there is none, NaN where it is not known."""
    bounds: list[float | None] = []
    for position, name in ((1, "min"), (2, "max")):
        given = node.inputs[position] if len(node.inputs) > position else ""
        value = node.attributes.get(name)
        if given:
            known = values.scalar(given)
            bounds.append(math.nan if known is None else known)
        else:
            bounds.append(float(value) if isinstance(value, (int, float)) else None)
    return bounds[0], bounds[1]


def from_0_to_6(node: OnnxNode, values: Values) -> bool:
    """Whether a Clip is that of ReLU6."""
    return clip_bounds(node, values) == (0.0, 6.0)


def slope_of_a_sixth(node: OnnxNode, _: Values) -> bool:
    """Whether a HardSigmoid is max(0, min(1, x/6 + ½)), the one of hard swish."""
    return abs(node.number("alpha", 0.2) - 1 / 6) < 1e-3 and node.number("beta", 0.5) == 0.5


def adds_to_last_axis(node: OnnxNode, values: Values) -> bool:
    """Whether an Add's constant varies along the last axis at most: a dense layer's bias."""
    return _adds_along(node, values, -1)


def adds_to_channels(node: OnnxNode, values: Values) -> bool:
    """Whether an Add's constant varies along axis 1 at most: a convolution's bias."""
    out = values.shape(node.outputs[0])
    return out is not None and _adds_along(node, values, 1 - len(out))


def _adds_along(node: OnnxNode, values: Values, axis: int) -> bool:
    shapes = [values.shape(name) for name in node.inputs if name in values.fixed]
    if len(shapes) != 1 or shapes[0] is None:
        return False
    shape = shapes[0]
    return all(dim == 1 or place - len(shape) == axis for place, dim in enumerate(shape))


def any_axes(_node: OnnxNode, _values: Values) -> bool:
    """Whether a reduction runs over any axes at all, which it does."""
    return True


def merges_leading_axes(node: OnnxNode, values: Values) -> bool:
    """Whether a Reshape makes a matrix of a tensor whose last axis stays."""
    after = values.shape(node.outputs[0])
    return after is not None and len(after) == 2 and keeps_last_axis(node, values)


def keeps_last_axis(node: OnnxNode, values: Values) -> bool:
    """Whether a Reshape leaves the last axis as long as it was."""
    before, after = values.shape(node.inputs[0]), values.shape(node.outputs[0])
    return bool(before and after and isinstance(before[-1], int) and before[-1] == after[-1])


def without_bias(node: OnnxNode, _: Values) -> bool:
    """Whether a Conv or Gemm has no third input."""
    return len(node.inputs) < 3 or not node.inputs[2]


def plain_norm(node: OnnxNode, values: Values) -> bool:
    """Whether an InstanceNormalization neither scales nor shifts."""
    known = [values.known.get(name) for name in node.inputs[1:3]]
    wanted = (1, 0)
    return len(known) == len(wanted) and all(
        value is not None and bool((value == number).all())
        for value, number in zip(known, wanted, strict=True)
    )
