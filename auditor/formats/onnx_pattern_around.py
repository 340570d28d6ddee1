"""What nodes that a layer takes in from around it change of its settings."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from auditor.formats.onnx_conditions import pad_widths
from auditor.formats.onnx_model import OnnxNode
from auditor.formats.onnx_values import Values

RECURRENT = frozenset({"GRU", "LSTM", "RNN"})
#: The axes of (time, batch, …) taken for (batch, time, …), and back.
TIME_AND_BATCH = (1, 0, 2)


def settled(kernel: OnnxNode | None, nodes: Sequence[OnnxNode], values: Values) -> OnnxNode | None:
    """The node that configures a layer, with what the other nodes of its group do to it.

    The widths of every Pad are in a convolution's `pads`; a recurrent operator whose input is
    turned to have time first has batch first itself: `layout` 1.
    """
    if kernel is None or len(nodes) < 2:
        return kernel
    if kernel.op_type == "Conv":
        return _padded(kernel, nodes, values)
    if kernel.op_type in RECURRENT:
        before = [node for node in nodes if kernel.inputs[0] in node.outputs]
        if any(_turns_time(node) for node in before):
            return replace(kernel, attributes={**kernel.attributes, "layout": 1})
    return kernel


def _turns_time(node: OnnxNode) -> bool:
    return node.op_type == "Transpose" and node.integers("perm") == TIME_AND_BATCH


def _padded(kernel: OnnxNode, nodes: Sequence[OnnxNode], values: Values) -> OnnxNode:
    pads = [pad_widths(node, values) for node in nodes if node.op_type == "Pad"]
    for widths in filter(None, pads):
        rank = len(widths) // 2
        around = (*widths[2:rank], *widths[rank + 2 :])
        own = kernel.integers("pads") or (0,) * len(around)
        if len(own) == len(around):
            total = tuple(one + other for one, other in zip(own, around, strict=True))
            kernel = replace(kernel, attributes={**kernel.attributes, "pads": total})
    return kernel
