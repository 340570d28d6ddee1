"""Depth, reachability and plain chains in a layer graph."""

from __future__ import annotations

from collections.abc import Mapping

import networkx as nx

from auditor.graph.layer_graph import LayerCall, LayerGraph
from auditor.graph.operators import KERNEL_OPS, Op


def kernel_depth(graph: LayerGraph) -> Mapping[str, int]:
    """For every call: kernel-bearing calls on the longest path that ends with it, itself too."""
    depth: dict[str, int] = {}
    for call in graph.calls:
        before = max((depth[source.id] for source in graph.predecessors(call.id)), default=0)
        depth[call.id] = before + (call.op in KERNEL_OPS)
    return depth


def trunk(graph: LayerGraph) -> tuple[LayerCall, ...]:
    """Calls on some way from an input to an output, in topological order."""
    digraph = graph.digraph
    outputs = {call_id for call_id, _ in graph.outputs}
    inputs = {call.id for call in graph.calls if call.op is Op.INPUT}
    toward = outputs.union(*(nx.ancestors(digraph, output) for output in outputs))
    onward = inputs.union(*(nx.descendants(digraph, entry) for entry in inputs))
    return tuple(call for call in graph.calls if call.id in toward and call.id in onward)


def reaching_outputs(graph: LayerGraph) -> frozenset[str]:
    """Ids of the calls an output depends on, the outputs' own included."""
    outputs = {call_id for call_id, _ in graph.outputs}
    return frozenset(outputs.union(*(nx.ancestors(graph.digraph, output) for output in outputs)))


def plain_chains(graph: LayerGraph) -> tuple[tuple[LayerCall, ...], ...]:
    """Maximal runs in which each call feeds the next one and nothing else does; of two or more."""
    chains: list[tuple[LayerCall, ...]] = []
    placed: set[str] = set()
    for call in graph.calls:
        if call.id in placed:
            continue
        run = [call]
        while (following := only_successor(graph, run[-1])) is not None:
            run.append(following)
        placed.update(member.id for member in run)
        if len(run) > 1:
            chains.append(tuple(run))
    return tuple(chains)


def only_successor(graph: LayerGraph, call: LayerCall) -> LayerCall | None:
    """The next call of a plain chain: the only successor, if this call is its only predecessor."""
    successors = graph.successors(call.id)
    if len(successors) != 1 or len(graph.predecessors(successors[0].id)) != 1:
        return None
    return successors[0]
