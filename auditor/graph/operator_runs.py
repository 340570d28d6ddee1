"""Runs of like layers: the same operator, activation and normalization again and again."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from auditor.graph.layer_graph import LayerCall, LayerGraph
from auditor.graph.layer_tail import layer_tail
from auditor.graph.operators import KERNEL_OPS, NORMALIZATION_OPS, Op
from auditor.graph.paths import only_successor


@dataclass(frozen=True, kw_only=True)
class OperatorRun:
    """Two or more layers in a row, all alike, each feeding the next and nothing else.

    op: operator of their kernels. activation, normalization: what each has in its tail, or fused;
    the first where there are several, None where there is none. layers: each layer's calls, its
    kernel first.
    """

    op: Op
    activation: str | None
    normalization: Op | None
    layers: tuple[tuple[LayerCall, ...], ...]

    @property
    def calls(self) -> tuple[LayerCall, ...]:
        """All calls of the run, in order."""
        return tuple(call for layer in self.layers for call in layer)


def operator_runs(graph: LayerGraph) -> tuple[OperatorRun, ...]:
    """The maximal runs, in the order of their first calls. Linear in calls and edges.

    A layer is a call with a kernel and its tail (`layer_tail`). A run ends where anything else
    stands between two layers (pooling, a reshape, a branch), and where the next layer is of another
    kind. Widths may differ.
    """
    tails = {call.id: layer_tail(graph, call) for call in graph.calls if call.op in KERNEL_OPS}
    runs: list[OperatorRun] = []
    placed: set[str] = set()
    for call_id in tails:
        if call_id in placed:
            continue
        run = _from(graph, call_id, tails)
        placed.update(layer[0].id for layer in run.layers)
        if len(run.layers) > 1:
            runs.append(run)
    return tuple(runs)


def _from(
    graph: LayerGraph, call_id: str, tails: Mapping[str, tuple[LayerCall, ...]]
) -> OperatorRun:
    """The run, perhaps of one, that begins with this call."""
    layers = [tails[call_id]]
    likeness = _likeness(layers[0])
    while (following := only_successor(graph, layers[-1][-1])) is not None:
        if following.id not in tails or _likeness(tails[following.id]) != likeness:
            break
        layers.append(tails[following.id])
    op, activation, normalization = likeness
    return OperatorRun(
        op=op, activation=activation, normalization=normalization, layers=tuple(layers)
    )


def _likeness(layer: tuple[LayerCall, ...]) -> tuple[Op, str | None, Op | None]:
    activation = next((call.activation for call in layer if call.activation is not None), None)
    normalization = next((call.op for call in layer if call.op in NORMALIZATION_OPS), None)
    return layer[0].op, activation, normalization
