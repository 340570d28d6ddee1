"""Nodes as operators see them: the version that holds, and the attributes with their defaults."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any
from zlib import crc32

import onnx
import onnx.defs
import onnx.helper
from onnx import numpy_helper

from auditor.formats.onnx_model import Attribute, OnnxGraph, OnnxNode
from auditor.formats.onnx_tensors import StoredTensor
from auditor.onnx_import.interpreter.value import concrete, dtype_of
from auditor.onnx_import.operators.table import Node, Value, is_known
from auditor.onnx_import.operators.tensors import is_float
from auditor.onnx_import.refused import NotImportable

#: Domains an exporter may use without importing them, by the version that then holds.
UNIMPORTED = 1
DIFFERENTIABLE = onnx.defs.OpSchema.DifferentiationCategory.Differentiable
NONDIFFERENTIABLE = onnx.defs.OpSchema.DifferentiationCategory.NonDifferentiable
#: Operators that draw numbers. Without a seed of their own they get one, so that a model gives the
#: same outputs each time.
RANDOM = frozenset(
    {"Bernoulli", "Multinomial", "RandomNormal", "RandomNormalLike", "RandomUniform"}
    | {"RandomUniformLike"}
)


def schema_of(node: OnnxNode, opsets: Mapping[str, int]) -> onnx.defs.OpSchema | None:
    """The operator's schema at the model's version; None where the installed onnx has none."""
    version = opsets.get(node.domain, UNIMPORTED)
    try:
        return onnx.defs.get_schema(node.op_type, version, node.domain)
    except onnx.defs.SchemaError:
        return None


def resolve(node: OnnxNode, opsets: Mapping[str, int], source: str) -> Node:
    """The node with its version and attributes. Raises `NotImportable` for unreadable values."""
    schema = schema_of(node, opsets)
    attributes: dict[str, Any] = {}
    if schema is not None:
        for name, known in schema.attributes.items():
            default = known.default_value
            if default.type != onnx.AttributeProto.UNDEFINED and default.name:
                attributes[name] = _plain(onnx.helper.get_attribute_value(default))
    for name, value in node.attributes.items():
        if not _holds_graph(value):
            attributes[name] = _decoded(value, source)
    if node.op_type in RANDOM and not node.domain:
        attributes.setdefault("seed", float(crc32(node.name.encode())))
    return Node(
        name=node.name,
        domain=node.domain,
        kind=node.op_type,
        since=schema.since_version if schema is not None else opsets.get(node.domain, UNIMPORTED),
        attributes=attributes,
        outputs=last_used(node.outputs),
    )


def settled(node: Node, inputs: Sequence[Value], *, floats: Sequence[int]) -> list[Value] | None:
    """The inputs with those that no gradient belongs to as known values, in eager execution.

    Shapes, axes, scales and ratios are such, by the operator's schema. Those that are floats, and
    may have a derivative all the same, only at the places `floats`. None where nothing changes.
    """
    try:
        formal = onnx.defs.get_schema(node.kind, node.since, node.domain).inputs
    except onnx.defs.SchemaError:
        return None
    given = list(inputs)
    for place, value in enumerate(inputs):
        category = formal[min(place, len(formal) - 1)].differentiation_category if formal else None
        if value is None or is_known(value) or category == DIFFERENTIABLE:
            continue
        if place not in floats and is_float(dtype_of(value)):
            continue
        found = concrete(value)
        if found is not None:
            given[place] = found
    changed = any(a is not b for a, b in zip(given, inputs, strict=True))
    return given if changed else None


def inputs_with_gradient(node: OnnxNode, opsets: Mapping[str, int]) -> tuple[bool, ...]:
    """For each input of a node whether a gradient may belong to it, by the operator's schema.

    Early versions do not say; the latest does, of inputs of the same name.
    """
    schema = schema_of(node, opsets)
    if schema is None or not schema.inputs:
        return (True,) * len(node.inputs)
    latest = onnx.defs.get_schema(node.op_type, node.domain)
    said = {one.name: one.differentiation_category for one in (*schema.inputs, *latest.inputs)}
    names = [one.name for one in schema.inputs]
    return tuple(
        said[names[min(place, len(names) - 1)]] != NONDIFFERENTIABLE
        for place in range(len(node.inputs))
    )


def last_used(names: tuple[str, ...]) -> int:
    """How many names there are up to the last that is not empty."""
    return max((place for place, name in enumerate(names, 1) if name), default=0)


def stored_values(tensor: StoredTensor, source: str) -> Any:
    """A stored tensor's values. Raises `NotImportable` where they cannot be had."""
    if tensor.read is None:
        why = tensor.why or "its values are not in the file"
        raise NotImportable(f"{source}: tensor {tensor.name!r}: {why}", reason=why)
    return tensor.read()


def _holds_graph(value: Attribute) -> bool:
    return isinstance(value, OnnxGraph) or (
        isinstance(value, tuple) and bool(value) and isinstance(value[0], OnnxGraph)
    )


def _decoded(value: Attribute, source: str) -> Any:
    if isinstance(value, StoredTensor):
        return stored_values(value, source)
    if isinstance(value, tuple) and value and isinstance(value[0], StoredTensor):
        tensors = (item for item in value if isinstance(item, StoredTensor))
        return tuple(stored_values(item, source) for item in tensors)
    return value


def _plain(value: Any) -> Any:
    """A schema's default as a decoded attribute would be."""
    if isinstance(value, bytes):
        return value.decode("utf-8", "replace")
    if isinstance(value, onnx.TensorProto):
        return numpy_helper.to_array(value) if value.data_type else None
    if isinstance(value, (list, tuple)) or hasattr(value, "extend"):
        return tuple(_plain(item) for item in value)
    return value
