"""Mean-field forecast of propagation, from weights or initializers alone."""

from __future__ import annotations

import math
from collections.abc import Hashable, Mapping
from dataclasses import dataclass, field

import numpy as np

from auditor.graph.gates import gates
from auditor.graph.layer_graph import LayerCall, LayerGraph
from auditor.graph.layer_tail import layer_tail
from auditor.graph.operators import KERNEL_OPS, Op
from auditor.graph.paths import before_kernels, kernel_depth, trunk
from auditor.graph.signal import STANDARD, Backward, Signal, Transfer
from auditor.graph.trainable_reach import learned_calls
from auditor.graph.transfer import NORMALIZING, transfer

#: log ‖∂L/∂h‖² of the random, of the coherent and of the common part.
LogGradient = tuple[float, float, float]
NO_GRADIENT: LogGradient = (-math.inf, -math.inf, -math.inf)
UNIT_GRADIENT: LogGradient = (0.0, -math.inf, -math.inf)
#: Calls that divide a gradient's norm by the root of the positions they average: no layer's doing,
#: so that the growth rate is taken on either side of them.
AVERAGING = frozenset({Op.AVERAGE_POOL, Op.GLOBAL_AVERAGE_POOL, Op.REDUCE})
#: Share of the calls that must be covered for a rate of the whole model.
MOST = 0.5
#: The ends that are compared are this share of the layers each, at least one.
END_SHARE = 8
#: Fewest points left over after a level a stage and the slope.
FREEDOM = 2


@dataclass(frozen=True, kw_only=True)
class CallForecast:
    """One call's forecast.

    gain: predicted factor on the gradient's norm from output to input of the call (√χ₁ with its
        activation); variance: predicted mean square of the call's output.
    """

    gain: float
    variance: float


@dataclass(frozen=True, kw_only=True)
class Forecast:
    """The static estimate. `covered` is the share of calls on the way to the output it covers.

    gradient_ratio: predicted ‖∂L/∂h‖ of the first eighth of the kernel layers over that of the
    last eighth, as the probe measures it; None where no growth rate is given. depth: kernel-bearing
    layers on the longest path from the first trainable weight to an output.
    """

    growth_rate: float | None = None
    gradient_ratio: float | None = None
    depth: int = 0
    calls: Mapping[str, CallForecast] = field(default_factory=dict)
    covered: float = 0.0


def forecast(graph: LayerGraph) -> Forecast | None:
    """Forecast how signal and gradient propagate; None for a graph without a way to an output.

    Mean-field theory (Poole et al. 2016, Schoenholz et al. 2017; batch normalization: Yang et al.
    2019): layers are wide, weights independent of the signal. Inputs are taken as standardised,
    dropout as in training. The gradient starts with norm 1 at each output, before the activation
    of the head, whose slope losses are made to cancel. A call that is not covered passes the
    gradient on unchanged, and no rate is taken across it; nor is one given where less than half
    of the calls are covered.
    """
    way = trunk(graph)
    if not way:
        return None
    followed = before_kernels(graph)
    heads = frozenset(call.id for call in graph.calls if call.id not in followed)
    transfers = _forward(graph, heads)
    gradients = _backward(graph, transfers)
    calls = {
        call_id: CallForecast(
            gain=_gain(graph, call_id, made, gradients[call_id]), variance=made.signal.mean_square
        )
        for call_id, made in transfers.items()
    }
    covered = sum(call.id in transfers for call in way) / len(way)
    points = _points(graph, way, transfers, gradients) if covered >= MOST else []
    rate = _growth(points)
    return Forecast(
        growth_rate=rate,
        gradient_ratio=_ratio(points) if rate is not None else None,
        depth=_depth(graph),
        calls={
            call_id: made
            for call_id, made in calls.items()
            if math.isfinite(made.gain) and math.isfinite(made.variance)
        },
        covered=covered,
    )


def _forward(graph: LayerGraph, heads: frozenset[str]) -> dict[str, Transfer]:
    """Transfers of the covered calls."""
    signals: dict[str, Signal | None] = {}
    transfers: dict[str, Transfer] = {}
    for call in graph.calls:
        incoming = tuple(signals.get(source.id) for source in graph.predecessors(call.id))
        made = transfer(graph, call, incoming, head=call.id in heads)
        signals[call.id] = made.signal if made is not None else None
        if made is not None:
            transfers[call.id] = made
        elif call.op in NORMALIZING and len(incoming) == 1:
            # Whatever came in, what goes out is normalized; the way back is not known.
            reset = transfer(graph, call, (STANDARD,), head=call.id in heads)
            signals[call.id] = reset.signal if reset is not None else None
    return transfers


def _backward(graph: LayerGraph, transfers: Mapping[str, Transfer]) -> dict[str, LogGradient]:
    """Log of the gradient's power with respect to every call's output.

    In depth the power itself leaves the range of floating point.
    """
    gradients = {call.id: NO_GRADIENT for call in graph.calls}
    for call_id, _ in graph.outputs:
        gradients[call_id] = _plus(gradients[call_id], UNIT_GRADIENT)
    for call in reversed(graph.calls):
        made = transfers.get(call.id)
        for slot, source in enumerate(graph.predecessors(call.id)):
            passed = gradients[call.id]
            if made is not None and slot < len(made.inputs):
                passed = _through(made.inputs[slot], passed)
            gradients[source.id] = _plus(gradients[source.id], passed)
    return gradients


def _through(matrix: Backward, gradient: LogGradient) -> LogGradient:
    with np.errstate(divide="ignore"):
        logs = np.log(np.maximum(matrix, 0.0))
    random, coherent, common = np.logaddexp.reduce(logs + np.array(gradient), axis=1)
    return float(random), float(coherent), float(common)


def _plus(one: LogGradient, other: LogGradient) -> LogGradient:
    random, coherent, common = np.logaddexp(one, other)
    return float(random), float(coherent), float(common)


def _power(gradient: LogGradient) -> float:
    """Logarithm of the whole power."""
    return float(np.logaddexp.reduce(gradient))


def _gain(graph: LayerGraph, call_id: str, made: Transfer, gradient: LogGradient) -> float:
    """√(power to the first input / power from the output), by all slots that input is in."""
    if not made.inputs:
        return 1.0
    before = gradient if max(gradient) > -math.inf else UNIT_GRADIENT
    sources = [source.id for source in graph.predecessors(call_id)]
    after = NO_GRADIENT
    for source, matrix in zip(sources, made.inputs, strict=False):
        if source == sources[0]:
            after = _plus(after, _through(matrix, before))
    growth = _power(after) - _power(before)
    return math.exp(min(growth / 2, 700.0))


@dataclass(frozen=True, kw_only=True)
class _Point:
    """A kernel-bearing layer: the call at the end of its tail, and log ‖∂L/∂h‖ there.

    stretch: number of calls before it that are not covered, or that average positions.
    """

    end: LayerCall
    depth: int
    stretch: int
    norm: float


def _points(
    graph: LayerGraph,
    way: tuple[LayerCall, ...],
    transfers: Mapping[str, Transfer],
    gradients: Mapping[str, LogGradient],
) -> list[_Point]:
    """The layers that gradients are compared at, in order of depth: those the probe measures.

    Each stands at the end of its own normalization and activation. A head that ends in an
    activation is left out, and so are gates and what lies before the first trainable weight.
    """
    gating = gates(graph)
    depth = kernel_depth(graph)
    learned = learned_calls(graph)
    outputs = {call_id for call_id, _ in graph.outputs}
    stretch: dict[str, int] = {}
    for call in graph.calls:
        # The least of the branches: a side branch that averages ends no stage of its trunk.
        before = min((stretch[source.id] for source in graph.predecessors(call.id)), default=0)
        stretch[call.id] = before + (call.id not in transfers or call.op in AVERAGING)
    points: dict[str, _Point] = {}
    for call in way:
        if call.op not in KERNEL_OPS or call.id in gating:
            continue
        tail = layer_tail(graph, call)
        end = tail[-1]
        activated = any(member.activation is not None for member in tail)
        if end.id not in transfers or end.id not in learned or (end.id in outputs and activated):
            continue
        power = _power(gradients[end.id])
        if math.isfinite(power):
            points[end.id] = _Point(
                end=end, depth=depth[call.id], stretch=stretch[end.id], norm=power / 2
            )
    return sorted(points.values(), key=lambda point: point.depth)


def _depth(graph: LayerGraph) -> int:
    learned = learned_calls(graph)
    depth: dict[str, int] = {}
    for call in graph.calls:
        before = max((depth[source.id] for source in graph.predecessors(call.id)), default=0)
        depth[call.id] = before + (call.op in KERNEL_OPS and call.id in learned)
    return max((depth[call.id] for call in graph.output_calls), default=0)


def _ratio(points: list[_Point]) -> float:
    """The median of the first eighth of the layers over that of the last eighth."""
    count = max(1, round(len(points) / END_SHARE))
    norms = [point.norm for point in points]
    change = float(np.median(norms[:count]) - np.median(norms[-count:]))
    return math.exp(max(-700.0, min(change, 700.0)))


def _growth(points: list[_Point]) -> float | None:
    """Factor on ‖∂L/∂h‖ a kernel-bearing layer, toward the input, by least squares on depth.

    Layers are compared within stages of equal shape, or else of equal extent in space and time. A
    stage also ends where the gradient passes a call that is not covered or that averages positions.
    """
    for stage_of in (_shape, _extent):
        stages: dict[Hashable, list[tuple[int, float]]] = {}
        for point in points:
            stage = point.stretch, stage_of(point.end)
            stages.setdefault(stage, []).append((point.depth, point.norm))
        if len(points) - len(stages) >= FREEDOM and (rate := _slope(stages)) is not None:
            return rate
    return None


def _slope(stages: Mapping[Hashable, list[tuple[int, float]]]) -> float | None:
    """exp(−slope) of norm on depth, with a level of its own for each stage."""
    spread = covariance = 0.0
    for points in stages.values():
        depths, norms = np.array(points, dtype=float).T
        spread += float(np.square(depths - depths.mean()).sum())
        covariance += float((depths - depths.mean()) @ (norms - norms.mean()))
    return math.exp(max(-700.0, min(-covariance / spread, 700.0))) if spread else None


def _shape(call: LayerCall) -> Hashable:
    return call.out_shape[1:] if call.out_shape else None


def _extent(call: LayerCall) -> Hashable:
    return call.out_shape[1:-1] if call.out_shape else None
