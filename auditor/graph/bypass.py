"""Whether signal and gradient have a way around some calls."""

from __future__ import annotations

from collections.abc import Iterable

import networkx as nx

from auditor.graph.layer_graph import LayerGraph
from auditor.graph.operators import Op


def bypassed(graph: LayerGraph, calls: Iterable[str]) -> bool:
    """Whether every output that depends on an input still does so without these calls."""
    removed = set(calls)
    inputs = [call.id for call in graph.calls if call.op is Op.INPUT]
    before = _reached(graph, inputs, frozenset())
    after = _reached(graph, inputs, frozenset(removed))
    return all(
        call_id in after and call_id not in removed
        for call_id, _ in graph.outputs
        if call_id in before
    )


def _reached(graph: LayerGraph, inputs: list[str], removed: frozenset[str]) -> set[str]:
    view = nx.restricted_view(graph.digraph, removed, [])
    reached: set[str] = set()
    for entry in inputs:
        if entry not in removed:
            reached |= {entry} | nx.descendants(view, entry)
    return reached
