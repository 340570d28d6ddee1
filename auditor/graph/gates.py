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
        formed = [_kernel(graph, source) for source in graph.predecessors(product.id)]
        gating = {call.id for call, gates_it in formed if gates_it and call is not None}
        signals = {call.id for call, gates_it in formed if not gates_it and call is not None}
        if not all(gates_it for _, gates_it in formed):
            # What gates itself is an activation: x · sigmoid(x).
            found.update(gating - signals)
    return frozenset(found)


def _kernel(graph: LayerGraph, call: LayerCall) -> tuple[LayerCall | None, bool]:
    """The kernel behind a factor of a product, and whether the factor is gating."""
    gating = False
    while True:
        gating = gating or call.activation in GATING
        if call.op in KERNEL_OPS:
            return call, gating
        sources = graph.predecessors(call.id)
        if call.op not in BETWEEN or len(sources) != 1:
            return None, False
        # What comes before another activation is no gate's kernel.
        if call.op is Op.ACTIVATION and call.activation not in GATING:
            return None, False
        call = sources[0]
