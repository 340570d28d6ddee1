"""Depth, longest paths, reachability and plain chains in a layer graph.

Everything here is linear in calls and edges, and nothing recurses.
"""

from __future__ import annotations

from collections.abc import Mapping

from auditor.graph.layer_graph import LayerCall, LayerGraph
from auditor.graph.operators import KERNEL_OPS, Op


def topological_depth(graph: LayerGraph) -> Mapping[str, int]:
    """For every call: tensors on the longest path that ends with it; 0 for one that takes none."""
    depth: dict[str, int] = {}
    for call in graph.calls:
        depth[call.id] = max(
            (depth[source.id] + 1 for source in graph.predecessors(call.id)), default=0
        )
    return depth


def kernel_depth(graph: LayerGraph) -> Mapping[str, int]:
    """For every call: kernel-bearing calls on the longest path that ends with it, itself too."""
    depth: dict[str, int] = {}
    for call in graph.calls:
        before = max((depth[source.id] for source in graph.predecessors(call.id)), default=0)
        depth[call.id] = before + (call.op in KERNEL_OPS)
    return depth


def longest_path(graph: LayerGraph) -> tuple[LayerCall, ...]:
    """The calls of a longest path from an input to an output, in order; empty where there is none.

    Among paths of one length it is that whose calls stand first.
    """
    longest: dict[str, tuple[int, str | None]] = {}
    for call in graph.calls:
        if call.op is Op.INPUT:
            longest[call.id] = (1, None)
            continue
        best: tuple[int, str | None] | None = None
        for source in graph.predecessors(call.id):
            length = longest.get(source.id, (0, None))[0]
            if length and (best is None or length + 1 > best[0]):
                best = (length + 1, source.id)
        if best is not None:
            longest[call.id] = best
    ends = [call for call in graph.output_calls if call.id in longest]
    if not ends:
        return ()
    step: str | None = max(ends, key=lambda call: longest[call.id][0]).id
    path: list[LayerCall] = []
    while step is not None:
        path.append(graph.by_id[step])
        step = longest[step][1]
    return tuple(reversed(path))


def trunk(graph: LayerGraph) -> tuple[LayerCall, ...]:
    """Calls on some way from an input to an output, in topological order."""
    toward = reaching_outputs(graph)
    return tuple(call for call in graph.calls if call.id in toward and call.id in graph.dominators)


def reaching_outputs(graph: LayerGraph) -> frozenset[str]:
    """Ids of the calls an output depends on, the outputs' own included."""
    reaching = {call_id for call_id, _ in graph.outputs}
    for call in reversed(graph.calls):
        if call.id in reaching:
            reaching.update(source.id for source in graph.predecessors(call.id))
    return frozenset(reaching)


def before_kernels(graph: LayerGraph) -> frozenset[str]:
    """Ids of the calls that a kernel-bearing call follows, near or far. The rest are heads."""
    followed: set[str] = set()
    for call in reversed(graph.calls):
        if call.id in followed or call.op in KERNEL_OPS:
            followed.update(source.id for source in graph.predecessors(call.id))
    return frozenset(followed)


def calls_between(graph: LayerGraph, entry: str | None, end: str) -> frozenset[str]:
    """Ids of the calls on some way from `entry`, a dominator of `end`, to `end`; both left out.

    `entry` None is the root of the dominator tree: all that `end` takes of the inputs. The cost is
    that of the calls found and their edges.
    """
    found: set[str] = set()
    pending = [end]
    while pending:
        for source in graph.predecessors(pending.pop()):
            if source.id != entry and source.id in graph.dominators and source.id not in found:
                found.add(source.id)
                pending.append(source.id)
    return frozenset(found)


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
