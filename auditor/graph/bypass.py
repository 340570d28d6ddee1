"""Whether signal and gradient have a way around some calls."""

from __future__ import annotations

from collections.abc import Iterable

from auditor.graph.layer_graph import LayerGraph
from auditor.graph.operators import Op


def bypassed(graph: LayerGraph, calls: Iterable[str]) -> bool:
    """Whether every output that depends on an input still does so without these calls."""
    removed = frozenset(calls)
    tree = graph.dominators
    outputs = [call.id for call in graph.output_calls if call.id in tree]
    if any(tree.dominates(call_id, output) for call_id in removed for output in outputs):
        return False
    # Where no call stands in every way by itself, several may do so together.
    return len(removed) < 2 or set(outputs) <= _reached(graph, removed)


def _reached(graph: LayerGraph, removed: frozenset[str]) -> set[str]:
    """What the inputs reach without the calls removed."""
    reached: set[str] = set()
    for call in graph.calls:
        if call.id not in removed and (
            call.op is Op.INPUT
            or any(source.id in reached for source in graph.predecessors(call.id))
        ):
            reached.add(call.id)
    return reached
