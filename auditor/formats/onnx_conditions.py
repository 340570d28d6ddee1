"""What an ONNX node has to be, beside its type, to take part in a layer's pattern."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

from auditor.formats.onnx_model import OnnxNode
from auditor.formats.onnx_tensors import is_float
from auditor.formats.onnx_values import Values

#: Just within the largest float32, which exporters round in several ways.
FLOAT_END = 3.4e38


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
        if node.integer("noop_with_empty_axes", 0):
            return None
        return tuple(range(-len(shape), 0)) if shape else None
    if min(axes) >= 0 and shape is None:
        return None
    rank = len(shape or ())
    return tuple(sorted(axis if axis < 0 else axis - rank for axis in axes))


#: Reductions that a softmax or a normalization is written with.
REDUCTIONS = frozenset({"GlobalAveragePool", "ReduceMax", "ReduceMean", "ReduceSum"})


def reductions_over(nodes: Sequence[OnnxNode], values: Values) -> set[tuple[int, ...] | None]:
    """The axes that reductions among these nodes run over, each once."""
    return {reduced_axes(node, values) for node in nodes if node.op_type in REDUCTIONS}


def over_one_axis(nodes: Sequence[OnnxNode], _: Mapping[str, float], values: Values) -> bool:
    """Whether the largest and the sum that a softmax is written with run over the same axes."""
    axes = reductions_over(nodes, values)
    return len(axes) < 2 and None not in axes


def over_last_axis(nodes: Sequence[OnnxNode], _: Mapping[str, float], values: Values) -> bool:
    """Whether they run over the last axis, as the softmax of attention does."""
    return reductions_over(nodes, values) <= {(-1,)}


def clip_bounds(node: OnnxNode, values: Values) -> tuple[float | None, float | None]:
    """Lower and upper bound of a Clip: None where there is none, NaN where it is not known."""
    bounds: list[float | None] = []
    for position, name in ((1, "min"), (2, "max")):
        given = node.inputs[position] if len(node.inputs) > position else ""
        value = node.attributes.get(name)
        if given:
            known = values.scalar(given)
            bounds.append(math.nan if known is None else _bound(known))
        else:
            bounds.append(_bound(float(value)) if isinstance(value, (int, float)) else None)
    return bounds[0], bounds[1]


def _bound(value: float) -> float | None:
    """A bound, unless it is the end of the range: how "no bound" is written below opset 11."""
    return None if abs(value) >= FLOAT_END else value


def from_0_to_6(node: OnnxNode, values: Values) -> bool:
    """Whether a Clip is that of ReLU6."""
    return clip_bounds(node, values) == (0.0, 6.0)


def from_0_to_1(node: OnnxNode, values: Values) -> bool:
    """Whether a Clip keeps values between 0 and 1."""
    return clip_bounds(node, values) == (0.0, 1.0)


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
    # Below opset 7 an attribute says where the second operand's first axis stands.
    first, out = node.attributes.get("axis"), values.shape(node.outputs[0])
    if isinstance(first, int) and first >= 0 and out is not None and values.opset < 7:
        shape = (*shape, *(1,) * (len(out) - first - len(shape)))
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


def spatial_axes(node: OnnxNode, values: Values) -> bool:
    """Whether a reduction runs over all positions: what leaves batch and channels, wherever."""
    shape, axes = values.shape(node.inputs[0]), reduced_axes(node, values)
    if shape is None or axes is None or len(shape) < 3:
        return False
    rank = len(shape)
    return axes in (tuple(range(2 - rank, 0)), tuple(range(1 - rank, -1)))


def last_features(node: OnnxNode, values: Values) -> bool:
    """Whether a reduction runs over last axes that are not just the positions of an image."""
    shape, axes = values.shape(node.inputs[0]), reduced_axes(node, values)
    positions = shape is not None and len(shape) > 3 and axes == tuple(range(2 - len(shape), 0))
    return last_axes(node, values) and not positions


def channel_axis(node: OnnxNode, values: Values) -> bool:
    """Whether a reduction runs over axis 1 of images or volumes: the channels of each position."""
    shape, axes = values.shape(node.inputs[0]), reduced_axes(node, values)
    return shape is not None and len(shape) > 3 and axes == (1 - len(shape),)


def along_last_axis(node: OnnxNode, values: Values) -> bool:
    """Whether a Softmax runs over the last axis."""
    shape = values.shape(node.inputs[0])
    axis = node.integer("axis", -1 if values.opset >= 13 else 1)
    return axis == -1 or (shape is not None and axis == len(shape) - 1)


def swaps_last_axes(node: OnnxNode, _: Values) -> bool:
    """Whether a Transpose exchanges the last two axes and no others."""
    perm = node.integers("perm")
    if perm is None or len(perm) < 2:
        return False
    rank = len(perm)
    return perm == (*range(rank - 2), rank - 1, rank - 2)


def channels_to_first(node: OnnxNode, _: Values) -> bool:
    """Whether a Transpose moves the last axis behind the batch: (n, …, c) to (n, c, …)."""
    perm = node.integers("perm")
    return (
        perm is not None and len(perm) > 2 and perm == (0, len(perm) - 1, *range(1, len(perm) - 1))
    )


def channels_to_last(node: OnnxNode, _: Values) -> bool:
    """Whether a Transpose moves axis 1 to the end: (n, c, …) to (n, …, c)."""
    perm = node.integers("perm")
    return perm is not None and len(perm) > 2 and perm == (0, *range(2, len(perm)), 1)


def pads_positions(node: OnnxNode, values: Values) -> bool:
    """Whether a Pad puts known numbers of zeros around positions, batch and channels apart."""
    before_after = pad_widths(node, values)
    if before_after is None or node.text("mode", "constant") != "constant":
        return False
    given = node.inputs[2] if len(node.inputs) > 2 else ""
    filler = values.scalar(given) if given else node.number("value", 0.0)
    rank = len(before_after) // 2
    around = (*before_after[:2], *before_after[rank : rank + 2])
    return filler == 0.0 and rank > 2 and not any(around) and min(before_after) >= 0


def pad_widths(node: OnnxNode, values: Values) -> tuple[int, ...] | None:
    """What a Pad adds before each axis, then after each; None where it is not known."""
    if len(node.inputs) > 3 and node.inputs[3]:
        return None
    widths = node.integers("pads") or node.integers("paddings")
    if widths is None and len(node.inputs) > 1:
        known = values.known.get(node.inputs[1])
        numbers = () if known is None else tuple(known.reshape(-1).tolist())
        widths = tuple(number for number in numbers if isinstance(number, int))
        if len(widths) != len(numbers):
            return None
    return widths if widths and len(widths) % 2 == 0 else None


def by_one_number(node: OnnxNode, values: Values) -> bool:
    """Whether a Mul or Div has one number for its constant operand, dividing or multiplying."""
    fixed = [place for place, name in enumerate(node.inputs) if name in values.fixed]
    if len(node.inputs) != 2 or len(fixed) != 1 or (node.op_type == "Div" and fixed != [1]):
        return False
    shape = values.shape(node.inputs[fixed[0]])
    return shape is not None and all(dim == 1 for dim in shape)


def at_one_index(node: OnnxNode, values: Values) -> bool:
    """Whether a Gather takes one index that the graph holds: a part, and no look-up."""
    return len(node.inputs) == 2 and values.scalar(node.inputs[1]) is not None


def adds_to_rows(node: OnnxNode, values: Values) -> bool:
    """Whether an Add's constant varies along the last axis but one at most."""
    return _adds_along(node, values, -2)


def adds_to_last_two_axes(node: OnnxNode, values: Values) -> bool:
    """Whether an Add's constant varies along the last two axes at most: a bias a head."""
    shapes = [values.shape(name) for name in node.inputs if name in values.fixed]
    if len(shapes) != 1 or shapes[0] is None:
        return False
    return all(dim == 1 for dim in shapes[0][:-2])


def splits_last_axis(node: OnnxNode, values: Values) -> bool:
    """Whether a Reshape divides the last axis in two: units into heads."""
    before, after = values.shape(node.inputs[0]), values.shape(node.outputs[0])
    if not before or not after or len(after) < 2:
        return False
    units, heads, width = before[-1], after[-2], after[-1]
    if not isinstance(heads, int) or not isinstance(width, int):
        return False
    return units == heads * width


def merges_heads(node: OnnxNode, values: Values) -> bool:
    """Whether a Reshape makes a matrix of (batch, time, heads, width), a row a time."""
    before, after = values.shape(node.inputs[0]), values.shape(node.outputs[0])
    if not before or not after or len(before) != 4 or len(after) != 2:
        return False
    heads, width = before[-2:]
    if not isinstance(heads, int) or not isinstance(width, int):
        return False
    return after[-1] == heads * width


def is_table(name: str, values: Values) -> bool:
    """Whether a value is a matrix of floating-point numbers: what an embedding looks up in."""
    shape = values.shape(name)
    return is_float(values.dtype(name)) and shape is not None and len(shape) == 2


def is_single(name: str, values: Values) -> bool:
    """Whether a value has one element, known or not."""
    shape = values.shape(name)
    return shape is not None and all(dim == 1 for dim in shape)


def varies_by_head(name: str, values: Values) -> bool:
    """Whether a value added to attention scores differs between heads: a learned position bias."""
    shape = values.shape(name)
    if shape is None or len(shape) < 3 or not is_float(values.dtype(name)):
        return False
    return isinstance(shape[-3], int) and shape[-3] > 1


def query_first(node: OnnxNode, _: Values) -> bool:
    """Whether an Einsum multiplies queries by keys: the result's last axis is of the second."""
    return _sums_pairs(node, last_of=1)


def key_first(node: OnnxNode, _: Values) -> bool:
    """Whether an Einsum multiplies keys by queries: the result's last axis is of the first."""
    return _sums_pairs(node, last_of=0)


def sums_pairs(node: OnnxNode, _: Values) -> bool:
    """Whether an Einsum sums products of its two operands over an axis they share."""
    return _sums_pairs(node, last_of=0) or _sums_pairs(node, last_of=1)


def _sums_pairs(node: OnnxNode, last_of: int) -> bool:
    terms, _, result = node.text("equation").replace(" ", "").partition("->")
    operands = terms.split(",")
    if len(operands) != 2 or not result or not set(operands[0]) & set(operands[1]) - set(result):
        return False
    return result[-1] in operands[last_of]


def to_float(node: OnnxNode, values: Values) -> bool:
    """Whether a Cast gives floating-point numbers."""
    return is_float(values.dtype(node.outputs[0]))


def is_parameter(name: str, values: Values) -> bool:
    """Whether a constant is a tensor of the model's own, and no number written into the graph."""
    constant = values.constants.get(name)
    if constant is None:
        return not is_single(name, values)
    single = constant.tensor.size == 1
    return not (single and (constant.literal or not constant.tensor.shape))
