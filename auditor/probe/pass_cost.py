"""What a pass costs, by the graph alone: the same on every machine."""

from __future__ import annotations

from auditor.graph.cost import model_cost
from auditor.graph.layer_graph import LayerGraph

#: Values of a batch that a weight is taken to meet in each sample where a call's cost is unknown.
REUSE = 1024


def pass_cost(graph: LayerGraph, weights: int) -> int:
    """Multiply-adds of a pass forward for one sample, of a model with that many trained weights."""
    cost = model_cost(graph)
    if cost.uncounted or not cost.multiply_adds:
        return max(cost.multiply_adds, REUSE * weights)
    return cost.multiply_adds
