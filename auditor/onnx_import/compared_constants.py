"""What a graph holds an input against: a sampling rate, a mode."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from auditor.formats.onnx_model import OnnxGraph
from auditor.formats.onnx_tensors import StoredTensor
from auditor.onnx_import.blueprint import walk

COMPARISONS = frozenset({"Equal", "Greater", "GreaterOrEqual", "Less", "LessOrEqual"})
#: What hands a number on in another shape or dtype.
PASSING = frozenset({"Cast", "Flatten", "Gather", "Identity", "Reshape", "Squeeze", "Unsqueeze"})


def compared_constants(graph: OnnxGraph, name: str) -> tuple[float, ...]:
    """Numbers that nodes compare the value `name` with, in the order of the nodes."""
    return tuple(_compared(graph, name))


def _compared(graph: OnnxGraph, name: str) -> Iterator[float]:
    constants = {
        node.outputs[0]: value
        for node in walk(graph.nodes)
        if node.op_type == "Constant" and node.outputs
        for value in node.attributes.values()
        if isinstance(value, StoredTensor)
    }
    names = {name}
    for node in walk(graph.nodes):
        if node.op_type in PASSING and node.inputs[:1] and node.inputs[0] in names:
            names.update(node.outputs[:1])
        if node.op_type not in COMPARISONS or names.isdisjoint(node.inputs):
            continue
        for other in node.inputs:
            stored = graph.tensors.get(other) or constants.get(other)
            if other in names or stored is None or stored.read is None:
                continue
            values = np.asarray(stored.read())
            if values.size == 1:
                yield float(values.ravel()[0])
