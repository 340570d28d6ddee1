"""Mean-field forecast of propagation, from weights or initializers alone."""

from __future__ import annotations

import math
from collections.abc import Hashable, Mapping
from dataclasses import dataclass, field

import numpy as np

from auditor.graph.layer_graph import LayerCall, LayerGraph
from auditor.graph.layer_tail import layer_tail
from auditor.graph.operators import KERNEL_OPS, Op
from auditor.graph.paths import before_kernels, kernel_depth, trunk
from auditor.graph.signal import STANDARD, Backward, Signal, Transfer
from auditor.graph.transfer import NORMALIZING, transfer

#: log ‖∂L/∂h‖² of the random and of the coherent part.
LogGradient = tuple[float, float]
NO_GRADIENT: LogGradient = (-math.inf, -math.inf)
#: Calls that divide a gradient's norm by the root of the positions they average: no layer's doing,
#: so that the growth rate is taken on either side of them.
AVERAGING = frozenset({Op.AVERAGE_POOL, Op.GLOBAL_AVERAGE_POOL, Op.REDUCE})
#: Share of the calls that must be covered for a rate of the whole model.
MOST = 0.5
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
    """The static estimate. `covered` is the share of calls on the way to the output it covers."""

    growth_rate: float | None = None
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
            gain=_gain(made, gradients[call_id]), variance=made.signal.mean_square
        )
        for call_id, made in transfers.items()
    }
    covered = sum(call.id in transfers for call in way) / len(way)
    enough = covered >= MOST
    return Forecast(
        growth_rate=_growth(graph, way, transfers, gradients, heads) if enough else None,
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
        gradients[call_id] = _plus(gradients[call_id], (0.0, -math.inf))
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
    scatter, coherent = (np.logaddexp(row[0] + gradient[0], row[1] + gradient[1]) for row in logs)
    return float(scatter), float(coherent)


def _plus(one: LogGradient, other: LogGradient) -> LogGradient:
    return float(np.logaddexp(one[0], other[0])), float(np.logaddexp(one[1], other[1]))


def _gain(made: Transfer, gradient: LogGradient) -> float:
    """√(power to the first input / power from the output)."""
    if not made.inputs:
        return 1.0
    before = gradient if max(gradient) > -math.inf else (0.0, -math.inf)
    after = _through(made.inputs[0], before)
    growth = np.logaddexp(*after) - np.logaddexp(*before)
    return math.exp(min(float(growth) / 2, 700.0))


def _growth(
    graph: LayerGraph,
    way: tuple[LayerCall, ...],
    transfers: Mapping[str, Transfer],
    gradients: Mapping[str, LogGradient],
    heads: frozenset[str],
) -> float | None:
    """Factor on ‖∂L/∂h‖ a kernel-bearing layer, toward the input, by least squares on depth.

    As the probe measures it: points are the hidden layers with a kernel, each after its own
    normalization and activation, compared within stages of equal shape, or else of equal extent in
    space and time. A stage also ends where the gradient passes a call that is not covered or that
    averages positions.
    """
    depth = kernel_depth(graph)
    stretch: dict[str, int] = {}
    for call in graph.calls:
        # The least of the branches: a side branch that averages ends no stage of its trunk.
        before = min((stretch[source.id] for source in graph.predecessors(call.id)), default=0)
        stretch[call.id] = before + (call.id not in transfers or call.op in AVERAGING)
    points: list[tuple[LayerCall, int, float]] = []
    for call in way:
        if call.op not in KERNEL_OPS or call.id in heads:
            continue
        end = layer_tail(graph, call)[-1]
        if end.id not in transfers:
            continue
        power = float(np.logaddexp(*gradients[end.id]))
        if math.isfinite(power):
            points.append((end, depth[call.id], power / 2))
    for stage_of in (_shape, _extent):
        stages: dict[Hashable, list[tuple[int, float]]] = {}
        for end, level, norm in points:
            stages.setdefault((stretch[end.id], stage_of(end)), []).append((level, norm))
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
