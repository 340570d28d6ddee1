"""What an imported model is made of, without a framework: its graph, its calls, its weights."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from auditor.errors import UnreadableModel
from auditor.formats.limits import Limits
from auditor.formats.onnx_bodies import lay_out_bodies
from auditor.formats.onnx_calls import layer_graph
from auditor.formats.onnx_functions import expand_functions
from auditor.formats.onnx_model import OnnxGraph, OnnxModel, OnnxNode
from auditor.formats.onnx_order import in_order
from auditor.formats.onnx_tensors import StoredTensor, is_float
from auditor.formats.onnx_values import Values
from auditor.graph.layer_graph import LayerGraph
from auditor.onnx_import.interpreter.schema import inputs_with_gradient
from auditor.onnx_import.tensor_places import Place, decoded_places

#: The attribute that tells a node's number while the graph is read as calls. No file can name it.
NUMBER = "\0number"
#: What the place of a weight begins with that is computed of stored tensors.
COMPUTED = "\0computed"


@dataclass(frozen=True, kw_only=True)
class WeightPlan:
    """One weight: the tensor at `place`, held by the layer that uses it first."""

    place: Place
    layer: str
    name: str
    trainable: bool


@dataclass(frozen=True, kw_only=True)
class Blueprint:
    """A decoded model, the nodes of each call by number, and its weights.

    Nodes are numbered as they stand, those of graphs within a node after it.
    """

    model: OnnxModel
    calls: Mapping[str, tuple[int, ...]]
    layers: Mapping[str, str]
    weights: tuple[WeightPlan, ...] = ()
    graph: LayerGraph | None = field(default=None, compare=False)


def blueprint(model: OnnxModel, limits: Limits, source: str) -> Blueprint:
    """What a decoded model is made of, by the calls and weights that its static graph has.

    Raises `UnreadableModel` as the reader of static graphs does.
    """
    read = {
        id(tensor.read): place
        for place, tensor in decoded_places(model).items()
        if is_float(tensor.dtype)
    }
    model = inlined(model, limits, source)
    settings = set(_settings(model.graph, model.opsets, {}))
    places = {reader: place for reader, place in read.items() if reader not in settings}
    flat, graph = _static(_numbered(model), limits, source)
    numbers: dict[str, list[int]] = {}
    for node in flat.nodes:
        number = node.attributes.get(NUMBER)
        label = node.name or next(iter(node.outputs), "")
        numbers.setdefault(label, []).append(number if isinstance(number, int) else -1)
    calls: dict[str, tuple[int, ...]] = {}
    for call in graph.calls:
        if call.kind == "If":
            continue  # the calls of its branches are calls of the model, one branch's or both's
        found = [numbers.get(label, []) for label in call.nodes]
        # A label that several nodes have tells none of them.
        if all(len(one) == 1 and one[0] >= 0 for one in found) and found:
            calls[call.id] = tuple(number for (number,) in found)
    return Blueprint(
        model=model,
        calls=calls,
        layers={call.id: call.layer for call in graph.calls},
        weights=tuple(_weights(graph, calls, places)),
        graph=graph,
    )


def inlined(model: OnnxModel, limits: Limits, source: str) -> OnnxModel:
    """The model with its functions' nodes in place of calls, where no graph is within them.

    Functions with graphs in their nodes, or called from one, run as functions.
    """
    within = any(True for function in model.functions for n in function.nodes for _ in n.graphs)
    called = {(function.domain, function.name) for function in model.functions}
    inside = any(
        (inner.domain, inner.op_type) in called
        for node in model.graph.nodes
        for graph in node.graphs
        for inner in walk(graph.nodes)
    )
    return model if within or inside else expand_functions(model, limits, source)


def walk(nodes: Sequence[OnnxNode]) -> Iterator[OnnxNode]:
    """All nodes in the order of their numbers."""
    for node in nodes:
        yield node
        for graph in node.graphs:
            yield from walk(graph.nodes)


def _numbered(model: OnnxModel) -> OnnxModel:
    count = iter(range(10**9))
    return replace(model, graph=_number_graph(model.graph, count))


def _number_graph(graph: OnnxGraph, count: Iterator[int]) -> OnnxGraph:
    return replace(graph, nodes=tuple(_number(node, count) for node in graph.nodes))


def _number(node: OnnxNode, count: Iterator[int]) -> OnnxNode:
    attributes: dict[str, Any] = {NUMBER: next(count)}
    for name, value in node.attributes.items():
        if isinstance(value, OnnxGraph):
            value = _number_graph(value, count)
        elif isinstance(value, tuple) and value and isinstance(value[0], OnnxGraph):
            value = tuple(_number_graph(g, count) for g in value if isinstance(g, OnnxGraph))
        attributes[name] = value
    return replace(node, attributes=attributes)


def _static(model: OnnxModel, limits: Limits, source: str) -> tuple[OnnxGraph, LayerGraph]:
    if not model.graph.nodes:
        raise UnreadableModel(f"{source}: not an ONNX model that computes: its graph has no nodes")
    try:
        flat = expand_functions(lay_out_bodies(model, limits, source), limits, source)
        graph = in_order(flat.graph, source)
        values = Values(graph=graph, opset=flat.opsets.get("", 0))
        return graph, layer_graph(graph, values, "model", model.writer)
    except RecursionError as error:
        raise UnreadableModel(f"{source}: damaged ONNX model: graphs nested too deep") from error


def _weights(
    graph: LayerGraph, calls: Mapping[str, Sequence[int]], places: Mapping[int, Place]
) -> Iterator[WeightPlan]:
    """The float tensors that calls hold as weights, each once."""
    seen: set[Place] = set()
    for call in graph.calls:
        if call.id not in calls:
            continue
        for weight in call.weights:
            if not is_float(weight.dtype) or not weight.size:
                continue
            literal = weight.role == "other" and not weight.trainable
            if weight.read is None:
                found: list[Place] = [(COMPUTED, weight.name)]
            else:
                found = [places[one] for one in _stored(weight.read) if one in places]
            for place in found:
                if place not in seen and not literal:
                    seen.add(place)
                    yield WeightPlan(
                        place=place,
                        layer=call.layer,
                        name=weight.role,
                        trainable=call.trainable and weight.trainable,
                    )


def _settings(
    graph: OnnxGraph, opsets: Mapping[str, int], around: Mapping[str, StoredTensor]
) -> Iterator[int]:
    """The identities of the readers of tensors that no gradient belongs to, as scales of Resize."""
    tensors = {**around, **graph.tensors}
    for node in graph.nodes:
        for inner in node.graphs:
            yield from _settings(inner, opsets, tensors)
        for value in node.attributes.values():
            if node.op_type == "Constant" and isinstance(value, StoredTensor):
                tensors[node.outputs[0]] = value
        for name, takes in zip(node.inputs, inputs_with_gradient(node, opsets), strict=False):
            if not takes and name in tensors:
                yield id(tensors[name].read)


def _stored(reader: Any) -> Iterator[int]:
    """The identities of the readers of stored tensors behind a reader: views show others'."""
    waiting = [reader]
    while waiting:
        one = waiting.pop()
        yield id(one)
        waiting += [inner for inner in (getattr(one, "read", None),) if inner is not None]
        waiting += getattr(one, "reads", ())
