"""Types of what goes into and comes out of graphs within nodes (ONNX Operators.md)."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from auditor.formats.onnx_model import OnnxNode, TensorType
from auditor.formats.onnx_operators import BODY
from auditor.graph.layer_graph import Shape

UNKNOWN = TensorType()
TypeOf = Callable[[str], TensorType]


def control_types(node: OnnxNode, type_of: TypeOf, opset: int) -> tuple[TensorType, ...]:
    """Types of the outputs of a node with bodies, or of one of `BODY`; as many as are known of."""
    if node.domain == BODY:
        return _given(node, type_of)
    if node.domain == "" and node.op_type == "If":
        then, other = (node.bodies.get(name, ()) for name in ("then_branch", "else_branch"))
        pairs = zip(then, other, strict=False)
        return tuple(_either(type_of(one), type_of(two)) for one, two in pairs)
    body = tuple(type_of(name) for name in node.bodies.get("body", ()))
    if node.domain == "" and node.op_type == "Loop":
        return _loop(node, body, type_of)
    if node.domain == "" and node.op_type == "Scan":
        return _scan(node, body, type_of, opset)
    return ()


def _given(node: OnnxNode, type_of: TypeOf) -> tuple[TensorType, ...]:
    if node.op_type == "LoopCount":
        return (TensorType(dtype="int64", shape=()),)
    if node.op_type == "LoopCondition":
        return (TensorType(dtype="bool", shape=()),)
    if not node.inputs or node.op_type in ("SequenceElement", "BodyInputs"):
        return ()
    whole = type_of(node.inputs[0])
    # What a Loop carries may change its shape, even its rank, from one repetition to the next.
    shape = None if node.op_type == "LoopState" else _without(whole.shape, node.integers("axes"))
    return (TensorType(dtype=whole.dtype, shape=shape),)


def _without(shape: Shape | None, axes: Sequence[int] | None) -> Shape | None:
    if shape is None or not axes:
        return shape
    gone = {axis % len(shape) for axis in axes} if shape else set()
    return tuple(dim for axis, dim in enumerate(shape) if axis not in gone)


def _loop(node: OnnxNode, body: Sequence[TensorType], type_of: TypeOf) -> tuple[TensorType, ...]:
    states = max(len(node.own_inputs) - 2, 0)
    given = body[1:]
    ends = [
        _either(type_of(start), end)
        for start, end in zip(node.own_inputs[2:], given[:states], strict=False)
    ]
    stacked = [
        TensorType(dtype=kind.dtype, shape=None if kind.shape is None else (None, *kind.shape))
        for kind in given[states:]
    ]
    return (*ends, *stacked)


def _scan(
    node: OnnxNode, body: Sequence[TensorType], type_of: TypeOf, opset: int
) -> tuple[TensorType, ...]:
    inputs = node.own_inputs[1:] if opset == 8 else node.own_inputs
    states = max(len(inputs) - node.integer("num_scan_inputs", 0), 0)
    scanned = type_of(inputs[states]).shape if states < len(inputs) else None
    if opset == 8:
        batch: Shape = (scanned[0],) if scanned else (None,)
        length = scanned[1] if scanned and len(scanned) > 1 else None
        ends = [_with(kind, 0, batch[0]) for kind in body[:states]]
        return (*ends, *(_with(_with(k, 0, length), 0, batch[0]) for k in body[states:]))
    axis = (node.integers("scan_input_axes") or (0,))[0]
    length = scanned[axis] if scanned and -len(scanned) <= axis < len(scanned) else None
    axes = node.integers("scan_output_axes") or (0,) * len(body)
    stacked = [
        _with(kind, axes[place] if place < len(axes) else 0, length)
        for place, kind in enumerate(body[states:])
    ]
    return (*body[:states], *stacked)


def _with(kind: TensorType, axis: int, dim: int | str | None) -> TensorType:
    """The type with one more axis; a negative place counts in the new shape."""
    if kind.shape is None:
        return kind
    place = axis if axis >= 0 else axis + len(kind.shape) + 1
    if not 0 <= place <= len(kind.shape):
        return TensorType(dtype=kind.dtype)
    shape = (*kind.shape[:place], dim, *kind.shape[place:])
    return TensorType(dtype=kind.dtype, shape=shape)


def _either(one: TensorType, other: TensorType) -> TensorType:
    """What is certain of a value that is one or the other."""
    shape: Shape | None = None
    if one.shape is not None and other.shape is not None and len(one.shape) == len(other.shape):
        pairs = zip(one.shape, other.shape, strict=True)
        shape = tuple(a if a == b else None for a, b in pairs)
    return TensorType(dtype=one.dtype if one.dtype == other.dtype else "", shape=shape)
