"""A layer graph cut where all flows through one tensor: the pieces a drawing can set like words."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from auditor.graph.layer_graph import LayerCall, LayerGraph


@dataclass(frozen=True, kw_only=True)
class Segment:
    """Calls between two cuts, in topological order.

    `entry` is the call whose output is all that enters; None for the first segment, and where
    nothing enters. The last call is the only one whose output leaves.
    """

    calls: tuple[LayerCall, ...]
    entry: str | None


def segments(graph: LayerGraph) -> Iterator[Segment]:
    """The graph's segments, in order. Linear in calls and edges.

    A cut falls behind a call whose output is the only tensor still wanted by later calls: in a
    plain chain behind every call, in a residual network behind every block.
    """
    order = _late_sources(graph)
    last_use = {
        source: index
        for index, call in enumerate(order)
        for source in (edge.id for edge in graph.predecessors(call.id))
    }
    entry: str | None = None
    begin = 0
    wanted: set[str] = set()
    for index, call in enumerate(order):
        for source in graph.predecessors(call.id):
            if last_use[source.id] == index:
                wanted.discard(source.id)
        if last_use.get(call.id, -1) > index:
            wanted.add(call.id)
        if wanted <= {call.id}:
            yield Segment(calls=tuple(order[begin : index + 1]), entry=entry)
            entry = call.id if wanted else None
            begin = index + 1


def _late_sources(graph: LayerGraph) -> list[LayerCall]:
    """Calls in topological order, those without inputs directly before what first takes them."""
    order: list[LayerCall] = []
    placed: set[str] = set()
    for call in graph.calls:
        sources = graph.predecessors(call.id)
        if not sources:
            continue
        for source in (*sources, call):
            if source.id not in placed:
                placed.add(source.id)
                order.append(source)
    return order + [call for call in graph.calls if call.id not in placed]
