"""What a deep stack consists of: plain layers, normalized ones, or sums of residual branches."""

from __future__ import annotations

import enum
from dataclasses import dataclass

from auditor.graph.layer_graph import LayerCall, LayerGraph
from auditor.graph.layer_tail import layer_tail
from auditor.graph.operators import AFFINE_OPS, KERNEL_OPS, NORMALIZATION_OPS, Op
from auditor.graph.paths import before_kernels, trunk
from auditor.graph.residual_blocks import NormPlacement, residual_blocks
from auditor.graph.trainable_reach import learned_calls

#: Share of the hidden layers that must be normalized, for the first ones may not be.
NEARLY_ALL = 0.9
#: Share of them that must lie in residual branches, for the depth to be theirs.
HALF = 0.5


class DepthKind(enum.StrEnum):
    """Which structure makes up most of a model's depth."""

    PLAIN = "plain"
    NORMALIZED = "normalized"  # nearly every hidden layer is followed by its own normalization
    RESIDUAL = "residual"  # sums of branches that nothing normalizes


@dataclass(frozen=True, kw_only=True)
class OpenBranch:
    """A branch of a residual sum that is not normalized.

    merge: the sum. last: the branch's last call with a kernel. activated: whether an activation
    stands between that kernel and the sum, so that a kernel of zeros would never move.
    """

    merge: LayerCall
    last: LayerCall
    activated: bool


def depth_kind(graph: LayerGraph) -> DepthKind:
    """The kind of the hidden layers that a gradient has to come back through."""
    followed, learned = before_kernels(graph), learned_calls(graph)
    hidden = [
        call
        for call in trunk(graph)
        if call.op in KERNEL_OPS and call.id in followed and call.id in learned
    ]
    normalized = sum(
        any(member.op in NORMALIZATION_OPS for member in layer_tail(graph, call)) for call in hidden
    )
    if hidden and normalized >= NEARLY_ALL * len(hidden):
        return DepthKind.NORMALIZED
    sums = {branch.merge.id for branch in open_branches(graph)}
    inside = {
        call.id
        for block in residual_blocks(graph)
        if block.merge.id in sums
        for call in block.calls
    }
    within = sum(call.id in inside for call in hidden)
    return DepthKind.RESIDUAL if within and within >= HALF * len(hidden) else DepthKind.PLAIN


def open_branches(graph: LayerGraph) -> tuple[OpenBranch, ...]:
    """The branches, their last kernels found, of all residual sums that nothing normalizes."""
    found: list[OpenBranch] = []
    for block in residual_blocks(graph):
        shortcut = block.shortcut
        if block.normalization is not NormPlacement.NONE or shortcut is None:
            continue
        for branch in block.branches:
            if branch is shortcut or not branch.kernels:
                continue
            last, activated = _last_kernel(graph, branch.end)
            if last is not None:
                found.append(OpenBranch(merge=block.merge, last=last, activated=activated))
    return tuple(found)


def _last_kernel(graph: LayerGraph, end: LayerCall) -> tuple[LayerCall | None, bool]:
    """The affine call that a branch's plain end leads back to, and whether it is activated."""
    call, activated = end, False
    while True:
        activated = activated or (call.activation is not None) or call.op is Op.ELEMENTWISE
        if call.op in KERNEL_OPS:
            return (call if call.op in AFFINE_OPS else None), activated
        before = graph.predecessors(call.id)
        if len(before) != 1:
            return None, activated
        call = before[0]
