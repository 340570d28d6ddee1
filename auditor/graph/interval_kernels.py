"""Intervals of what kernels give."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from auditor.errors import UnreadableModel
from auditor.graph.initializers import weight_law
from auditor.graph.interval import EVERYTHING, Interval
from auditor.graph.kernel_laws import connections
from auditor.graph.layer_graph import LayerCall, LayerGraph
from auditor.graph.operators import Op
from auditor.graph.statistics import WeightStatistics
from auditor.graph.weight import Weight

#: A kernel of more values is bounded by its largest and smallest value instead of unit by unit.
LARGE = 1 << 22
#: Rounding of sums in single precision, relative to the sum of absolute values.
ROUNDING = 1e-5


def affine(graph: LayerGraph, call: LayerCall, sources: list[Interval | None]) -> Interval | None:
    """Wx + b: any number, or Σ w⁺·high + w⁻·low + b at most where the input's range is known.

    Of a kernel whose values are not known, or all have one sign, on an unknown input nothing is
    said: there may be a reason why its output is never negative.

    Zeros of the padding count as values of the input.
    """
    if not sources:
        return None
    kernels = [weight for weight in call.weights if "kernel" in weight.role]
    if not kernels:
        return None
    source = sources[0]
    if call.op in (Op.SEPARABLE_CONV, Op.LOCALLY_CONNECTED) or len(kernels) != 1:
        return _unless_one_signed(graph, call, kernels, source)
    kernel, bias = kernels[0], call.weight("bias")
    if source is None:
        return _unless_one_signed(graph, call, kernels, source)
    if any(call.config.get(name, 1.0) != 1.0 for name in ("alpha", "beta")):
        return None
    if call.op not in (Op.DENSE, Op.EINSUM_DENSE):
        source = source.with_zero()
    unit = None
    if source.bounded and not call.nodes:
        unit = _by_unit(kernel, source)
    if unit is None:
        unit = _by_statistics(graph, call, kernel, source)
    if unit is None:
        return _unless_one_signed(graph, call, kernels, source)
    if bias is None:
        return unit
    offset = _range(graph, call, bias)
    return unit + offset if offset is not None else None


def _unless_one_signed(
    graph: LayerGraph, call: LayerCall, kernels: list[Weight], source: Interval | None
) -> Interval | None:
    """Any number; but nothing is claimed where signs may never mix, as in a bank of filters."""
    mixed = all(_has_both_signs(graph, call, kernel) for kernel in kernels)
    return EVERYTHING if mixed or (source is not None and source.low < 0 < source.high) else None


def _has_both_signs(graph: LayerGraph, call: LayerCall, kernel: Weight) -> bool:
    seen = _statistics(graph, call, kernel)
    law = weight_law(kernel.initializer, kernel.shape) if kernel.initializer else None
    known = seen or law
    return known is not None and known.low < 0 < known.high


def embedded(graph: LayerGraph, call: LayerCall, _: list[Interval | None]) -> Interval | None:
    """Values of the table."""
    table = call.weight("embeddings")
    if table is None or call.kind != "Embedding":
        return None
    return _range(graph, call, table)


def weight_range(graph: LayerGraph, call: LayerCall, role: str) -> Interval | None:
    """From the smallest to the largest value of the call's weight of this role."""
    weight = call.weight(role)
    return _range(graph, call, weight) if weight is not None else None


def _range(graph: LayerGraph, call: LayerCall, weight: Weight) -> Interval | None:
    seen = _statistics(graph, call, weight)
    if seen is None or seen.nonfinite:
        return None
    return Interval(low=seen.low, high=seen.high)


def _statistics(graph: LayerGraph, call: LayerCall, weight: Weight) -> WeightStatistics | None:
    place = next(index for index, other in enumerate(call.weights) if other is weight)
    return graph.weight_statistics.get((call.layer, place))


def _by_unit(kernel: Weight, source: Interval) -> Interval | None:
    if kernel.read is None or kernel.size > LARGE or not kernel.unit_axes or not kernel.size:
        return None
    rank = len(kernel.shape)
    if any(not -rank <= axis < rank for axis in kernel.unit_axes):
        return None
    try:
        values: np.ndarray[Any, Any] = np.asarray(kernel.read())
    except UnreadableModel:
        return None
    if values.dtype.kind != "f" or values.shape != kernel.shape:
        return None
    units = {axis % rank for axis in kernel.unit_axes}
    axes = tuple(axis for axis in range(rank) if axis not in units)
    values = values.astype(np.float64)
    if not np.isfinite(values).all():
        return None
    up, down = np.maximum(values, 0).sum(axis=axes), np.minimum(values, 0).sum(axis=axes)
    low = up * source.low + down * source.high
    high = up * source.high + down * source.low
    slack = ROUNDING * float((up - down).max()) * source.magnitude
    return Interval(low=float(low.min()) - slack, high=float(high.max()) + slack)


def _by_statistics(
    graph: LayerGraph, call: LayerCall, kernel: Weight, source: Interval
) -> Interval | None:
    values, fan = _range(graph, call, kernel), connections(call, kernel.role)
    if values is None or fan is None:
        return None
    term = values * source
    made = term.scaled(math.ceil(fan[0]))
    slack = ROUNDING * made.magnitude if made.bounded else 0.0
    return Interval(
        low=made.low if term.low >= 0 else made.low - slack,
        high=made.high if term.high <= 0 else made.high + slack,
    )
