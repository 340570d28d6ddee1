"""The signal at the residual blocks: Brock et al.'s signal propagation plot."""

from __future__ import annotations

from auditor.graph.layer_graph import LayerGraph
from auditor.graph.residual_blocks import Block, residual_blocks
from auditor.measurement import BlockProfile
from auditor.probe.statistics import CallSlots
from auditor.probe.tally import ChannelMoments, Tally


def profiled_calls(graph: LayerGraph) -> frozenset[str]:
    """Ids of the calls whose channel moments the profile is made of."""
    ids: set[str] = set()
    for block in residual_blocks(graph):
        ids.add(block.merge.id)
        ids.add(branch_end(block))
    return frozenset(ids)


def branch_end(block: Block) -> str:
    """Id of the call that ends a residual block's branch.

    The branch is what is added to the shortcut; of several (attention beside a feed-forward net)
    the one with most kernel-bearing calls in a row, the first of equal ones.
    """
    branches = [branch for branch in block.branches if branch is not block.shortcut]
    return max(branches, key=lambda branch: branch.kernels).end.id


def residual_profile(graph: LayerGraph, tally: Tally) -> tuple[BlockProfile, ...]:
    """The mean and variance of the signal behind each residual block, from input to output.

    The channels' means and variances are over all samples and positions of a batch, then averaged
    over channels (Brock, De & Smith 2021, "Characterizing signal propagation to close the
    performance gap in unnormalized ResNets", arXiv:2101.08692, section 3); medians over batches.
    Channels are the axis that the layout says, in transformers and dense nets the last one. A
    block whose sum was not measured is left out.
    """
    by_id = {slots.id: slots for slots in tally.slots.calls}
    profile = []
    for block in residual_blocks(graph):
        moments = _moments(by_id.get(block.merge.id), tally)
        if moments is None:
            continue
        end = branch_end(block)
        branch = _moments(by_id.get(end), tally)
        profile.append(
            BlockProfile(
                call=block.merge.id,
                branch=end,
                squared_mean=moments.squared_mean,
                variance=moments.variance,
                branch_variance=None if branch is None else branch.variance,
            )
        )
    return tuple(profile)


def _moments(slots: CallSlots | None, tally: Tally) -> ChannelMoments | None:
    return None if slots is None else tally.channel_moments(slots)
