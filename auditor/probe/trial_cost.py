"""How many steps a trial takes beyond the first few: as many as the model is worth."""

from __future__ import annotations

from auditor.graph.layer_graph import LayerGraph
from auditor.probe.pass_cost import pass_cost

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


def further_steps(graph: LayerGraph, *, weights: int, batch: int) -> int:
    """Steps beyond those of every trial, by the graph alone: the same on every machine."""
    if len(graph.calls) > CALLS:
        return 0
    total = FURTHER * (PASSES * pass_cost(graph, weights) * batch + WEIGHT_OPERATIONS * weights)
    return FURTHER if total <= MULTIPLY_ADDS else 0
