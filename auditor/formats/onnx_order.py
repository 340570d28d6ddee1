"""Order of a graph's nodes: every value defined once, and before it is used."""

from __future__ import annotations

import heapq
from dataclasses import replace

from auditor.errors import UnreadableModel
from auditor.formats.onnx_model import OnnxGraph, OnnxNode


def needs(node: OnnxNode) -> tuple[str, ...]:
    """Values a node uses, each once."""
    return tuple(dict.fromkeys(filter(None, node.inputs)))


def in_order(graph: OnnxGraph, source: str) -> OnnxGraph:
    """The graph with its nodes in topological order, and otherwise in the order of the file.

    Raises `UnreadableModel` for a value that is defined twice or not at all, and for a cycle.
    """
    producer: dict[str, int] = {}
    given = {*graph.tensors, *(name for name, _ in graph.inputs)}
    if len(given) < len(graph.tensors) + len(graph.inputs):
        raise _damaged(source, "two inputs have one name")
    for index, node in enumerate(graph.nodes):
        for name in filter(None, node.outputs):
            if name in producer or name in given:
                raise _damaged(source, f"the value {name!r} is defined twice")
            producer[name] = index
    following: list[list[int]] = [[] for _ in graph.nodes]
    awaited = [0] * len(graph.nodes)
    for index, node in enumerate(graph.nodes):
        for name in needs(node):
            if name in producer:
                following[producer[name]].append(index)
                awaited[index] += 1
            elif name not in given:
                raise _damaged(source, f"{node.label} takes {name!r}, which nothing gives")
    for name in graph.outputs:
        if name not in producer and name not in given:
            raise _damaged(source, f"the output {name!r} is given by no node")
    ready = [index for index, count in enumerate(awaited) if not count]
    order: list[int] = []
    while ready:
        index = heapq.heappop(ready)
        order.append(index)
        for after in following[index]:
            awaited[after] -= 1
            if not awaited[after]:
                heapq.heappush(ready, after)
    if len(order) < len(graph.nodes):
        stuck = next(index for index, count in enumerate(awaited) if count)
        raise _damaged(
            source,
            f"nodes depend on each other in a circle, {graph.nodes[stuck].label}"
            " among them or after them",
        )
    return replace(graph, nodes=tuple(graph.nodes[index] for index in order))


def _damaged(source: str, why: str) -> UnreadableModel:
    return UnreadableModel(f"{source}: damaged ONNX model: {why}")
