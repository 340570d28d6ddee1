"""Saturating activations in a row, and what they leave of the gradient."""

from __future__ import annotations

import math
from dataclasses import dataclass

from auditor.graph.forecast import Forecast
from auditor.graph.layer_graph import LayerCall, LayerGraph
from auditor.graph.operators import (
    AFFINE_OPS,
    KERNEL_OPS,
    NORMALIZATION_OPS,
    SATURATING_ACTIVATIONS,
    Op,
)
from auditor.graph.paths import plain_chains
from auditor.graph.trainable_reach import learned_calls

#: Flat on both sides, value by value; softmax competes between units and is another matter.
POINTWISE_SATURATING = SATURATING_ACTIVATIONS - {"softmax"}


@dataclass(frozen=True, kw_only=True)
class SaturatingRun:
    """Calls in a row whose activations saturate, with the affine calls between them.

    activations: the calls with the activations. shrink: predicted factor on the gradient's norm
    from the last activation's output to the first's, None where the forecast covers it only in
    part, exactly 0 where a kernel of zeros lets nothing pass.
    """

    activations: tuple[LayerCall, ...]
    shrink: float | None


def saturating_runs(graph: LayerGraph, predicted: Forecast | None) -> tuple[SaturatingRun, ...]:
    """Runs of two or more, on ways without branch or merge.

    A run ends at a normalization, at a recurrent or other kernel call that is not affine, and at
    an activation that does not saturate. The activation of an output is left out: losses are made
    to go with it. So is what lies before the first trainable weight: no gradient has to pass there.
    """
    learned = learned_calls(graph)
    runs: list[SaturatingRun] = []
    for chain in plain_chains(graph):
        run: list[LayerCall] = []
        activations: list[LayerCall] = []
        for call in (*chain, None):
            taught = call is not None and call.id in learned
            if taught and call is not None and _continues(call) and not _is_head(graph, call):
                run.append(call)
                if call.activation in POINTWISE_SATURATING:
                    activations.append(call)
                continue
            if len(activations) > 1:
                first = run.index(activations[0]) + 1
                last = run.index(activations[-1]) + 1
                runs.append(
                    SaturatingRun(
                        activations=tuple(activations), shrink=_product(run[first:last], predicted)
                    )
                )
            run, activations = [], []
    return tuple(runs)


def _continues(call: LayerCall) -> bool:
    if call.op in NORMALIZATION_OPS or (call.op in KERNEL_OPS and call.op not in AFFINE_OPS):
        return False
    return call.activation is None or call.activation in POINTWISE_SATURATING


def _is_head(graph: LayerGraph, call: LayerCall) -> bool:
    """Whether nothing takes what the call gives: its activation is an output's."""
    return call.op is not Op.INPUT and not graph.successors(call.id)


def _product(calls: list[LayerCall], predicted: Forecast | None) -> float | None:
    if predicted is None or any(call.id not in predicted.calls for call in calls):
        return None
    gains = [predicted.calls[call.id].gain for call in calls]
    if min(gains, default=1.0) <= 0:
        return 0.0
    return math.exp(max(sum(math.log(gain) for gain in gains), -700.0))
