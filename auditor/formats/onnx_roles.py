"""What a node of ONNX is in its place: its operator, sharpened by constants, shapes, attributes."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from auditor.formats.onnx_conditions import clip_bounds, reduced_axes
from auditor.formats.onnx_model import OnnxNode
from auditor.formats.onnx_operators import Operator, operator
from auditor.formats.onnx_pattern_runtime import DOMAIN, FUSED_ACTIVATIONS, RUNTIME
from auditor.formats.onnx_tensors import is_float
from auditor.formats.onnx_values import Values
from auditor.graph.operators import Op


@dataclass(frozen=True, kw_only=True)
class Reading:
    """A node as a call: `roles` gives the weight's role by input position."""

    op: Op
    activation: str | None = None
    roles: Mapping[int, str] = field(default_factory=dict)
    note: str = ""


def read_node(node: OnnxNode, values: Values) -> Reading:
    """What a node is, as far as its place in the graph tells."""
    known = operator(node.domain, node.op_type)
    if node.domain == DOMAIN and node.op_type in RUNTIME:
        return _of_runtime(node, values, RUNTIME[node.op_type])
    if node.domain == "":
        data = [i for i, name in enumerate(node.inputs) if name and name not in values.fixed]
        fixed = [i for i, name in enumerate(node.inputs) if name in values.fixed]
        reading = _in_place(node, values, known, data, fixed)
        if reading is not None:
            return reading
    return Reading(op=known.op, activation=known.activation, roles=known.roles, note=known.note)


def _in_place(
    node: OnnxNode, values: Values, known: Operator, data: list[int], fixed: list[int]
) -> Reading | None:
    """A reading that departs from the operator's own; None where there is none."""
    kind = node.op_type
    if kind in ("MatMul", "Gemm", "QLinearMatMul", "MatMulInteger"):
        kernels = [i for i in known.roles if known.roles[i] == "kernel" and i in fixed]
        if not kernels:
            return Reading(op=Op.MATMUL, roles={2: "bias"} if kind == "Gemm" else {})
        return Reading(op=Op.DENSE, roles=known.roles)
    if kind in ("Conv", "QLinearConv", "ConvInteger"):
        return _convolution(node, values, known)
    if kind in _MERGES and len(data) + len(fixed) == 1:
        return Reading(op=Op.IDENTITY)
    if kind in ("Add", "Sub", "Mul", "Div") and len(data) == 1 and fixed:
        return _with_constant(kind, data[0], fixed[0])
    if kind in ("Max", "Min") and len(data) == 1 and fixed:
        relu = kind == "Max" and [values.scalar(node.inputs[i]) for i in fixed] == [0.0]
        return _activation("relu") if relu else Reading(op=Op.ELEMENTWISE)
    if kind == "Clip":
        activation = _CLIPS.get(clip_bounds(node, values))
        return None if activation is None else _activation(activation)
    if kind == "Shrink":
        hard = node.number("bias", 0.0) == 0.0
        return _activation("hard_shrink" if hard else "soft_shrink")
    if kind == "Gather" and 0 in fixed and 1 in data:
        table = values.types[node.inputs[0]]
        if is_float(table.dtype) and table.shape is not None and len(table.shape) == 2:
            return Reading(op=Op.EMBEDDING, roles={0: "embeddings"})
    if kind == "Einsum":
        return _einsum(node, data, fixed)
    if kind == "Where" and len(data) + len(fixed) == 3 and {1, 2} & set(fixed):
        return Reading(op=Op.MASKING)
    if kind in ("ReduceMean", "ReduceMax"):
        return _global_pool(node, values)
    if kind == "Reshape":
        return _flatten(node, values)
    return None


def _of_runtime(node: OnnxNode, values: Values, known: Operator) -> Reading:
    """A node of onnxruntime's own: without a stored kernel a product of two computed tensors."""
    fixed = [i for i, name in enumerate(node.inputs) if name in values.fixed]
    kernels = [i for i, role in known.roles.items() if role == "kernel"]
    if known.op is Op.DENSE and kernels and not any(i in fixed for i in kernels):
        return Reading(op=Op.MATMUL)
    activation = FUSED_ACTIVATIONS.get(node.text("activation"), known.activation)
    if known.op is Op.CONV and (depthwise := _convolution(node, values, known)) is not None:
        return Reading(op=depthwise.op, activation=activation, roles=depthwise.roles)
    return Reading(op=known.op, activation=activation, roles=known.roles, note=known.note)


_MERGES = frozenset({"Concat", "Max", "Min", "Mean", "Sum"})
_CLIPS: Mapping[tuple[float | None, float | None], str] = {
    (0.0, 6.0): "relu6",
    (0.0, None): "relu",
    (-1.0, 1.0): "hard_tanh",
}


def _activation(name: str) -> Reading:
    return Reading(op=Op.ACTIVATION, activation=name)


def _convolution(node: OnnxNode, values: Values, known: Operator) -> Reading | None:
    position = next(i for i, role in known.roles.items() if role == "kernel")
    if len(node.inputs) <= position:
        return None
    shape = values.shape(node.inputs[position])
    group = node.integer("group", 1)
    if shape is None or len(shape) < 3 or group == 1 or shape[1] != 1:
        return None
    # One input channel a group: every channel is filtered by itself.
    roles = {i: "depthwise_kernel" if i == position else r for i, r in known.roles.items()}
    return Reading(op=Op.DEPTHWISE_CONV, roles=roles)


def _with_constant(kind: str, data: int, fixed: int) -> Reading:
    if kind == "Div" and data == 1:
        return Reading(op=Op.ELEMENTWISE)
    return Reading(op=Op.SCALE, roles={fixed: "beta" if kind in ("Add", "Sub") else "gamma"})


def _einsum(node: OnnxNode, data: list[int], fixed: list[int]) -> Reading:
    if len(data) == 1 and len(fixed) == 1:
        return Reading(op=Op.EINSUM_DENSE, roles={fixed[0]: "kernel"})
    if len(data) == 1:
        term, _, result = node.text("equation").replace(" ", "").partition("->")
        return Reading(op=Op.PERMUTE if len(result) == len(term) else Op.REDUCE)
    return Reading(op=Op.DOT)


def _global_pool(node: OnnxNode, values: Values) -> Reading | None:
    """A mean or maximum over all positions, which leaves batch and channels."""
    shape, axes = values.shape(node.inputs[0]), reduced_axes(node, values)
    if shape is None or axes is None or len(shape) < 3:
        return None
    rank = len(shape)
    channels_first = tuple(range(-rank + 2, 0))
    channels_last = tuple(range(-rank + 1, -1))
    if axes not in (channels_first, channels_last):
        return None
    if axes == (-1,) and node.integer("keepdims", 1):
        return None  # (batch, positions, channels): a statistic of each position
    maximum = node.op_type == "ReduceMax"
    return Reading(op=Op.GLOBAL_MAX_POOL if maximum else Op.GLOBAL_AVERAGE_POOL)


def _flatten(node: OnnxNode, values: Values) -> Reading | None:
    """A Reshape to (batch, everything else)."""
    before, after = values.shape(node.inputs[0]), values.shape(node.outputs[0])
    if before is None or after is None or len(before) < 3 or len(after) != 2:
        return None
    target = values.known.get(node.inputs[1]) if len(node.inputs) > 1 else None
    copied = target is not None and target.size == 2 and target.reshape(-1)[0] == 0
    same_batch = before[0] is not None and before[0] == after[0]
    return Reading(op=Op.FLATTEN) if copied or same_batch else None
