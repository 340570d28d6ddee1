"""How many steps a trial takes beyond the first few: as many as the model is worth."""

from __future__ import annotations

from auditor.graph.layer_graph import LayerGraph
from auditor.probe.pass_cost import pass_cost

#: Further steps, all or none. After twenty steps on one batch a model that learns at all is well
#: below what a constant answer gets on it; after four it mostly is not.
FURTHER = 16
#: Steps after these for a model that is not: of 172 networks that train and had not learned by
#: then, half had within 33 steps more, and all but 13 within these; of 431 that fail, 351 took less
#: than a tenth off the loss of a constant answer (docs/outcomes.md).
LONG = 180
#: Multiply-adds up to which further and long steps are taken: seconds on two cores, and tens of
#: seconds where there is a doubt.
FURTHER_MULTIPLY_ADDS = 10**11
LONG_MULTIPLY_ADDS = 5 * 10**11
#: Calls up to which they are: a call costs time however little it computes.
FURTHER_CALLS = 1000
LONG_CALLS = 250
#: Passes forward that a step costs: forward and backward.
PASSES = 3
#: Numbers touched for each weight in a step, outside of the model.
WEIGHT_OPERATIONS = 20


def further_steps(graph: LayerGraph, *, weights: int, batch: int) -> int:
    """Steps beyond those of every trial, by the graph alone: the same on every machine."""
    if len(graph.calls) > FURTHER_CALLS:
        return 0
    total = FURTHER * _step(graph, weights, batch)
    return FURTHER if total <= FURTHER_MULTIPLY_ADDS else 0


def long_steps(graph: LayerGraph, *, weights: int, batch: int) -> int:
    """Steps after these at most, where they leave it open whether the model learns."""
    if len(graph.calls) > LONG_CALLS:
        return 0
    return LONG if LONG * _step(graph, weights, batch) <= LONG_MULTIPLY_ADDS else 0


def _step(graph: LayerGraph, weights: int, batch: int) -> int:
    """Multiply-adds of a training step, and what its weights cost besides."""
    return PASSES * pass_cost(graph, weights) * batch + WEIGHT_OPERATIONS * weights
