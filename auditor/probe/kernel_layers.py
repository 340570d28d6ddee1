"""Which calls the growth rate is read from: one a kernel-bearing layer, after its activation."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from auditor.graph.layer_graph import LayerCall, LayerGraph
from auditor.graph.operators import KERNEL_OPS, NORMALIZATION_OPS, TRAINING_ONLY_OPS, Op
from auditor.graph.paths import kernel_depth, only_successor, trunk

#: What may stand between a layer's kernel and the next layer's and still belong to it.
TAIL_OPS = (
    NORMALIZATION_OPS | TRAINING_ONLY_OPS | {Op.ACTIVATION, Op.ELEMENTWISE, Op.CAST, Op.IDENTITY}
)


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
    that ends in an activation is left out: the gradient behind a softmax is of another kind.
    `executed` are the ids the probe saw; a tail ends before a call that did not run.
    """
    depth = kernel_depth(graph)
    seen = set(executed)
    heads = {call_id for call_id, _ in graph.outputs}
    found = []
    for call in trunk(graph):
        if call.op not in KERNEL_OPS or call.id not in seen:
            continue
        tail = _tail(graph, call, seen)
        if tail[-1].id in heads and any(member.activation for member in tail):
            continue
        found.append(KernelLayer(call=tail[-1].id, depth=depth[call.id]))
    return tuple(found)


def _tail(graph: LayerGraph, call: LayerCall, seen: set[str]) -> list[LayerCall]:
    run = [call]
    while True:
        following = only_successor(graph, run[-1])
        if following is None or following.op not in TAIL_OPS or following.id not in seen:
            return run
        run.append(following)
