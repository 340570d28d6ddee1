"""Where in a model each tensor is stored: one place for its protobuf and its decoded form."""

from __future__ import annotations

from collections.abc import Iterator

import onnx

from auditor.formats.onnx_model import OnnxGraph, OnnxModel, OnnxNode
from auditor.formats.onnx_tensors import StoredTensor

#: Names of initializers, and index and attribute of nodes, on the way down from the model.
Place = tuple[int | str, ...]
#: What the place of a function's tensor begins with, before the function's number.
FUNCTION = "\0function"


def decoded_places(model: OnnxModel) -> dict[Place, StoredTensor]:
    """All tensors of a decoded model by place."""
    places = dict(_of_graph(model.graph, ()))
    for number, function in enumerate(model.functions):
        places.update(_of_nodes(function.nodes, (FUNCTION, number)))
    return places


def _of_graph(graph: OnnxGraph, place: Place) -> Iterator[tuple[Place, StoredTensor]]:
    for name, tensor in graph.tensors.items():
        yield (*place, name), tensor
    yield from _of_nodes(graph.nodes, place)


def _of_nodes(nodes: tuple[OnnxNode, ...], place: Place) -> Iterator[tuple[Place, StoredTensor]]:
    for index, node in enumerate(nodes):
        for name, value in node.attributes.items():
            if isinstance(value, StoredTensor):
                yield (*place, index, name), value
        for name, graph in node.named_graphs:
            yield from _of_graph(graph, (*place, index, name))


def proto_places(model: onnx.ModelProto) -> dict[Place, onnx.TensorProto]:
    """All dense tensors of a model's protobuf by place."""
    places = dict(_in_graph(model.graph, ()))
    for number, function in enumerate(model.functions):
        places.update(_in_nodes(function.node, (FUNCTION, number)))
    return places


def _in_graph(graph: onnx.GraphProto, place: Place) -> Iterator[tuple[Place, onnx.TensorProto]]:
    for tensor in graph.initializer:
        yield (*place, tensor.name), tensor
    yield from _in_nodes(graph.node, place)


def _in_nodes(nodes: object, place: Place) -> Iterator[tuple[Place, onnx.TensorProto]]:
    for index, node in enumerate(nodes):  # type: ignore[arg-type, var-annotated]
        for attribute in node.attribute:
            name = attribute.name
            if attribute.HasField("t"):
                yield (*place, index, name), attribute.t
            if attribute.HasField("g"):
                yield from _in_graph(attribute.g, (*place, index, name))
            for number, graph in enumerate(attribute.graphs):
                yield from _in_graph(graph, (*place, index, f"{name}_{number}"))
