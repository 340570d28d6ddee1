"""Which calls the growth rate is read from: one a kernel-bearing layer, after its activation."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import takewhile

from auditor.graph.layer_graph import LayerGraph
from auditor.graph.layer_tail import layer_tail
from auditor.graph.operators import KERNEL_OPS
from auditor.graph.paths import kernel_depth, trunk
from auditor.graph.trainable_reach import learned_calls


@dataclass(frozen=True, kw_only=True)
class KernelLayer:
    """A layer with a kernel.

    `call` is the call whose output stands for the layer's, `depth` its place on the longest path.
    """

    call: str
    depth: int


def kernel_layers(graph: LayerGraph, executed: Sequence[str]) -> tuple[KernelLayer, ...]:
    """The layers between input and output that gradients are compared at.

    A layer's point is the end of its own tail of normalization and activation, so that
    Dense(activation="relu") and Dense followed by ReLU are measured at the same place. A head
    that ends in an activation is left out: the gradient behind a softmax is of another kind. So is
    what lies before the first trainable weight, where no gradient is needed.
    `executed` are the ids the probe saw; a tail ends before a call that did not run.
    """
    depth = kernel_depth(graph)
    learned = learned_calls(graph)
    seen = set(executed)
    heads = {call_id for call_id, _ in graph.outputs}
    found = []
    for call in trunk(graph):
        if call.op not in KERNEL_OPS or call.id not in seen:
            continue
        tail = tuple(takewhile(lambda member: member.id in seen, layer_tail(graph, call)))
        if tail[-1].id not in learned:
            continue
        if tail[-1].id in heads and any(member.activation for member in tail):
            continue
        found.append(KernelLayer(call=tail[-1].id, depth=depth[call.id]))
    return tuple(found)


def gradient_depth(graph: LayerGraph) -> int:
    """Kernel-bearing layers on the longest path that a gradient has to come back on.

    From the first trainable weight to an output; a frozen layer on the way counts.
    """
    learned = learned_calls(graph)
    depth: dict[str, int] = {}
    for call in graph.calls:
        before = max((depth[source.id] for source in graph.predecessors(call.id)), default=0)
        depth[call.id] = before + (call.op in KERNEL_OPS and call.id in learned)
    return max((depth[call.id] for call in graph.output_calls), default=0)
