"""Nodes that say nothing: exporters leave many, and patterns are the same without them.

Some give what they take: an Identity, a Cast to the type at hand. Of others only the shape is asked
for, to compute another shape with.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from auditor.formats.onnx_model import OnnxGraph, OnnxNode
from auditor.formats.onnx_order import needs
from auditor.formats.onnx_values import Values
from auditor.graph.layer_graph import Shape

#: Operators that change neither values nor their order where the shape stays as it is.
RESHAPING = frozenset({"Expand", "Flatten", "Reshape", "Squeeze", "Unsqueeze"})
#: Operators that change shape or order at most.
LAYOUT = RESHAPING | {"Cast", "Identity", "Slice", "Split", "Transpose"}
#: Operators that give their one input.
MERGING = frozenset({"Concat", "Max", "Mean", "Min", "Sum"})


@dataclass(frozen=True)
class Silence:
    """A graph whose nodes take what stands behind `silent` ones, by index of these.

    The silent nodes keep their places among the nodes; nothing takes what they give.
    """

    graph: OnnxGraph
    silent: Mapping[int, str]


def without_silent(graph: OnnxGraph, values: Values, nodes: frozenset[int]) -> Silence:
    """The graph with uses of silent nodes' outputs, among the nodes at these indices, replaced.

    A node that gives an output of the model stays, and one whose output a graph within a node
    takes: those names have to exist.
    """
    kept = set(graph.outputs)
    for node in graph.nodes:
        kept.update(name for name in needs(node) if name not in node.inputs)
    source: dict[str, str] = {}
    silent: dict[int, str] = {}
    changed: list[OnnxNode] = []
    for index, node in enumerate(graph.nodes):
        if any(name in source for name in node.inputs):
            inputs = tuple(source.get(name, name) for name in node.inputs)
            node = replace(node, inputs=inputs)
        if index in nodes and _is_silent(node, values) and node.outputs[0] not in kept:
            silent[index] = source[node.outputs[0]] = node.inputs[0]
        changed.append(node)
    silent.update(_of_shape_alone(changed, values, nodes - silent.keys(), kept))
    return Silence(replace(graph, nodes=tuple(changed)), silent)


def _is_silent(node: OnnxNode, values: Values) -> bool:
    if node.domain or len(node.outputs) != 1 or not node.inputs or not node.inputs[0]:
        return False
    if node.outputs[0] in values.fixed:
        return False
    before, after = node.inputs[0], node.outputs[0]
    if node.op_type == "Identity":
        return True
    if node.op_type in ("Cast", "CastLike"):
        return bool(values.dtype(before)) and values.dtype(before) == values.dtype(after)
    if node.op_type in MERGING:
        return len(node.inputs) == 1
    if node.op_type in RESHAPING:
        return _same(values.shape(before), values.shape(after))
    if node.op_type == "Transpose":
        perm = node.integers("perm")
        return perm is not None and perm == tuple(range(len(perm)))
    return False


def _of_shape_alone(
    changed: Sequence[OnnxNode], values: Values, nodes: frozenset[int], kept: set[str]
) -> dict[int, str]:
    """Nodes of which only arithmetic on shapes takes anything, by index, and what each takes."""
    used = set(kept)
    found: dict[int, str] = {}
    for index in sorted(nodes, reverse=True):
        node = changed[index]
        if node.op_type in LAYOUT and not node.domain and used.isdisjoint(node.outputs):
            data = [name for name in node.inputs if name and name not in values.fixed]
            if len(data) == 1:
                found[index] = data[0]
                continue
        used.update(needs(node))
    return found


def _same(before: Shape | None, after: Shape | None) -> bool:
    return before is not None and before == after and None not in before


def attributed(
    silence: Silence, groups: Sequence[tuple[OnnxNode, ...]], outputs: Mapping[str, int]
) -> list[tuple[OnnxNode, ...]]:
    """The nodes of each group, with the silent nodes behind it.

    `outputs` tells which group gives a value. Behind an input of the model a silent node belongs
    to the first group that takes that input.
    """
    users: dict[str, int] = {}
    for place, nodes in enumerate(groups):
        for node in nodes:
            for name in node.inputs:
                users.setdefault(name, place)
    result = [list(nodes) for nodes in groups]
    for index, source in silence.silent.items():
        around = outputs if source in outputs else users
        if source in around:
            result[around[source]].append(silence.graph.nodes[index])
    return [tuple(nodes) for nodes in result]
