"""Layers that gate others: their output, between 0 and 1, multiplies a signal."""

from __future__ import annotations

from auditor.graph.layer_graph import LayerCall, LayerGraph
from auditor.graph.operators import KERNEL_OPS, NORMALIZATION_OPS, TRAINING_ONLY_OPS, Op

#: Activations of a gate.
GATING = frozenset({"sigmoid", "hard_sigmoid"})
#: What may lie between a gate's kernel and the product.
BETWEEN = NORMALIZATION_OPS | TRAINING_ONLY_OPS | {Op.ACTIVATION, Op.IDENTITY, Op.CAST}


def gates(graph: LayerGraph) -> frozenset[str]:
    """Ids of the calls with a kernel that gate a signal which is no gate itself.

    The gradient in a gate is that in the product times the signal: it tells of the signal's size,
    and not of what reaches the layers before.
    """
    found: set[str] = set()
    for product in graph.calls:
        if product.op is not Op.MULTIPLY:
            continue
        formed = [_gate(graph, source) for source in graph.predecessors(product.id)]
        if any(call is None for call in formed):
            found.update(call.id for call in formed if call is not None)
    return frozenset(found)


def _gate(graph: LayerGraph, call: LayerCall) -> LayerCall | None:
    """The kernel behind a gating activation, going back from a factor of a product."""
    gating = False
    while True:
        gating = gating or call.activation in GATING
        if call.op in KERNEL_OPS:
            return call if gating else None
        sources = graph.predecessors(call.id)
        if call.op not in BETWEEN or len(sources) != 1:
            return None
        # What comes before another activation is no gate's kernel.
        if call.op is Op.ACTIVATION and call.activation not in GATING:
            return None
        call = sources[0]
