"""Runs an ONNX graph on values that are known and tensors of the running Keras backend."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from auditor.formats.limits import DEFAULT_LIMITS, Limits
from auditor.formats.onnx_model import OnnxFunction, OnnxGraph, OnnxModel, OnnxNode
from auditor.formats.onnx_tensors import StoredTensor
from auditor.onnx_import.interpreter import bounds
from auditor.onnx_import.interpreter.control import CONTROL
from auditor.onnx_import.interpreter.function_bodies import Body, body_of, schema_body
from auditor.onnx_import.interpreter.host_call import host_call
from auditor.onnx_import.interpreter.reference import NoReference, Reference
from auditor.onnx_import.interpreter.schedule import Step, schedule
from auditor.onnx_import.interpreter.schema import resolve, settled, stored_values
from auditor.onnx_import.interpreter.scope import Scope
from auditor.onnx_import.interpreter.value import all_known, dtype_of, shape_of, tensor
from auditor.onnx_import.operators import load_operators
from auditor.onnx_import.operators.table import TABLE, Node, Unsupported, Value, is_known
from auditor.onnx_import.operators.tensors import is_float
from auditor.onnx_import.refused import NotImportable

#: Operators that hand values on as they are, for which `onnx.reference` has another form of empty.
OF_SEQUENCES = frozenset(
    {"Optional", "OptionalGetElement", "OptionalHasElement", "SequenceAt", "SequenceConstruct"}
    | {"SequenceErase", "SequenceInsert", "SequenceLength"}
)
#: Runs the nodes of a layer call in the scope they stand in; what it gives is in the scope then.
RunCall = Callable[[Step, Scope], None]
#: The value of a stored tensor, where it is not its stored one: a weight.
Held = Callable[[StoredTensor], Value | None]


@dataclass
class _Frame:
    """The operator sets that hold where nodes stand, and how deep that is."""

    opsets: Mapping[str, int]
    reference: Reference
    depth: int = 0


@dataclass(eq=False)
class Interpreter:
    """One model, to be run any number of times.

    source: what messages call the model. calls: the layer call of a node, by the `id` of the
    node. held: gives weights their present values. hosted: the nodes that ran as constants, and
    why; they are gathered while the model runs.
    """

    model: OnnxModel
    source: str
    limits: Limits = DEFAULT_LIMITS
    calls: Mapping[int, str] = field(default_factory=dict)
    run_call: RunCall | None = None
    held: Held | None = None
    hosted: dict[str, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        load_operators()
        self._functions = {(f.domain, f.name, f.overload): f for f in self.model.functions}
        self._resolved: dict[tuple[int, int], tuple[OnnxNode, Node]] = {}
        self._schedules: dict[int, tuple[Any, tuple[Step, ...]]] = {}
        self._bodies: dict[Any, tuple[OnnxNode, Body | None]] = {}
        self._constants: dict[int, tuple[StoredTensor, Value]] = {}
        self._frames = [_Frame(self.model.opsets, Reference(self.model.opsets))]
        self._by_opsets: dict[tuple[tuple[str, int], ...], Reference] = {}
        self._runs = 0

    def run(self, inputs: Mapping[str, Value]) -> list[Value]:
        """The outputs of the model, known ones as NumPy arrays.

        `inputs` by name: NumPy arrays are taken as known, so tensors have to be given for what
        is to be differentiated. Raises `NotImportable` for what cannot be run.
        """
        self._runs = 0
        graph = self.model.graph
        for name, _ in graph.inputs:
            if name not in inputs:
                raise NotImportable(f"{self.source}: input {name!r} is not given")
        scope = Scope(resolve=self.constant, own=dict(inputs))
        # An interpreter that was left by an exception starts afresh.
        del self._frames[1:]
        try:
            return self._graph(graph, scope)
        except Unsupported as error:
            raise self._refused("the graph", error) from error
        except RecursionError as error:
            raise self._refused("the graph", "graphs within graphs nested too deep") from error

    def body(self, graph: OnnxGraph, values: Mapping[str, Value], scope: Scope) -> list[Value]:
        """The outputs of a graph within a node, given its inputs."""
        return self._graph(graph, scope.inner(values))

    def run_nodes(self, step: Step, scope: Scope) -> None:
        """Run the nodes of a step one after the other; their values are in the scope then."""
        for node in step.nodes:
            self.run_node(node, scope)

    def constant(self, stored: StoredTensor) -> Value:
        """The value of a stored tensor: a weight's present one, else the stored one."""
        if self.held is not None:
            held = self.held(stored)
            if held is not None:
                return held
        if id(stored) not in self._constants:
            self._constants[id(stored)] = stored, stored_values(stored, self.source)
        return self._constants[id(stored)][1]

    def _graph(self, graph: OnnxGraph, scope: Scope) -> list[Value]:
        for name, stored in graph.tensors.items():
            scope.own.setdefault(name, stored)
        self._run(graph, graph.nodes, graph.outputs, scope)
        return [scope[name] for name in graph.outputs]

    def _run(
        self, owner: Any, nodes: Sequence[OnnxNode], outputs: Sequence[str], scope: Scope
    ) -> None:
        if id(owner) not in self._schedules:
            stored = owner.tensors if isinstance(owner, OnnxGraph) else ()
            steps = schedule(nodes, outputs, self.calls, self.source, stored=stored)
            self._schedules[id(owner)] = owner, steps
        for step in self._schedules[id(owner)][1]:
            if step.call and self.run_call is not None:
                self.run_call(step, scope)
            else:
                self.run_nodes(step, scope)

    def run_node(self, source: OnnxNode, scope: Scope) -> None:
        """Run one node; its values are in the scope then. Raises `NotImportable`."""
        self._runs += 1
        if self._runs > 2 * self.limits.calls:
            raise Unsupported(f"more than {2 * self.limits.calls:,} nodes to run, loops unrolled")
        label = _label(source)
        try:
            inputs = [scope[name] for name in source.inputs]
            outputs = self._outputs(source, inputs, scope)
        except NotImportable:
            raise
        except Unsupported as error:
            raise self._refused(label, error, source.op_type) from error
        except RecursionError:
            raise
        except Exception as error:
            # Whatever NumPy or the framework has to say of values that do not fit the operator.
            raise self._refused(label, _told(error), source.op_type) from error
        for name, value in zip(source.outputs, outputs, strict=False):
            if name:
                scope.own[name] = value

    def _refused(self, label: str, error: object, kind: str = "") -> NotImportable:
        reason = str(error)
        return NotImportable(
            f"{self.source}: {label}: {reason}", reason=f"{kind}: {reason}" if kind else reason
        )

    def _outputs(self, source: OnnxNode, inputs: list[Value], scope: Scope) -> tuple[Value, ...]:
        kind = source.op_type
        function = self._functions.get((source.domain, kind, source.overload))
        if function is not None:
            return self._own_function(function, source, inputs)
        if not source.domain and kind == "Constant":
            return (self._constant_node(source),)
        node = self.resolved(source)
        if not source.domain and kind in CONTROL:
            return CONTROL[kind](self, source, node, inputs, scope)
        if any(True for _ in source.graphs):
            raise Unsupported("it has graphs within it")
        bounds.check(node, inputs, self.limits)
        if all_known(inputs):
            return self._known(source, node, inputs)
        entry = TABLE.find(node.domain, node.kind, node.since)
        reason = "it has no form on Keras"
        if entry is not None:
            for given in _more_and_more_known(node, inputs):
                try:
                    return _tuple(entry.run(node, *given))
                except Unsupported as error:
                    reason = str(error)
        body = self._schema_body(source, node, inputs)
        if body is not None:
            return self._run_body(body, source, inputs)
        try:
            outputs = host_call(node, inputs, lambda given: self._reference.run(node, given))
        except NoReference as error:
            raise Unsupported(reason) from error
        self.hosted[_label(source)] = reason
        return outputs

    def _known(self, source: OnnxNode, node: Node, inputs: list[Value]) -> tuple[Value, ...]:
        """The outputs of a node whose inputs are known, by NumPy where that can be had."""
        if not source.domain and source.op_type in OF_SEQUENCES:
            handed_on = TABLE.find("", source.op_type, node.since)
            if handed_on is not None:
                return _tuple(handed_on.run(node, *inputs))
        try:
            return self._reference.run(node, inputs)
        except Unsupported:
            # Not there, or one that fails on what the operator allows.
            entry = TABLE.find(node.domain, node.kind, node.since)
            body = None if entry is not None else self._schema_body(source, node, inputs)
            if body is not None:
                return self._run_body(body, source, inputs)
            if entry is None:
                raise
        given = [tensor(np.asarray(v)) if is_known(v) else v for v in inputs]
        return _tuple(entry.run(node, *given))

    def _constant_node(self, source: OnnxNode) -> Value:
        for name, value in source.attributes.items():
            if isinstance(value, StoredTensor):
                return self.constant(value)
            if name in ("value_float", "value_floats"):
                return np.asarray(value, np.float32)
            if name in ("value_int", "value_ints"):
                return np.asarray(value, np.int64)
            if name in ("value_string", "value_strings"):
                return np.asarray(value, object)
        raise Unsupported("it has no value")

    def resolved(self, source: OnnxNode) -> Node:
        """A node of the model, or of the function that is running, with version and attributes."""
        frame = self._frames[-1]
        key = (id(source), id(frame.opsets))
        if key not in self._resolved:
            self._resolved[key] = source, resolve(source, frame.opsets, self.source)
        return self._resolved[key][1]

    @property
    def _reference(self) -> Reference:
        return self._frames[-1].reference

    def _own_function(
        self, function: OnnxFunction, source: OnnxNode, inputs: list[Value]
    ) -> tuple[Value, ...]:
        key = id(source)
        if key not in self._bodies:
            call = resolve(source, {}, self.source)
            opsets = self._frames[0].opsets
            self._bodies[key] = source, body_of(function, call, opsets)
        body = self._bodies[key][1]
        if body is None:
            raise Unsupported("the function has no body")
        return self._run_body(body, source, inputs)

    def _schema_body(self, source: OnnxNode, node: Node, inputs: list[Value]) -> Body | None:
        key = (id(source), tuple((dtype_of(value), shape_of(value)) for value in inputs))
        if key not in self._bodies:
            opsets = self._frames[-1].opsets
            self._bodies[key] = source, schema_body(node, inputs, opsets, self.limits)
        return self._bodies[key][1]

    def _run_body(self, body: Body, source: OnnxNode, inputs: Sequence[Value]) -> tuple[Value, ...]:
        depth = self._frames[-1].depth + 1
        if depth > self.limits.nesting:
            raise Unsupported(f"functions call functions more than {self.limits.nesting} deep")
        opsets = tuple(sorted(body.opsets.items()))
        reference = self._by_opsets.setdefault(opsets, Reference(body.opsets))
        given = dict.fromkeys(body.inputs)
        given.update(zip(body.inputs, inputs, strict=False))
        scope = Scope(resolve=self.constant, own=dict(given))
        self._frames.append(_Frame(body.opsets, reference, depth))
        try:
            self._run(body, body.nodes, body.outputs, scope)
        finally:
            self._frames.pop()
        wanted = body.outputs[: len(source.outputs)]
        return tuple(
            scope[name] if outside else None
            for name, outside in zip(wanted, source.outputs, strict=False)
        )


def _more_and_more_known(node: Node, inputs: list[Value]) -> Iterator[list[Value]]:
    """The inputs as they are, then with settings known: integers, one float more, all."""
    yield inputs
    floats = [place for place, value in enumerate(inputs) if is_float(dtype_of(value))]
    for places in dict.fromkeys(((), *((place,) for place in floats), tuple(floats))):
        given = settled(node, inputs, floats=places)
        if given is not None:
            yield given


def _label(node: OnnxNode) -> str:
    domain = f"{node.domain}." if node.domain else ""
    output = next(filter(None, node.outputs), "")
    return f"{domain}{node.op_type} {node.name or output!r}"


def _tuple(outputs: Value) -> tuple[Value, ...]:
    return outputs if isinstance(outputs, tuple) else (outputs,)


def _told(error: Exception) -> str:
    first = str(error).strip().partition("\n")[0]
    return f"{type(error).__name__}: {first[:200]}"
