"""Intervals of what takes several values together: sums, products, reductions."""

from __future__ import annotations

import math
from functools import reduce

from auditor.graph.dimensions import dimension
from auditor.graph.interval import EVERYTHING, Interval
from auditor.graph.interval_pointwise import hull_of
from auditor.graph.layer_graph import LayerCall, LayerGraph
from auditor.graph.layer_laws import reduced_axes

#: Reductions that give one of the values or something between them.
AMONG = frozenset(
    {"Mean", "Average", "Max", "Amax", "Min", "Amin", "Median", "ReduceMean", "ReduceMax"}
    | {"ReduceMin", "Nanmax", "Nanmin", "Nanmean"}
)
SUMS = frozenset({"Sum", "ReduceSum"})
#: Reductions that are never negative, whatever they are of.
NEVER_NEGATIVE = frozenset(
    {"Var", "Std", "Norm", "ReduceL1", "ReduceL2", "ReduceSumSquare", "Ptp", "CountNonzero"}
)
#: Rounding of a sum in single precision, relative to its largest possible value.
ROUNDING = 1e-5

Sources = list[Interval | None]


def _all(sources: Sources) -> list[Interval] | None:
    known = [source for source in sources if source is not None]
    return known if known and len(known) == len(sources) else None


def added(_: LayerGraph, __: LayerCall, sources: Sources) -> Interval | None:
    """The sum of all inputs."""
    known = _all(sources)
    return reduce(lambda one, other: one + other, known) if known else None


def subtracted(_: LayerGraph, __: LayerCall, sources: Sources) -> Interval | None:
    """The first less the second; unless both are the same."""
    known = _all(sources)
    return known[0] - known[1] if known and len(known) == 2 else None


def multiplied(graph: LayerGraph, call: LayerCall, sources: Sources) -> Interval | None:
    """The product; of a call with itself a square."""
    before = graph.predecessors(call.id)
    if len(before) == 2 and before[0].id == before[1].id and len(before[0].out_shapes) == 1:
        source = sources[0] or EVERYTHING
        ends = source.low**2, source.high**2
        return Interval(low=0.0 if source.holds(0.0) else min(ends), high=max(ends))
    known = _all(sources)
    return reduce(lambda one, other: one * other, known) if known else None


def divided(_: LayerGraph, __: LayerCall, sources: Sources) -> Interval | None:
    """The quotient, where the divisor cannot be zero."""
    known = _all(sources)
    if not known or len(known) != 2 or known[1].holds(0.0):
        return None
    return known[0] / known[1]


def averaged(_: LayerGraph, __: LayerCall, sources: Sources) -> Interval | None:
    """Something between the inputs."""
    return hull_of(sources)


def joined(_: LayerGraph, call: LayerCall, sources: Sources) -> Interval | None:
    """Values of any input."""
    if call.kind == "Append" or not call.in_shapes:
        return None
    return hull_of(sources)


def largest(_: LayerGraph, __: LayerCall, sources: Sources) -> Interval | None:
    """The largest input: at least every lower bound that is known."""
    known = [source for source in sources if source is not None]
    if not known:
        return None
    low = max(source.low for source in known)
    high = max(source.high for source in known) if len(known) == len(sources) else math.inf
    return Interval(low=low, high=high)


def smallest(_: LayerGraph, __: LayerCall, sources: Sources) -> Interval | None:
    """The smallest input: at most every upper bound that is known."""
    known = [source for source in sources if source is not None]
    if not known:
        return None
    high = min(source.high for source in known)
    low = min(source.low for source in known) if len(known) == len(sources) else -math.inf
    return Interval(low=low, high=high)


def contracted(_: LayerGraph, call: LayerCall, sources: Sources) -> Interval | None:
    """A sum of products, of how many may be unknown."""
    known = _all(sources)
    if not known or len(known) != 2:
        return None
    if call.kind in ("Cross", "CDist", "Correlate", "AffineGrid"):
        return None
    term = known[0] * known[1]
    if call.config.get("normalize") is True:
        return Interval(low=-1.0 - ROUNDING, high=1.0 + ROUNDING)
    count = None
    if call.kind in ("Matmul", "MatMul") and call.in_shapes:
        count = dimension(call.in_shapes[0], -1)
    return _summed(term, count)


def attended(_: LayerGraph, call: LayerCall, sources: Sources) -> Interval | None:
    """Means of the values, by weights of sum 1."""
    if call.kind not in ("Attention", "AdditiveAttention") or call.nodes or len(sources) < 2:
        return None
    return sources[1] if call.config.get("dropout", 0.0) == 0.0 else None


def reduced(_: LayerGraph, call: LayerCall, sources: Sources) -> Interval | None:
    """Along axes; a sum of an unknown number of values keeps its sign."""
    if call.kind in NEVER_NEGATIVE:
        return Interval(low=0.0, high=math.inf)
    source = sources[0] if sources else None
    if source is None:
        return None
    if call.kind in AMONG:
        return source
    if call.kind not in SUMS:
        return None
    axes = reduced_axes(call)
    sizes = [dimension(call.in_shape, axis) for axis in axes] if axes else [None]
    known = [size for size in sizes if size is not None]
    return _summed(source, math.prod(known) if len(known) == len(sizes) else None)


def _summed(term: Interval, count: int | None) -> Interval:
    """`count` of these added up, or any number of them."""
    if count is not None:
        made = term.scaled(float(count))
        slack = ROUNDING * made.magnitude if made.bounded else 0.0
        return Interval(
            low=made.low if term.low >= 0 else made.low - slack,
            high=made.high if term.high <= 0 else made.high + slack,
        )
    return Interval(
        low=min(term.low, 0.0) if term.low >= 0 else -math.inf,
        high=max(term.high, 0.0) if term.high <= 0 else math.inf,
    )
