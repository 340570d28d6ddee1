"""What a model costs to run, in words: depth, multiply-adds, memory of its activations."""

from __future__ import annotations

from dataclasses import dataclass

from auditor.graph.cost import ModelCost
from auditor.graph.layer_graph import LayerGraph
from auditor.graph.operators import KERNEL_OPS, Op
from auditor.graph.paths import kernel_depth, longest_path

from . import prose, quantity, wording

#: Calls whose multiply-adds are most of a model's: without theirs no sum is worth telling.
WEIGHTY_OPS = KERNEL_OPS | {Op.DOT_ATTENTION, Op.MATMUL, Op.DOT}
NOT_KNOWN = "not known"


@dataclass(frozen=True, kw_only=True)
class Amount:
    """An amount in short, and at length. `known` is False where it could not be told."""

    value: str
    title: str
    known: bool = True


@dataclass(frozen=True, kw_only=True)
class CostView:
    """A model's depth, and its costs for one sample."""

    depth: Amount
    multiply_adds: Amount
    activations: Amount


def cost_view(graph: LayerGraph, cost: ModelCost) -> CostView:
    """The view of `cost`, which is that of `graph`."""
    return CostView(
        depth=_depth(graph),
        multiply_adds=_multiply_adds(graph, cost),
        activations=_activations(graph, cost),
    )


def sentence(view: CostView) -> str:
    """The view in one line, or as much of it as is known; empty where nothing is."""
    costs = []
    if view.multiply_adds.known:
        costs.append(f"{view.multiply_adds.value} multiply-adds")
    if view.activations.known:
        costs.append(f"{view.activations.value} of activations")
    depth = [f"Depth {view.depth.value}"] if view.depth.known else []
    return "; ".join([*depth, *([f"{', '.join(costs)} a sample"] if costs else [])])


def _depth(graph: LayerGraph) -> Amount:
    calls = len(longest_path(graph))
    if not calls:
        return Amount(value=NOT_KNOWN, title="no way leads from an input to an output", known=False)
    depths = kernel_depth(graph)
    kernels = max(depths[call.id] for call in graph.output_calls)
    return Amount(
        value=wording.plural(kernels, "layer", "layers"),
        title=f"longest path from an input to an output: {calls:,} calls; "
        f"most calls with a kernel on one: {kernels:,}",
    )


def _multiply_adds(graph: LayerGraph, cost: ModelCost) -> Amount:
    uncounted = [graph.by_id[call_id] for call_id in cost.uncounted]
    if not uncounted:
        return Amount(
            value=quantity.count(cost.multiply_adds),
            title=f"{cost.multiply_adds:,} multiply-adds and {cost.element_operations:,} element "
            "operations at inference",
        )
    first = uncounted[0].id
    left_out = wording.plural(len(uncounted), "call is", "calls are")
    title = f"{left_out} not counted: {prose.plain(f'{first}: {cost.calls[first].reason}')}"
    if not cost.multiply_adds or any(call.op in WEIGHTY_OPS for call in uncounted):
        return Amount(value=NOT_KNOWN, title=title, known=False)
    return Amount(value=f"≥ {quantity.count(cost.multiply_adds)}", title=title)


def _activations(graph: LayerGraph, cost: ModelCost) -> Amount:
    if not cost.unsized and graph.calls:
        return Amount(
            value=quantity.memory(cost.activation_bytes),
            title=f"{cost.activation_bytes:,} bytes: the outputs of all calls together",
        )
    left_out = wording.plural(len(cost.unsized), "call has", "calls have")
    title = f"{left_out} an output of unknown size"
    if 2 * len(cost.unsized) >= len(graph.calls):
        return Amount(value=NOT_KNOWN, title=title, known=False)
    return Amount(value=f"≥ {quantity.memory(cost.activation_bytes)}", title=title)
