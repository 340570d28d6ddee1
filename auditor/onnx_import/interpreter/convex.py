"""Layer calls whose nodes can run together: nothing outside comes between them."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

import networkx as nx

from auditor.formats.onnx_model import OnnxGraph, OnnxNode

#: A call, or the index of a node that belongs to none.
Unit = str | int


def uses(node: OnnxNode) -> tuple[str, ...]:
    """Values a node uses, each once: its inputs, and what graphs within it take from around it."""
    names = dict.fromkeys(filter(None, node.inputs))
    for graph in node.graphs:
        names.update(dict.fromkeys(_taken(graph)))
    return tuple(names)


def _taken(graph: OnnxGraph) -> Iterator[str]:
    own = {*graph.tensors, *(name for name, _ in graph.inputs)}
    own.update(name for node in graph.nodes for name in node.outputs)
    for node in graph.nodes:
        yield from (name for name in uses(node) if name not in own)
    yield from (name for name in graph.outputs if name not in own)


def without_circles(
    nodes: Sequence[OnnxNode], needed: Sequence[int], calls: Mapping[str, Sequence[int]]
) -> dict[str, list[int]]:
    """The calls' nodes, by index, so that no call waits for what waits for it.

    What is between nodes of one call and belongs to none, which is arithmetic on shapes, joins the
    call. Calls that are then still between each other's nodes are left out.
    """
    kept = {call: list(found) for call, found in calls.items()}
    before = _before(nodes, needed)
    after: dict[int, set[int]] = {index: set() for index in needed}
    for index, sources in before.items():
        for source in sources:
            after[source].add(index)
    unit = _units(needed, kept)
    for call in sorted(call for call in _in_circles(before, unit) if isinstance(call, str)):
        behind = _reached(kept[call], after, unit)
        between = behind & _reached(kept[call], before, unit)
        kept[call] = sorted({*kept[call], *between})
        unit.update(dict.fromkeys(between, call))
    while circle := [call for call in _in_circles(before, unit) if isinstance(call, str)]:
        for call in circle:
            del kept[call]
        unit = _units(needed, kept)
    return kept


def _before(nodes: Sequence[OnnxNode], needed: Sequence[int]) -> dict[int, set[int]]:
    """The nodes each node takes from, by index."""
    producer = {name: index for index in needed for name in nodes[index].outputs if name}
    return {
        index: {producer[name] for name in uses(nodes[index]) if name in producer}
        for index in needed
    }


def _units(needed: Sequence[int], calls: Mapping[str, Sequence[int]]) -> dict[int, Unit]:
    units: dict[int, Unit] = {index: index for index in needed}
    for call, found in calls.items():
        units.update(dict.fromkeys(found, call))
    return units


def _in_circles(before: Mapping[int, set[int]], unit: Mapping[int, Unit]) -> set[Unit]:
    graph: nx.DiGraph[Unit] = nx.DiGraph()
    graph.add_edges_from(
        (unit[source], unit[index])
        for index, sources in before.items()
        for source in sources
        if unit[source] != unit[index]
    )
    components = nx.strongly_connected_components(graph)
    return {one for component in components if len(component) > 1 for one in component}


def _reached(
    start: Sequence[int], steps: Mapping[int, set[int]], unit: Mapping[int, Unit]
) -> set[int]:
    """Nodes of no call that are reached from these through such nodes alone."""
    found: set[int] = set()
    waiting = list(start)
    while waiting:
        for index in steps[waiting.pop()]:
            if index not in found and not isinstance(unit[index], str):
                found.add(index)
                waiting.append(index)
    return found
