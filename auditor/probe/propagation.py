"""How gradients propagate through the whole model: growth a layer, and end to end."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from auditor.graph.gates import gates
from auditor.graph.layer_graph import LayerGraph
from auditor.graph.operators import KERNEL_OPS
from auditor.graph.residual_blocks import blocks
from auditor.graph.trainable_reach import learned_calls
from auditor.measurement import StageGrowth
from auditor.probe.growth import Growth, GrowthPoint, fit_growth
from auditor.probe.kernel_layers import KernelLayer, gradient_depth, kernel_layers
from auditor.probe.residual_stages import inside_residual_blocks, residual_stages
from auditor.probe.statistics import CallSlots
from auditor.probe.tally import Tally

Array = np.ndarray[Any, Any]

#: The ends that are compared are this share of the layers each, at least one.
END_SHARE = 8
#: Fewest points left over, after an intercept a stage and the slope, to compare like with like.
FREEDOM = 1


@dataclass(frozen=True, kw_only=True)
class Propagation:
    """Whole-model measures; the fields are as in `ProbeResult`."""

    depth: int
    growth: Growth | None
    points: int
    gradient_ratio: float | None
    forward_ratio: float | None
    gsc: float | None
    stages: tuple[StageGrowth, ...] = ()
    assumptions: tuple[str, ...] = ()


@dataclass(frozen=True, kw_only=True)
class _Layer:
    """A layer (or residual block) with a usable gradient, by the call that stands for it."""

    depth: int
    slots: CallSlots
    log_norms: Array


def propagation(graph: LayerGraph, tally: Tally) -> Propagation:
    """Growth and ratios over the kernel-bearing layers that have a finite, nonzero gradient.

    Gates are left out: the gradient in one is that of the product times the signal it gates.
    """
    by_id = {slots.id: slots for slots in tally.slots.calls}
    gating = gates(graph)
    layers = tuple(layer for layer in kernel_layers(graph, list(by_id)) if layer.call not in gating)
    depth = gradient_depth(graph)
    assumptions: tuple[str, ...] = ()
    if not any(call.op in KERNEL_OPS for call in graph.calls):
        layers = _in_order_of_execution(tally)
        if layers:
            depth = layers[-1].depth + 1
            assumptions = ("depth is counted in the order of execution: the graph is not known",)
    usable = _usable(layers, by_id, tally)
    growth, words = _growth(usable)
    stages = _stages(graph, usable, by_id, tally)
    if len(usable) < 2:
        return Propagation(
            depth=depth,
            growth=None,
            points=len(usable),
            gradient_ratio=None,
            forward_ratio=None,
            gsc=None,
            stages=stages,
            assumptions=assumptions,
        )
    first, last = _ends(usable)
    ratio = _median(first, tally.gradient_norm) / _median(last, tally.gradient_norm)
    sizes = _median(first, tally.activation_norm), _median(last, tally.activation_norm)
    roots = [_median(end, lambda slots: _rms(slots, tally)) for end in (first, last)]
    return Propagation(
        depth=depth,
        growth=growth,
        points=len(usable),
        gradient_ratio=ratio,
        forward_ratio=_quotient(roots[1], roots[0]),
        gsc=_quotient(ratio * sizes[0], sizes[1]),
        stages=stages,
        assumptions=(*assumptions, *words),
    )


def _in_order_of_execution(tally: Tally) -> tuple[KernelLayer, ...]:
    """Layers with a kernel as they ran, for a model whose graph holds none: a subclassed one."""
    ran: list[KernelLayer] = []
    for slots in tally.slots.calls:
        owned = getattr(slots.operation, "trainable_variables", None) or ()
        if any(len(variable.shape) > 1 for variable in owned):
            ran.append(KernelLayer(call=slots.id, depth=len(ran) + 1))
    # The last one is the head, whose activation is not known.
    return tuple(ran[:-1])


def _usable(
    layers: Sequence[KernelLayer], by_id: dict[str, CallSlots], tally: Tally
) -> list[_Layer]:
    usable: dict[str, _Layer] = {}
    for layer in layers:
        slots = by_id[layer.call]
        norms = tally.gradient_norms(slots)
        if norms is not None and bool(np.all(np.isfinite(norms) & (norms > 0.0))):
            usable[layer.call] = _Layer(depth=layer.depth, slots=slots, log_norms=np.log(norms))
    return sorted(usable.values(), key=lambda layer: layer.depth)


def _growth(layers: Sequence[_Layer]) -> tuple[Growth | None, tuple[str, ...]]:
    """The growth within stages of equal shape, or else of equal extent in space and time.

    The norm of a gradient, unlike its RMS, does not change with the width under an
    initialization that is critical by fan-in, so that widths can be compared if need be.
    """
    stages: tuple[tuple[Callable[[CallSlots], Hashable], tuple[str, ...]], ...] = (
        (lambda slots: slots.shape[1:], ()),
        (lambda slots: slots.shape[1:-1], ("growth compares layers of different width",)),
    )
    for stage_of, words in stages:
        points = [
            GrowthPoint(depth=layer.depth, stage=stage_of(layer.slots), log_norms=layer.log_norms)
            for layer in layers
        ]
        if len(points) - len({point.stage for point in points}) - 1 >= FREEDOM:
            return fit_growth(points), words
    return None, ()


def _stages(
    graph: LayerGraph, layers: Sequence[_Layer], by_id: dict[str, CallSlots], tally: Tally
) -> tuple[StageGrowth, ...]:
    """The growth within each stage with enough points: of layers, and of residual blocks."""
    found = blocks(graph)
    inside = inside_residual_blocks(found)
    groups: dict[Hashable, list[_Layer]] = {}
    for layer in layers:
        if layer.slots.id not in inside:
            groups.setdefault(layer.slots.shape[1:], []).append(layer)
    learned = learned_calls(graph)
    shapes = {call_id: slots.shape[1:] for call_id, slots in by_id.items()}
    runs = [
        _usable(
            [
                KernelLayer(call=block.merge.id, depth=place)
                for place, block in enumerate(run)
                if block.merge.id in learned
            ],
            by_id,
            tally,
        )
        for run in residual_stages(graph, found, shapes)
    ]
    stages = [(stage, False) for stage in groups.values()] + [(stage, True) for stage in runs]
    stages = [(stage, residual) for stage, residual in stages if len(stage) - 2 >= FREEDOM]
    stages.sort(key=lambda item: item[0][0].slots.row)
    fitted = [(stage, residual, _fit_stage(stage)) for stage, residual in stages]
    return tuple(
        StageGrowth(
            shape=stage[0].slots.shape[1:],
            calls=tuple(layer.slots.id for layer in stage),
            rate=growth.rate,
            interval=growth.interval,
            residual=residual,
        )
        for stage, residual, growth in fitted
        if growth is not None
    )


def _fit_stage(stage: Sequence[_Layer]) -> Growth | None:
    """The growth over one stage; None where all of it stands at one depth."""
    return fit_growth(
        [GrowthPoint(depth=layer.depth, stage=0, log_norms=layer.log_norms) for layer in stage]
    )


def _ends(layers: Sequence[_Layer]) -> tuple[list[CallSlots], list[CallSlots]]:
    count = max(1, round(len(layers) / END_SHARE))
    slots = [layer.slots for layer in layers]
    return slots[:count], slots[-count:]


def _median(end: Sequence[CallSlots], measure: Callable[[CallSlots], float | None]) -> float:
    values = [value for value in map(measure, end) if value is not None]
    return float(np.median(values))


def _rms(slots: CallSlots, tally: Tally) -> float:
    return tally.activation_norm(slots) / float(np.sqrt(slots.values_per_sample))


def _quotient(above: float, below: float) -> float | None:
    if below == 0.0 or not np.isfinite(above) or not np.isfinite(below):
        return None
    return above / below
