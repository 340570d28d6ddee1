"""What becomes of an input's values on their way to the first layer that computes with them."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from auditor.graph.layer_graph import LayerCall, LayerGraph
from auditor.graph.operators import SHAPE_OPS, TRAINING_ONLY_OPS, Op
from auditor.graph.scaling import scale_and_offset

#: Values pass through unchanged, but for what is put beside them.
PASSING_OPS = SHAPE_OPS | TRAINING_ONLY_OPS | {Op.CAST, Op.IDENTITY, Op.STACK, Op.CONCATENATE}

#: Quotient of the variances of a Normalization from which no one factor stands for all of them.
MOST_UNEQUAL = 100.0


@dataclass(frozen=True, kw_only=True)
class InputUse:
    """A call that takes an input's values, times `factor`, plus `offset`.

    `scalings` are the calls on the way that multiply or shift. Factors that differ from channel
    to channel count by their root mean square, offsets by their mean.
    """

    call: LayerCall
    factor: float
    offset: float
    scalings: tuple[LayerCall, ...]


def input_uses(graph: LayerGraph, call_id: str) -> tuple[InputUse, ...]:
    """The first calls that do more to an input's values than scale, shift or arrange them.

    A call is named once, for the first way to it. Scalings that are not known end a way, and
    nothing is said of what lies behind them. Linear in calls and edges.
    """
    found: dict[str, InputUse] = {}
    pending: list[tuple[str, float, float, tuple[LayerCall, ...]]] = [(call_id, 1.0, 0.0, ())]
    seen = {call_id}
    while pending:
        current, factor, offset, scalings = pending.pop()
        for following in graph.successors(current):
            if following.id in seen:
                continue
            seen.add(following.id)
            if following.op in PASSING_OPS:
                pending.append((following.id, factor, offset, scalings))
            elif following.op is not Op.SCALE:
                found[following.id] = InputUse(
                    call=following, factor=factor, offset=offset, scalings=scalings
                )
            elif (constants := _constants(graph, following)) is not None:
                scale, shift = constants
                passed = (following.id, factor * scale, offset * scale + shift)
                pending.append((*passed, (*scalings, following)))
    return tuple(found[call.id] for call in graph.calls if call.id in found)


def _constants(graph: LayerGraph, call: LayerCall) -> tuple[float, float] | None:
    """Factor and offset of a call that scales; None where they are not known."""
    if call.kind == "Normalization":
        return _normalization(graph, call)
    moments = scale_and_offset(graph, call)
    if moments is None:
        return None
    return math.sqrt(moments[0].mean_square), moments[1].mean


def _normalization(graph: LayerGraph, call: LayerCall) -> tuple[float, float] | None:
    """(x − mean) / √variance; 1 and 0 where it never adapted.

    Not known where it inverts, and where its features are of so different a scale that no one
    factor stands for them all.
    """
    mean, variance = _numbers(graph, call, "mean"), _numbers(graph, call, "variance")
    if mean is None or variance is None or call.config.get("invert") is True:
        return None
    if variance.low <= 0.0 or variance.high > MOST_UNEQUAL * variance.low:
        return None
    factor = 1.0 / math.sqrt(variance.mean)
    return factor, -mean.mean * factor


@dataclass(frozen=True, kw_only=True)
class _Numbers:
    mean: float
    low: float
    high: float


def _numbers(graph: LayerGraph, call: LayerCall, name: str) -> _Numbers | None:
    """What the layer standardises by: given in its configuration, or adapted to data."""
    given = call.config.get(name)
    if given is not None:
        try:
            numbers = np.asarray(given, np.float64)
        except (TypeError, ValueError, OverflowError):
            return None
        if not numbers.size or not np.isfinite(numbers).all():
            return None
        return _Numbers(
            mean=float(numbers.mean()), low=float(numbers.min()), high=float(numbers.max())
        )
    for index, weight in enumerate(call.weights):
        seen = graph.weight_statistics.get((call.layer, index))
        if weight.name.rsplit("/", 1)[-1] == name and seen is not None and not seen.nonfinite:
            return _Numbers(mean=seen.mean, low=seen.low, high=seen.high)
    return None
