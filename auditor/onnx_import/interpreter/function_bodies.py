"""Operators that are defined as functions of others, and functions of the model's own."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import onnx
import onnx.defs
import onnx.helper

from auditor.formats.limits import Limits
from auditor.formats.onnx_decoder import Decoder
from auditor.formats.onnx_model import Attribute, OnnxFunction, OnnxNode
from auditor.formats.onnx_tensors import DATA_TYPES, STRING, HeldTensor, StoredTensor
from auditor.onnx_import.interpreter.reference import proto
from auditor.onnx_import.interpreter.value import dtype_of, shape_of
from auditor.onnx_import.operators.table import Node, Unsupported, Value

#: TensorProto.DataType by the name of a dtype; what has none is text.
NUMBERS = {name: number for number, (name, _) in DATA_TYPES.items()}


@dataclass(frozen=True, kw_only=True)
class Body:
    """A function for one call of it: nodes whose attributes are those of the call."""

    inputs: tuple[str, ...]
    outputs: tuple[str, ...]
    nodes: tuple[OnnxNode, ...]
    opsets: Mapping[str, int]


def body_of(function: OnnxFunction, call: Node, opsets: Mapping[str, int]) -> Body:
    """A function's body with the attributes of one call of it put in."""
    values: dict[str, Attribute] = dict(function.defaults)
    values.update({name: _attribute(value) for name, value in call.attributes.items()})
    return Body(
        inputs=function.inputs,
        outputs=function.outputs,
        nodes=tuple(_with_attributes(node, values) for node in function.nodes),
        opsets=opsets,
    )


def schema_body(
    node: Node, inputs: Sequence[Value], opsets: Mapping[str, int], limits: Limits
) -> Body | None:
    """The body that ONNX defines an operator by, for inputs of these types; None without one."""
    schema: Any  # onnx declares none of what it says of functions
    try:
        schema = onnx.defs.get_schema(node.kind, node.since, node.domain)
    except onnx.defs.SchemaError:
        return None
    version = opsets.get("", onnx.defs.onnx_opset_version())
    if schema.has_context_dependent_function:
        stored = _contextual(schema, node, inputs, version)
    elif schema.has_function:
        stored = _fixed(schema, version)
    else:
        return None
    if stored is None:
        return None
    model = onnx.ModelProto(ir_version=8, functions=[stored])
    model.opset_import.extend(stored.opset_import)
    decoded = Decoder(source=f"the body of {node.kind}", limits=limits).model(model)
    return body_of(decoded.functions[0], node, {**opsets, **decoded.opsets})


def _fixed(schema: Any, version: int) -> onnx.FunctionProto | None:
    versions = [known for known in schema.function_opset_versions if known <= version]
    if not versions:
        return _parsed(schema.function_body)
    return _parsed(schema.get_function_with_opset_version(max(versions)))


def _contextual(
    schema: Any, node: Node, inputs: Sequence[Value], version: int
) -> onnx.FunctionProto | None:
    names = [f"i{index}" if value is not None else "" for index, value in enumerate(inputs)]
    outputs = [f"o{index}" for index in range(node.outputs)]
    types = [_type(value) for value in inputs]
    versions = [
        known for known in schema.context_dependent_function_opset_versions if known <= version
    ] or list(schema.context_dependent_function_opset_versions)
    message = proto(node, names, outputs).SerializeToString()
    try:
        stored: Any = schema.get_context_dependent_function_with_opset_version(
            max(versions), message, types
        )
    except Exception as error:  # native code, with classes of its own
        raise Unsupported(f"its body cannot be made for these inputs: {error}") from error
    return _parsed(stored) if stored else None


def _parsed(stored: Any) -> onnx.FunctionProto:
    if isinstance(stored, onnx.FunctionProto):
        return stored
    parsed: onnx.FunctionProto = onnx.FunctionProto.FromString(stored)
    return parsed


def _type(value: Value) -> bytes:
    name, shape = dtype_of(value), shape_of(value)
    if not name:
        return b""
    kind: onnx.TypeProto = onnx.helper.make_tensor_type_proto(NUMBERS.get(name, STRING), shape)
    return bytes(kind.SerializeToString())


def _attribute(value: Any) -> Attribute:
    if isinstance(value, np.ndarray):
        return StoredTensor(
            name="", dtype=str(value.dtype), shape=value.shape, read=HeldTensor(value)
        )
    return value  # type: ignore[no-any-return]


def _with_attributes(node: OnnxNode, values: Mapping[str, Attribute]) -> OnnxNode:
    """The node with what it takes from the call; graphs within it are not looked into."""
    if not node.references:
        return node
    given = {
        name: values[reference]
        for name, reference in node.references.items()
        if values.get(reference) is not None
    }
    return replace(node, attributes={**node.attributes, **given}, references={})
