"""The residual stages of a graph: residual blocks in a row whose outputs have the same shape."""

from __future__ import annotations

from collections.abc import Hashable, Mapping, Sequence

from auditor.graph.layer_graph import LayerGraph
from auditor.graph.residual_blocks import Block, BlockKind


def residual_stages(
    graph: LayerGraph, found: Sequence[Block], shapes: Mapping[str, Hashable]
) -> tuple[tuple[Block, ...], ...]:
    """Runs of residual blocks that follow each other on one trunk, with outputs of one shape.

    A block follows another when it begins at or behind its merge with no residual block of the
    same level between them: blocks side by side in two towers, or inside a larger residual block
    and around it, make stages of their own. Linear in calls.

    Args:
        graph: the graph.
        found: its blocks, in the order of their merges (`blocks(graph)`).
        shapes: shape of the output of every measured call, by id. Others end a stage.
    """
    residual = {block.merge.id: block for block in found if block.kind is BlockKind.RESIDUAL}
    nearest: dict[str, str | None] = {}
    for call_id, above in graph.dominators.parents.items():
        nearest[call_id] = (
            call_id if call_id in residual else None if above is None else nearest[above]
        )
    runs: dict[str, list[Block]] = {}  # by the merge that a run ends with so far
    finished: list[list[Block]] = []
    for block in residual.values():
        merge = block.merge.id
        if merge not in shapes:
            continue
        before = None if block.entry is None else nearest[block.entry.id]
        run = None if before is None else runs.get(before)
        last = run[-1].merge.id if run else ""
        if run and residual[last].within == block.within and shapes[last] == shapes[merge]:
            del runs[last]
            run.append(block)
        else:
            run = [block]
            finished.append(run)
        runs[merge] = run
    return tuple(tuple(run) for run in finished)


def inside_residual_blocks(found: Sequence[Block]) -> frozenset[str]:
    """Ids of the calls inside residual blocks, those of smaller blocks in them included."""
    inside: set[str] = set()
    # A block merges before the one that holds it: the outermost come first backwards.
    for block in reversed(found):
        if block.kind is BlockKind.RESIDUAL or block.merge.id in inside:
            inside.update(call.id for call in block.calls)
    return frozenset(inside)
