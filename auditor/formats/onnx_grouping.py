"""ONNX nodes that form one layer, found in a graph by the patterns of `onnx_layers`.

A pattern matches only where nobody outside looks at a value inside. Nodes that no pattern takes are
groups of one.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from auditor.formats.onnx_layers import DATA, LAYERS, Layer
from auditor.formats.onnx_model import OnnxGraph, OnnxNode
from auditor.formats.onnx_patterns import Match, Matcher, ending_types
from auditor.formats.onnx_values import Values


@dataclass(frozen=True, kw_only=True)
class Group:
    """Nodes that form one call, in topological order.

    `kernel` is the node whose attributes configure the call, None where no single one does; `data`
    names the values it takes that the input changes, `fixed` pairs of role and value of the
    others, for a layer that a pattern found; a group of one leaves both to its operator.
    """

    nodes: tuple[OnnxNode, ...]
    outputs: tuple[str, ...]
    layer: Layer | None = None
    kernel: OnnxNode | None = None
    data: tuple[str, ...] = ()
    fixed: tuple[tuple[str, str], ...] = ()
    numbers: Mapping[str, float] = field(default_factory=dict)


def group_nodes(graph: OnnxGraph, values: Values, nodes: Sequence[int]) -> tuple[Group, ...]:
    """Groups of the nodes at these indices of an ordered graph, in topological order.

    Patterns are tried from the end of the graph, so that what ends a layer meets its longest form
    first; a node belongs to one group.
    """
    matcher = Matcher(graph, values)
    wanted = set(nodes)
    groups: list[tuple[int, Group]] = []
    for index in sorted(wanted, reverse=True):
        if index in matcher.taken:
            continue
        node = graph.nodes[index]
        found = _first_match(matcher, node) if len(node.outputs) == 1 else None
        if found is not None and found[1].nodes <= wanted:
            layer, match = found
            matcher.taken.update(match.nodes)
            groups.append((index, _group(graph, layer, match, node)))
    groups.extend(
        (index, Group(nodes=(graph.nodes[index],), outputs=graph.nodes[index].outputs))
        for index in wanted - matcher.taken
    )
    # Nothing inside a group is used elsewhere, so the place of its last node is the group's.
    return tuple(group for _, group in sorted(groups, key=lambda pair: pair[0]))


def _first_match(matcher: Matcher, node: OnnxNode) -> tuple[Layer, Match] | None:
    for layer in _ENDING_IN.get(node.op_type, ()):
        match = matcher.match(layer.pattern, node.outputs[0])
        if match is not None and match.values.get(DATA):
            return layer, match
    return None


def _by_last_node(layers: Sequence[Layer]) -> Mapping[str, tuple[Layer, ...]]:
    """Layers by the operator types their patterns can end in, in the order of the table."""
    ends = {layer: ending_types(layer.pattern) for layer in layers}
    types = frozenset().union(*ends.values())
    return {kind: tuple(layer for layer in layers if kind in ends[layer]) for kind in types}


_ENDING_IN = _by_last_node(LAYERS)


def _group(graph: OnnxGraph, layer: Layer, match: Match, last: OnnxNode) -> Group:
    nodes = tuple(graph.nodes[index] for index in sorted(match.nodes))
    return Group(
        nodes=nodes,
        outputs=last.outputs,
        layer=layer,
        kernel=next((node for node in nodes if node.op_type == layer.kind), None),
        data=(match.values[DATA],),
        fixed=tuple((role, name) for role, name in match.values.items() if role != DATA),
        numbers=match.numbers,
    )
