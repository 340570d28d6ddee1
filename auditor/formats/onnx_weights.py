"""Stored tensors of an ONNX model as weights of the call that uses them."""

from __future__ import annotations

import math

from auditor.formats.limits import Limits
from auditor.formats.onnx_model import OnnxNode
from auditor.formats.onnx_tensors import StoredTensor, is_float
from auditor.formats.onnx_values import Values
from auditor.formats.onnx_views import Constant
from auditor.formats.refusal import refusal
from auditor.graph.layer_graph import LayerGraph
from auditor.graph.operators import Op
from auditor.graph.weight import Weight

STATISTICS = frozenset({"moving_mean", "moving_variance"})
Fans = tuple[int | None, int | None, tuple[int, ...]]
NO_FANS: Fans = (None, None, ())
KERNELS = frozenset({"kernel", "depthwise_kernel", "recurrent_kernel", "embeddings"})


def make_weight(
    name: str, role: str, values: Values, op: Op, node: OnnxNode | None
) -> Weight | None:
    """The fixed value `name` as a weight of a call; None where its shape is not known.

    A value computed from stored tensors is a weight without values: training would change what it
    is computed from.
    """
    constant = values.constants.get(name)
    if constant is None:
        shape = values.shape(name)
        if shape is None or not all(isinstance(dim, int) for dim in shape):
            return None
        bare = StoredTensor(
            name=name,
            dtype=values.dtype(name),
            shape=tuple(dim for dim in shape if isinstance(dim, int)),
            read=None,
        )
        constant = Constant(tensor=bare)
    tensor = constant.tensor
    fan_in, fan_out, unit_axes = fans(op, tensor.shape, node, name) if role in KERNELS else NO_FANS
    return Weight(
        name=tensor.name or name,
        role=role,
        shape=tensor.shape,
        dtype=tensor.dtype,
        trainable=_trainable(constant, role),
        fan_in=fan_in,
        fan_out=fan_out,
        unit_axes=unit_axes,
        read=tensor.read,
    )


def _trainable(constant: Constant, role: str) -> bool:
    if role in STATISTICS or constant.quantized or not is_float(constant.tensor.dtype):
        return False
    return role != "other" or not constant.literal


def fans(op: Op, shape: tuple[int, ...], node: OnnxNode | None, name: str = "") -> Fans:
    """Fan-in, fan-out and the axes that number output units, of a kernel in ONNX's layout.

    Conv is (out, in/group, k…), ConvTranspose (in, out/group, k…), Gemm (in, out) or with transB
    (out, in), MatMul (…, in, out) or, as the left operand, (…, out, in); recurrent kernels are
    (directions, gates·hidden, in). A receptive field counts in both fans, as in Keras. Of an
    embedding, (tokens, width), one row is taken.
    """
    rank = len(shape)
    if op in (Op.CONV, Op.DEPTHWISE_CONV, Op.CONV_TRANSPOSE) and rank >= 3:
        field = math.prod(shape[2:])
        group = node.integer("group", 1) if node else 1
        if op is Op.CONV_TRANSPOSE:
            strides = math.prod((node.integers("strides") if node else None) or (1,))
            # An output meets one tap of the kernel in as many as the strides skip.
            fan_in = round(shape[0] // max(group, 1) * field / max(strides, 1))
            return max(fan_in, 1), shape[1] * field, (1,) if group == 1 else ()
        return shape[1] * field, shape[0] // max(group, 1) * field, (0,)
    if op is Op.EMBEDDING and rank == 2:
        return 1, shape[1], (1,)
    if op in (Op.LSTM, Op.GRU, Op.SIMPLE_RNN) and rank == 3:
        return shape[2], shape[1], (0, 1)
    if op is Op.DENSE and rank == 1:
        return shape[0], 1, ()
    if op is Op.DENSE and rank >= 2:
        batch = tuple(range(rank - 2))
        if _rows_are_units(node, name):
            return shape[-1], shape[-2], (*batch, rank - 2)
        return shape[-2], shape[-1], (*batch, rank - 1)
    if op is Op.EINSUM_DENSE and node is not None:
        return _einsum_fans(shape, node, name)
    return NO_FANS


def _rows_are_units(node: OnnxNode | None, name: str) -> bool:
    if node is None or not node.inputs:
        return False
    left = node.inputs[0] == name
    return bool(node.integer("transA" if left else "transB", 0)) != left


def _einsum_fans(shape: tuple[int, ...], node: OnnxNode, name: str) -> Fans:
    """Letters of the kernel that are summed are its inputs, those in the result its units."""
    terms, _, result = node.text("equation").replace(" ", "").partition("->")
    term = dict(zip(node.inputs, terms.split(","), strict=False)).get(name, "")
    if len(term) != len(shape) or "." in term:
        return NO_FANS
    units = tuple(axis for axis, letter in enumerate(term) if letter in result)
    fan_out = math.prod(shape[axis] for axis in units)
    return math.prod(shape) // max(fan_out, 1), fan_out, units


def check_shown(graph: LayerGraph, stored: int, limits: Limits, source: str) -> None:
    """Raise `UnsafeModel` where weights show many times the `stored` bytes.

    One stretch of a file may be shown as any number of tensors, each of which would be read.
    """
    shown = sum(
        weight.size for call in graph.layers() for weight in call.weights if weight.read is not None
    )
    if shown > max(limits.json_bytes, limits.expansion * stored):
        raise refusal(
            "GEB905", source, f"its weights show {shown} values of the {stored} bytes stored"
        )
