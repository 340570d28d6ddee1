"""Residual blocks and their kin: where branches part and where they merge again, by dominators.

A block belongs to a merging call. It begins behind the call's immediate dominator, the entry: the
last call that everything in the merge has come through. What lies on the ways from entry to merge
is the block's inside. So a residual unit is found by its Add, whatever its branches are made of, a
squeeze-and-excite gate by its Multiply, a dense unit or a U-Net's long skip by its Concatenate.
"""

from __future__ import annotations

import enum
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace

from auditor.graph.layer_graph import LayerCall, LayerGraph
from auditor.graph.operators import (
    AFFINE_OPS,
    KERNEL_OPS,
    MERGE_OPS,
    NORMALIZATION_OPS,
    POOLING_OPS,
    SHAPE_OPS,
    SUM_OPS,
    TRAINING_ONLY_OPS,
    Op,
)

#: Pass on what they are given, training apart.
IDENTITY_OPS = TRAINING_ONLY_OPS | {Op.IDENTITY, Op.CAST}
#: What a projection shortcut may be made of, without activation: the 1×1 convolution and batch
#: normalization of He et al. 2016 (option B), or pooling and padding (option A).
PROJECTION_OPS = (
    IDENTITY_OPS | AFFINE_OPS | NORMALIZATION_OPS | POOLING_OPS | SHAPE_OPS | {Op.SCALE}
)


class BlockKind(enum.StrEnum):
    """What a block's merge makes of its shortcut."""

    RESIDUAL = "residual"  # a sum of a shortcut and at least one branch that does more
    CONCATENATED = "concatenated"  # the entry itself beside what was made of it: DenseNet, U-Net
    GATED = "gated"  # the entry times what was made of it: squeeze-and-excite, highway gates
    BRANCHED = "branched"  # no shortcut: Inception, towers, maxout


class BranchKind(enum.StrEnum):
    """What a branch does between entry and merge."""

    IDENTITY = "identity"  # nothing, training apart
    PROJECTION = "projection"  # a plain chain without activation: it fits the shape
    TRANSFORM = "transform"  # more than that


class NormPlacement(enum.StrEnum):
    """Where a residual block normalizes."""

    BEFORE = "before"  # the branch begins with it: pre-norm transformers, ResNet-v2
    AFTER = "after"  # only behind the sum: post-norm transformers
    INSIDE = "inside"  # elsewhere in the branch: ResNet-v1
    NONE = "none"


@dataclass(frozen=True, kw_only=True)
class Branch:
    """One way into a merge.

    slot: the merge's input it arrives at. end: its last call; the entry itself for a bare wire.
    kernels: kernel-bearing calls on the longest way from the entry.
    """

    slot: int
    end: LayerCall
    kind: BranchKind
    kernels: int


@dataclass(frozen=True, kw_only=True)
class Block:
    """A merge of branches that part at `entry`.

    entry: the merge's immediate dominator; None where only the inputs together are (a merge of
    several inputs' ways). branches: one for each input of the merge that depends on the model's.
    calls: the calls inside that no smaller block holds, in topological order; a smaller block's
    own calls are its own (`calls_between` gives all). A call inside two blocks of which neither
    holds the other belongs to the one that merges first. within: id of the merge of the smallest
    block that holds this one.
    """

    kind: BlockKind
    merge: LayerCall
    entry: LayerCall | None
    branches: tuple[Branch, ...]
    calls: tuple[LayerCall, ...] = ()
    within: str | None = None
    normalization: NormPlacement = NormPlacement.NONE

    @property
    def shortcut(self) -> Branch | None:
        """The branch that does least: an identity if there is one, else a projection."""
        for kind in (BranchKind.IDENTITY, BranchKind.PROJECTION):
            for branch in self.branches:
                if branch.kind is kind:
                    return branch
        return None

    @property
    def kernels(self) -> int:
        """Kernel-bearing calls on the longest way through the block."""
        return max(branch.kernels for branch in self.branches)


def residual_blocks(graph: LayerGraph) -> tuple[Block, ...]:
    """The blocks whose merge adds to a shortcut (He et al. 2016), in the order of their merges."""
    return tuple(block for block in blocks(graph) if block.kind is BlockKind.RESIDUAL)


def blocks(graph: LayerGraph) -> tuple[Block, ...]:
    """All blocks, in the order of their merges. Near-linear in calls and edges.

    A merge all of whose branches are identities (x + x, a sum of inputs) is no block.
    """
    parted = tuple(_parted(graph))
    owners = _owners(graph, parted)
    inside: dict[str, list[LayerCall]] = {block.merge.id: [] for block in parted}
    for call in graph.calls:
        if call.id in owners:
            inside[owners[call.id]].append(call)
    normalizations = _most(graph, NORMALIZATION_OPS)
    return tuple(
        replace(
            block,
            calls=tuple(inside[block.merge.id]),
            within=owners.get(block.merge.id),
            normalization=_placement(graph, block, inside[block.merge.id], normalizations),
        )
        for block in parted
    )


def _parted(graph: LayerGraph) -> Iterator[Block]:
    """The blocks, but for what lies inside them."""
    tree = graph.dominators
    identities = _chains(graph, IDENTITY_OPS)
    projections = _chains(graph, PROJECTION_OPS)
    kernels = _most(graph, KERNEL_OPS)
    for merge in graph.calls:
        if merge.op not in MERGE_OPS or merge.id not in tree:
            continue
        entry = tree.parent(merge.id)
        level, before = tree.depth(entry), 0 if entry is None else kernels[entry]
        branches = tuple(
            Branch(
                slot=slot,
                end=source,
                kind=_branch_kind(identities[source.id], projections[source.id], level),
                kernels=kernels[source.id] - before,
            )
            for slot, source in enumerate(graph.predecessors(merge.id))
            if source.id in tree
        )
        parts = len({branch.end.id for branch in branches}) > 1
        if parts and any(branch.kind is not BranchKind.IDENTITY for branch in branches):
            yield Block(
                kind=_kind(merge, entry, branches),
                merge=merge,
                entry=None if entry is None else graph.by_id[entry],
                branches=branches,
            )


def _chains(graph: LayerGraph, ops: frozenset[Op]) -> Mapping[str, int]:
    """For each call, how far up a plain chain of `ops` without activation leads from it.

    Given as the depth, in the dominator tree, of the first call on the way back that is none of
    them (a chain's steps are immediate dominators), and 0 behind an input. A branch is such a chain
    when this is no deeper than its entry.
    """
    tree = graph.dominators
    reach: dict[str, int] = {}
    for call in graph.calls:
        if call.id not in tree:
            continue
        sources = [source.id for source in graph.predecessors(call.id) if source.id in tree]
        if call.op is Op.INPUT:
            reach[call.id] = 0
        elif len(sources) == 1 and call.op in ops and call.activation is None:
            reach[call.id] = reach[sources[0]]
        else:
            reach[call.id] = tree.depth(call.id)
    return reach


def _branch_kind(identity: int, projection: int, level: int) -> BranchKind:
    if identity <= level:
        return BranchKind.IDENTITY
    return BranchKind.PROJECTION if projection <= level else BranchKind.TRANSFORM


def _kind(merge: LayerCall, entry: str | None, branches: tuple[Branch, ...]) -> BlockKind:
    kinds = {branch.kind for branch in branches}
    if entry is None or len(kinds) == 1:
        return BlockKind.BRANCHED
    if merge.op in SUM_OPS:
        return BlockKind.RESIDUAL
    if BranchKind.IDENTITY in kinds and merge.op is Op.MULTIPLY:
        return BlockKind.GATED
    if BranchKind.IDENTITY in kinds and merge.op in (Op.CONCATENATE, Op.STACK):
        return BlockKind.CONCATENATED
    return BlockKind.BRANCHED


def _owners(graph: LayerGraph, parted: tuple[Block, ...]) -> Mapping[str, str]:
    """For each call inside a block: the merge of the first block, by merges, that it is inside of.

    Each block is walked back from its merge. What an earlier block owns is leapt over, to that
    block's entry: between the two everything is owned already. Leaps are shortened as in a
    union-find, so that no call is walked twice.
    """
    tree = graph.dominators
    entries = {block.merge.id: None if block.entry is None else block.entry.id for block in parted}
    owners: dict[str, str] = {}
    leaps: dict[str, str | None] = {}

    def landing(call_id: str, current: str) -> str | None:
        """The first call on the way up from an owned call that no earlier block owns."""
        passed: list[str] = []
        place: str | None = call_id
        while place is not None and owners.get(place, current) != current:
            passed.append(place)
            place = leaps.get(place, entries[owners[place]])
        leaps.update(dict.fromkeys(passed, place))
        return place

    for block in parted:
        merge, entry = block.merge.id, entries[block.merge.id]
        pending = [branch.end.id for branch in block.branches]
        while pending:
            call_id: str | None = pending.pop()
            if call_id in owners and call_id is not None:
                call_id = landing(call_id, merge)
            if call_id is None or call_id == entry or owners.get(call_id) == merge:
                continue
            if not tree.dominates(entry, call_id):
                continue  # the leap went past the entry: all on this side of it is owned
            owners[call_id] = merge
            pending.extend(source.id for source in graph.predecessors(call_id) if source.id in tree)
    return owners


def _most(graph: LayerGraph, ops: frozenset[Op]) -> Mapping[str, int]:
    """For every call in the tree: calls of `ops` on the way from an input that has most of them.

    What a way has between a call and its dominator is the difference of the two.
    """
    most: dict[str, int] = {}
    for call in graph.calls:
        if call.id in graph.dominators:
            before = (most.get(source.id, 0) for source in graph.predecessors(call.id))
            most[call.id] = max(before, default=0) + (call.op in ops)
    return most


def _placement(
    graph: LayerGraph, block: Block, inside: list[LayerCall], normalizations: Mapping[str, int]
) -> NormPlacement:
    if block.kind is not BlockKind.RESIDUAL or block.entry is None:
        return NormPlacement.NONE
    entry = block.entry.id
    first = [
        call
        for call in inside
        if call.op not in IDENTITY_OPS
        and any(source.id == entry for source in graph.predecessors(call.id))
    ]
    if first and all(call.op in NORMALIZATION_OPS for call in first):
        return NormPlacement.BEFORE
    most = max(normalizations[branch.end.id] for branch in block.branches)
    if most > normalizations[entry]:
        return NormPlacement.INSIDE
    after = graph.successors(block.merge.id)
    if after and all(call.op in NORMALIZATION_OPS for call in after):
        return NormPlacement.AFTER
    return NormPlacement.NONE
