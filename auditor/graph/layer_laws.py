"""Mean-field laws of the calls without a kernel: normalization, pooling, dropout, merging."""

from __future__ import annotations

import math
import operator
from collections import Counter
from collections.abc import Sequence
from itertools import accumulate

import numpy as np

from auditor.graph.activations import Curve, activation_moments, largest_moments
from auditor.graph.dimensions import dimension, number, window
from auditor.graph.kernel_laws import WeightMoments, weight_moments
from auditor.graph.layer_graph import LayerCall, LayerGraph
from auditor.graph.operators import Op
from auditor.graph.signal import THROUGH, TINY, Drawn, Signal, Transfer, after_activation


def passing(_: LayerGraph, __: LayerCall, signals: tuple[Signal, ...]) -> Transfer | None:
    """What gives its one input on, in distribution."""
    return Transfer(signal=signals[0], inputs=(THROUGH,)) if len(signals) == 1 else None


def dropout(_: LayerGraph, call: LayerCall, signals: tuple[Signal, ...]) -> Transfer | None:
    """Inverted dropout in training: a mask of mean 1 and variance p/(1−p)."""
    (signal,) = signals[:1]
    rate = number(call.config.get("rate", call.config.get("ratio")))
    if rate is None or not 0 <= rate < 1 or call.kind == "AlphaDropout":
        return Transfer(signal=signal, inputs=(THROUGH,))
    odds = rate / (1 - rate)
    return Transfer(
        signal=Signal(
            mean=signal.mean,
            between=signal.between,
            within=signal.within + odds * signal.mean_square,
        ),
        inputs=(np.array([[1 + odds, odds], [0.0, 1.0]]),),
    )


def batch_norm(graph: LayerGraph, call: LayerCall, signals: tuple[Signal, ...]) -> Transfer | None:
    """Divides each unit by its standard deviation over the batch (Yang et al. 2019)."""
    (signal,) = signals[:1]
    return _normalized(graph, call, Signal(mean=0.0, between=0.0, within=1.0), signal.within)


def layer_norm(graph: LayerGraph, call: LayerCall, signals: tuple[Signal, ...]) -> Transfer | None:
    """Divides each sample by its standard deviation over units: what is coherent is removed."""
    (signal,) = signals[:1]
    variance = signal.variance
    if variance <= TINY:
        return None
    unit = Signal(mean=0.0, between=signal.between / variance, within=signal.within / variance)
    made = _normalized(graph, call, unit, variance)
    if made is None or call.op is not Op.LAYER_NORM:
        return made
    return Transfer(signal=made.signal, inputs=(made.inputs[0] * np.array([[1.0], [0.0]]),))


def rms_norm(graph: LayerGraph, call: LayerCall, signals: tuple[Signal, ...]) -> Transfer | None:
    """Divides each sample by its root mean square (Zhang & Sennrich 2019)."""
    (signal,) = signals[:1]
    q = signal.mean_square
    if q <= TINY:
        return None
    unit = Signal(
        mean=signal.mean / math.sqrt(q), between=signal.between / q, within=signal.within / q
    )
    return _normalized(graph, call, unit, q)


def _normalized(
    graph: LayerGraph, call: LayerCall, unit: Signal, divisor: float
) -> Transfer | None:
    """γ·x/√divisor + β, `unit` being the signal before γ and β."""
    if divisor <= TINY:
        return None
    epsilon = number(call.config.get("epsilon")) or 0.0
    shrink = divisor / (divisor + max(epsilon, 0.0))
    gamma = weight_moments(graph, call, "gamma") or WeightMoments(mean=1.0, variance=0.0)
    beta = weight_moments(graph, call, "beta") or WeightMoments(mean=0.0, variance=0.0)
    scale = gamma.mean_square * shrink
    return Transfer(
        signal=Signal(
            mean=gamma.mean * math.sqrt(shrink) * unit.mean + beta.mean,
            between=scale * unit.between + gamma.variance * shrink * unit.mean**2 + beta.variance,
            within=scale * unit.within,
        ),
        inputs=(
            np.array([[scale, gamma.variance * shrink], [0.0, gamma.mean**2 * shrink]]) / divisor,
        ),
    )


def average_pool(_: LayerGraph, call: LayerCall, signals: tuple[Signal, ...]) -> Transfer | None:
    """The mean over a window; positions are taken to differ as samples do."""
    (signal,) = signals[:1]
    positions = window(call)
    if positions is None:
        return None
    return Transfer(
        signal=Signal(mean=signal.mean, between=signal.between, within=signal.within / positions),
        inputs=(THROUGH / positions,),
    )


def max_pool(_: LayerGraph, call: LayerCall, signals: tuple[Signal, ...]) -> Transfer | None:
    """The largest of a window whose positions are taken to differ as samples do.

    Each gradient goes to one input, where the activation before it is steeper than elsewhere: the
    largest of four values behind a ReLU is positive 15 times in 16.
    """
    (signal,) = signals[:1]
    positions = window(call)
    if positions is None or signal.within <= 0:
        return None
    linear = Drawn(
        phi=Curve("linear"), mean=signal.mean, between=signal.between, within=signal.within
    )
    drawn = signal.drawn or linear
    law = (drawn.phi, drawn.mean, drawn.between, drawn.within)
    usual, largest = activation_moments(*law), largest_moments(*law, round(positions))
    if usual.slope_second <= 0:
        return None
    steeper = largest.slope_second / usual.slope_second
    straight = (largest.slope / usual.slope) ** 2 if usual.slope else steeper
    return Transfer(signal=after_activation(largest, None), inputs=(np.diag([steeper, straight]),))


def total(graph: LayerGraph, call: LayerCall, signals: tuple[Signal, ...]) -> Transfer | None:
    """Sum, difference or mean.

    Different branches are taken to be uncorrelated, as behind a kernel of mean zero they are; one
    branch that comes in twice is the same signal twice.
    """
    share = 1 / len(signals) if call.op is Op.AVERAGE else 1.0
    weights: dict[str, float] = {}
    by_source: dict[str, Signal] = {}
    sources = [source.id for source in graph.predecessors(call.id)]
    repeats = Counter(sources)
    for index, (source, signal) in enumerate(zip(sources, signals, strict=True)):
        sign = -1.0 if call.op is Op.SUBTRACT and index else 1.0
        weights[source] = weights.get(source, 0.0) + sign * share
        by_source[source] = signal
    return Transfer(
        signal=Signal(
            mean=sum(weights[source] * x.mean for source, x in by_source.items()),
            between=sum(weights[source] ** 2 * x.between for source, x in by_source.items()),
            within=sum(weights[source] ** 2 * x.within for source, x in by_source.items()),
        ),
        # The gradient's parts for one source are added as powers, so its factor is split evenly.
        inputs=tuple(THROUGH * weights[source] ** 2 / repeats[source] for source in sources),
    )


def product(_: LayerGraph, __: LayerCall, signals: tuple[Signal, ...]) -> Transfer | None:
    """Independent factors."""
    mean = math.prod(x.mean for x in signals)
    common = math.prod(x.mean**2 + x.between for x in signals)
    second = math.prod(x.mean_square for x in signals)
    squares = _others([x.mean_square for x in signals])
    straights = _others([x.mean**2 for x in signals])
    inputs = [
        np.array([[square, square - straight], [0.0, straight]])
        for square, straight in zip(squares, straights, strict=True)
    ]
    return Transfer(
        signal=Signal(mean=mean, between=max(common - mean**2, 0.0), within=second - common),
        inputs=tuple(inputs),
    )


def _others(factors: Sequence[float]) -> list[float]:
    """For each factor the product of all others, without dividing by what may be zero."""
    before = accumulate(factors[:-1], operator.mul, initial=1.0)
    after = accumulate(reversed(factors[1:]), operator.mul, initial=1.0)
    return [one * other for one, other in zip(before, reversed(list(after)), strict=True)]


def concatenation(_: LayerGraph, call: LayerCall, signals: tuple[Signal, ...]) -> Transfer | None:
    """Units side by side: each input has its share of them, and of the gradient's power."""
    axis = call.config.get("axis", -1)
    axis = axis if isinstance(axis, int) and not isinstance(axis, bool) else -1
    known = [size for shape in call.in_shapes if (size := dimension(shape, axis))]
    widths = known if len(known) == len(signals) else [1] * len(signals)
    units = sum(widths)
    shares = [width / units for width in widths]
    mean = sum(share * x.mean for share, x in zip(shares, signals, strict=True))
    common = sum(share * (x.mean**2 + x.between) for share, x in zip(shares, signals, strict=True))
    within = sum(share * x.within for share, x in zip(shares, signals, strict=True))
    return Transfer(
        signal=Signal(mean=mean, between=max(common - mean**2, 0.0), within=within),
        inputs=tuple(THROUGH * share for share in shares),
    )
