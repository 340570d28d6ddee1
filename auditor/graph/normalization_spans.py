"""Spans without normalization: how far a signal goes before its scale is set again."""

from __future__ import annotations

from dataclasses import dataclass

from auditor.graph.layer_graph import LayerCall, LayerGraph
from auditor.graph.operators import KERNEL_OPS, NORMALIZATION_OPS


@dataclass(frozen=True, kw_only=True)
class NormalizationSpan:
    """A longest way through calls that are connected without crossing a normalization.

    calls: the way, from its first kernel-bearing call to its last. kernels: how many of them bear a
    kernel. opened, closed: the normalization directly before the first call or behind the last,
    None where there is none (an input or a merge comes before, an output or a merge behind).
    """

    calls: tuple[LayerCall, ...]
    kernels: int
    opened: LayerCall | None
    closed: LayerCall | None


def normalization_spans(graph: LayerGraph) -> tuple[NormalizationSpan, ...]:
    """One span for each part that the graph falls into when its normalizations are taken out.

    In the order of their first calls; parts without a kernel have none. Where branches share a
    part, as all blocks on one residual stream may, it is their longest way that counts, by calls
    with a kernel: a skip connection makes no span longer. Linear in calls and edges.
    """
    parts = _parts(graph)
    most: dict[str, tuple[int, str | None]] = {}
    ends: dict[str, str] = {}
    for call in graph.calls:
        if call.op in NORMALIZATION_OPS:
            continue
        best: tuple[int, str | None] = (0, None)
        for source in graph.predecessors(call.id):
            count = most.get(source.id, best)[0]
            if count > best[0]:
                best = (count, source.id)
        count = best[0] + (call.op in KERNEL_OPS)
        most[call.id] = (count, best[1])
        part = parts[call.id]
        if count > most[ends.get(part, call.id)][0] or part not in ends:
            ends[part] = call.id
    spans = [
        _span(graph, _way(graph, most, end), most[end][0])
        for end in ends.values()
        if most[end][0] > 0
    ]
    order = {call.id: index for index, call in enumerate(graph.calls)}
    return tuple(sorted(spans, key=lambda span: order[span.calls[0].id]))


def _parts(graph: LayerGraph) -> dict[str, str]:
    """For every call but normalizations: one and the same member for all of its part."""
    parts: dict[str, str] = {}
    for call in graph.calls:
        if call.op in NORMALIZATION_OPS or call.id in parts:
            continue
        parts[call.id] = call.id
        pending = [call.id]
        while pending:
            place = pending.pop()
            for near in (*graph.predecessors(place), *graph.successors(place)):
                if near.op not in NORMALIZATION_OPS and near.id not in parts:
                    parts[near.id] = call.id
                    pending.append(near.id)
    return parts


def _way(
    graph: LayerGraph, most: dict[str, tuple[int, str | None]], end: str
) -> tuple[LayerCall, ...]:
    way: list[LayerCall] = []
    step: str | None = end
    while step is not None:
        way.append(graph.by_id[step])
        step = most[step][1]
    return tuple(reversed(way))


def _span(graph: LayerGraph, way: tuple[LayerCall, ...], kernels: int) -> NormalizationSpan:
    before = graph.predecessors(way[0].id)
    behind = graph.successors(way[-1].id)
    return NormalizationSpan(
        calls=way,
        kernels=kernels,
        opened=before[0] if len(before) == 1 and before[0].op in NORMALIZATION_OPS else None,
        closed=behind[0] if len(behind) == 1 and behind[0].op in NORMALIZATION_OPS else None,
    )
