"""A layer's tail: the normalization and activation that belong to the kernel before them."""

from __future__ import annotations

from auditor.graph.layer_graph import LayerCall, LayerGraph
from auditor.graph.operators import NORMALIZATION_OPS, TRAINING_ONLY_OPS, Op
from auditor.graph.paths import only_successor

#: What may stand between a layer's kernel and the next layer's and still belong to it.
TAIL_OPS = (
    NORMALIZATION_OPS | TRAINING_ONLY_OPS | {Op.ACTIVATION, Op.ELEMENTWISE, Op.CAST, Op.IDENTITY}
)


def layer_tail(graph: LayerGraph, call: LayerCall) -> tuple[LayerCall, ...]:
    """`call` and what belongs to it, in order.

    Its last member stands for the layer, so that Dense(activation="relu") and Dense followed by
    ReLU are compared at the same place.
    """
    run = [call]
    following = only_successor(graph, call)
    while following is not None and following.op in TAIL_OPS:
        run.append(following)
        following = only_successor(graph, following)
    return tuple(run)
