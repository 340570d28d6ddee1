"""ONNX models in double precision, for derivatives by differences."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import onnx
from onnx import numpy_helper

from auditor.formats.onnx_model import OnnxGraph, OnnxNode
from auditor.formats.onnx_tensors import HeldTensor, StoredTensor
from auditor.onnx_import.interpreter.function_bodies import Body
from auditor.onnx_import.interpreter.interpreter import Interpreter
from auditor.onnx_import.operators.table import Node

FLOATS = (onnx.TensorProto.FLOAT, onnx.TensorProto.FLOAT16, onnx.TensorProto.BFLOAT16)
FLOAT_NAMES = ("float32", "float16", "bfloat16")
#: Attributes that name the element type of a result, or the one to compute in.
TYPES = ("to", "dtype", "output_dtype", "stash_type", "softmax_precision")


class DoubleInterpreter(Interpreter):
    """Runs operators' bodies in double precision too, which ONNX lets cast to float32."""

    def _schema_body(self, source: OnnxNode, node: Node, inputs: list[Any]) -> Body | None:
        body = super()._schema_body(source, node, inputs)
        if body is None:
            return None
        known = self.__dict__.setdefault("_doubled", {})
        if id(body) not in known:
            known[id(body)] = body, replace(body, nodes=_wide_nodes(body.nodes))
        doubled: Body = known[id(body)][1]
        return doubled


def _wide_nodes(nodes: Sequence[OnnxNode]) -> tuple[OnnxNode, ...]:
    return tuple(replace(node, attributes=_wide_attributes(node)) for node in nodes)


def _wide_attributes(node: OnnxNode) -> dict[str, Any]:
    wide: dict[str, Any] = {}
    for name, value in node.attributes.items():
        if isinstance(value, StoredTensor) and value.dtype in FLOAT_NAMES:
            wide[name] = _stored(value.read())
        elif isinstance(value, OnnxGraph):
            wide[name] = replace(value, nodes=_wide_nodes(value.nodes))
        elif name in TYPES and value in FLOATS:
            wide[name] = int(onnx.TensorProto.DOUBLE)
        elif name in ("value_float", "value_floats"):
            wide["value"] = _stored(value)
        else:
            wide[name] = value
    if node.op_type == "ConstantOfShape" and not wide:  # a float32 zero
        wide["value"] = _stored([0.0])
    return wide


def _stored(values: Any) -> StoredTensor:
    array = np.asarray(values, np.float64)
    return StoredTensor(name="", dtype="float64", shape=array.shape, read=HeldTensor(array))


def in_double(model: onnx.ModelProto) -> onnx.ModelProto:
    """The model with all its floats, and what it casts to them, in double precision."""
    wide = onnx.ModelProto()
    wide.CopyFrom(model)
    _widen(wide.graph)
    for function in wide.functions:
        for node in function.node:
            _widen_node(node)
    return wide


def _widen(graph: onnx.GraphProto) -> None:
    for info in (*graph.input, *graph.output, *graph.value_info):
        kind = info.type.tensor_type
        if info.type.HasField("tensor_type") and kind.elem_type in FLOATS:
            kind.elem_type = onnx.TensorProto.DOUBLE
    for stored in graph.initializer:
        _widen_tensor(stored)
    for node in graph.node:
        _widen_node(node)


def _widen_node(node: onnx.NodeProto) -> None:
    if node.op_type == "ConstantOfShape" and not node.attribute:  # a float32 zero
        zero = numpy_helper.from_array(np.zeros(1))
        node.attribute.append(onnx.helper.make_attribute("value", zero))
    for attribute in node.attribute:
        if attribute.HasField("t"):
            _widen_tensor(attribute.t)
        if attribute.HasField("g"):
            _widen(attribute.g)
        if attribute.name in TYPES:
            attribute.i = onnx.TensorProto.DOUBLE if attribute.i in FLOATS else attribute.i
        if attribute.name in ("value_float", "value_floats"):
            values = attribute.f if attribute.name == "value_float" else list(attribute.floats)
            stored = numpy_helper.from_array(np.asarray(values, np.float64))
            attribute.CopyFrom(onnx.helper.make_attribute("value", stored))


def _widen_tensor(stored: onnx.TensorProto) -> None:
    if stored.data_type in FLOATS:
        values = numpy_helper.to_array(stored).astype(np.float64)
        stored.CopyFrom(numpy_helper.from_array(values, stored.name))
