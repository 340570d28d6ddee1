"""One node computed by `onnx.reference`, in NumPy."""

from __future__ import annotations

import warnings
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import onnx
import onnx.defs
import onnx.helper
from onnx import numpy_helper
from onnx.reference import ReferenceEvaluator
from onnx.reference.op_run import RuntimeContextError, RuntimeImplementationError

from auditor.onnx_import.operators.table import Node, Unsupported, Value

#: The IR version onnx.reference is told; it reads none of what changed between them.
IR_VERSION = 8


class NoReference(Unsupported):
    """An operator that `onnx.reference` does not implement."""


class Reference:
    """Evaluators by node, each made when the node first runs."""

    def __init__(self, opsets: Mapping[str, int]) -> None:
        self._opsets = {"": onnx.defs.onnx_opset_version(), **opsets}
        self._evaluators: dict[tuple[int, tuple[bool, ...]], tuple[Node, ReferenceEvaluator]] = {}

    def run(self, node: Node, inputs: Sequence[Value]) -> tuple[Value, ...]:
        """The outputs of a node whose inputs are all known.

        Raises `NoReference` where there is no implementation, and `Unsupported` where it fails.
        """
        given = tuple(value is not None for value in inputs)
        key = (id(node), given)
        # Warnings of NumPy (a division by zero) say what the model computes, not what is wrong.
        with np.errstate(all="ignore"), warnings.catch_warnings():
            warnings.simplefilter("ignore")
            if key not in self._evaluators:
                # The node is kept, or its number could become another's.
                self._evaluators[key] = node, self._evaluator(node, given)
            feeds = {f"i{index}": value for index, value in enumerate(inputs) if given[index]}
            try:
                outputs = self._evaluators[key][1].run(None, feeds)
            except MemoryError:
                raise
            except (RuntimeImplementationError, RuntimeContextError) as error:
                raise NoReference(_first_line(error)) from error
            except Exception as error:  # NumPy's own, for whatever does not fit
                raise Unsupported(_first_line(error)) from error
        return tuple(_array(value) for value in outputs)

    def _evaluator(self, node: Node, given: Sequence[bool]) -> ReferenceEvaluator:
        names = [f"i{index}" if present else "" for index, present in enumerate(given)]
        outputs = [f"o{index}" for index in range(node.outputs)]
        graph = onnx.GraphProto(name="node")
        graph.node.append(proto(node, names, outputs))
        graph.input.extend(onnx.ValueInfoProto(name=name) for name in names if name)
        graph.output.extend(onnx.ValueInfoProto(name=name) for name in outputs)
        opsets = {node.domain: 1, **self._opsets}
        model = onnx.ModelProto(graph=graph, ir_version=IR_VERSION)
        model.opset_import.extend(
            onnx.OperatorSetIdProto(domain=domain, version=version)
            for domain, version in opsets.items()
        )
        try:
            return ReferenceEvaluator(model)
        except Exception as error:  # not implemented, or attributes that the schema does not allow
            raise NoReference(_first_line(error)) from error


def proto(node: Node, inputs: Sequence[str], outputs: Sequence[str]) -> onnx.NodeProto:
    """The node as protobuf, with these names. Raises `Unsupported` for attributes of no type."""
    made = onnx.NodeProto(op_type=node.kind, domain=node.domain, name=node.name)
    made.input.extend(inputs)
    made.output.extend(outputs)
    try:
        schema = onnx.defs.get_schema(node.kind, node.since, node.domain)
        types = {name: _number(attribute.type) for name, attribute in schema.attributes.items()}
    except onnx.defs.SchemaError:
        types = {}
    for name, value in node.attributes.items():
        if value is None:
            continue
        if isinstance(value, np.ndarray):
            value = numpy_helper.from_array(value)
        elif isinstance(value, tuple) and value and isinstance(value[0], np.ndarray):
            value = [numpy_helper.from_array(item) for item in value]
        try:
            made.attribute.append(
                onnx.helper.make_attribute(name, value, attr_type=types.get(name))
            )
        except (TypeError, ValueError) as error:
            raise Unsupported(f"its attribute {name!r} is not of the type ONNX gives it") from error
    return made


def _number(kind: Any) -> int:
    """An attribute's type as onnx.proto numbers it; the schemas' enumeration has the same."""
    return int(kind.value)


def _array(value: Any) -> Value:
    return np.asarray(value) if isinstance(value, np.generic) else value


def _first_line(error: BaseException) -> str:
    return f"{type(error).__name__}: {str(error).strip().partition(chr(10))[0][:200]}"
