"""How many steps a trial takes beyond the first few: as many as the model is worth."""

from __future__ import annotations

from auditor.graph.cost import model_cost
from auditor.graph.layer_graph import LayerGraph

#: Further steps, all or none. After twenty steps on one batch a model that learns at all is well
#: below what a constant answer gets on it; after four it mostly is not.
FURTHER = 16
#: Multiply-adds of these steps together up to which they are taken: seconds on two cores.
MULTIPLY_ADDS = 10**11
#: Calls up to which they are: a call costs time however little it computes.
CALLS = 1000
#: Passes forward that a step costs: forward and backward.
PASSES = 3
#: Numbers touched for each weight in a step, outside of the model.
WEIGHT_OPERATIONS = 20
#: Values of a batch that a weight is taken to meet in each sample where a call's cost is unknown.
REUSE = 1024


def further_steps(graph: LayerGraph, *, weights: int, batch: int) -> int:
    """Steps beyond those of every trial, by the graph alone: the same on every machine."""
    if len(graph.calls) > CALLS:
        return 0
    cost = model_cost(graph)
    products = cost.multiply_adds
    if cost.uncounted or not products:
        products = max(products, REUSE * weights)
    total = FURTHER * (PASSES * products * batch + WEIGHT_OPERATIONS * weights)
    return FURTHER if total <= MULTIPLY_ADDS else 0
