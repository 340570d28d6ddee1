"""Mean-field laws of the calls that multiply by a kernel."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from auditor.graph.dimensions import channels, sizes, spatial
from auditor.graph.freshness import law_of
from auditor.graph.initializers import WeightLaw
from auditor.graph.layer_graph import LayerCall, LayerGraph
from auditor.graph.operators import Op
from auditor.graph.signal import NO_WAY, Signal, Transfer
from auditor.graph.statistics import WeightStatistics


@dataclass(frozen=True, kw_only=True)
class WeightMoments:
    """Mean and variance of a weight's values, read or by its initializer's law."""

    mean: float
    variance: float

    @property
    def mean_square(self) -> float:
        """Mean of the squared values."""
        return self.mean**2 + self.variance


def weight_moments(graph: LayerGraph, call: LayerCall, role: str) -> WeightMoments | None:
    """Moments of the call's first weight of this role; from its values where there are some."""
    for index, weight in enumerate(call.weights):
        if weight.role != role:
            continue
        if weight.dtype.startswith(("int", "uint")):
            return None  # quantized: the scale that makes values of the integers is elsewhere
        seen: WeightStatistics | WeightLaw | None = graph.weight_statistics.get((call.layer, index))
        if seen is None:
            seen = law_of(weight, None)
        if seen is None or not math.isfinite(seen.mean_square):
            return None
        return WeightMoments(mean=seen.mean, variance=seen.variance)
    return None


def connections(call: LayerCall, role: str) -> tuple[float, float] | None:
    """(incoming connections of a unit, units) of the call's kernel of this role."""
    weight = call.weight(role)
    if weight is None or not weight.size:
        return None
    axes = [axis for axis in weight.unit_axes if -len(weight.shape) <= axis < len(weight.shape)]
    if axes:
        units = math.prod(weight.shape[axis] for axis in axes)
        return weight.size / units, float(units)
    if weight.fan_in and weight.fan_out:
        return float(weight.fan_in), float(weight.fan_out)
    return None


def kernel(graph: LayerGraph, call: LayerCall, signals: tuple[Signal, ...]) -> Transfer | None:
    """Dense layers and convolutions, transposed and depthwise ones included."""
    role = "depthwise_kernel" if call.op is Op.DEPTHWISE_CONV else "kernel"
    if call.weight(role) is None:
        role = "kernel"
    fan = connections(call, role)
    if fan is None:
        return None
    incoming, units = fan
    if call.op is Op.CONV_TRANSPOSE:
        incoming /= math.prod(sizes(call.config.get("strides", call.config.get("stride", 1))))
    elif call.op in (Op.CONV, Op.DEPTHWISE_CONV):
        incoming *= _padding_share(call)
    if call.op is Op.DEPTHWISE_CONV and (width := channels(call.in_shape, call)):
        units = max(units / width, 1.0)
    return _affine(graph, call, signals[0], role=role, incoming=incoming, units=units)


def separable(graph: LayerGraph, call: LayerCall, signals: tuple[Signal, ...]) -> Transfer | None:
    """A depthwise convolution, then a pointwise one."""
    depthwise = connections(call, "depthwise_kernel")
    pointwise = connections(call, "pointwise_kernel")
    if depthwise is None or pointwise is None:
        return None
    first = _affine(
        graph,
        call,
        signals[0],
        role="depthwise_kernel",
        incoming=depthwise[0] * _padding_share(call),
        units=1.0,
        biased=False,
    )
    if first is None:
        return None
    second = _affine(
        graph,
        call,
        first.signal,
        role="pointwise_kernel",
        incoming=pointwise[0],
        units=pointwise[1],
    )
    if second is None:
        return None
    return Transfer(signal=second.signal, inputs=(first.inputs[0] @ second.inputs[0],))


def _affine(
    graph: LayerGraph,
    call: LayerCall,
    signal: Signal,
    *,
    role: str,
    incoming: float,
    units: float,
    biased: bool = True,
) -> Transfer | None:
    """Wx + b with independent weights: n incoming connections of mean μ and variance σ².

    A kernel whose mean is not zero maps the vector of ones to itself, times nμ: that is the
    coherent part.
    """
    values = weight_moments(graph, call, role)
    bias = weight_moments(graph, call, "bias") if biased else None
    if values is None:
        return None
    drift = incoming * values.mean
    offset, offset_variance = (bias.mean, bias.variance) if bias else (0.0, 0.0)
    scatter = incoming * values.variance
    share = incoming * values.mean_square
    raised = incoming * values.mean**2
    return Transfer(
        signal=Signal(
            mean=drift * signal.mean + offset,
            between=scatter * signal.mean**2 + share * signal.between + offset_variance,
            within=share * signal.within,
            shared=share * signal.shared,
        ),
        inputs=(
            np.array(
                [
                    [scatter, scatter, 0.0],
                    [raised, drift * units * values.mean, raised],
                    [0.0, 0.0, scatter],
                ]
            ),
        ),
    )


def embedding(graph: LayerGraph, call: LayerCall, signals: tuple[Signal, ...]) -> Transfer | None:
    """Rows of a table; no gradient passes to the indices."""
    table = weight_moments(graph, call, "embeddings")
    if table is None:
        return None
    made = Signal(mean=table.mean, between=0.0, within=table.variance)
    return Transfer(signal=made, inputs=(NO_WAY,) * len(signals))


def _padding_share(call: LayerCall) -> float:
    """Share of a same-padded convolution's taps that fall on its input, not on the padding."""
    if call.config.get("padding") != "same":
        return 1.0
    positions = spatial(call.in_shape, call)
    if not positions:
        return 1.0
    rank = len(positions)
    extents = sizes(call.config.get("kernel_size", 1))
    steps = sizes(call.config.get("dilation_rate", 1))
    extents = extents * rank if len(extents) == 1 else extents
    steps = steps * rank if len(steps) == 1 else steps
    if len(extents) != rank or len(steps) != rank:
        return 1.0
    share = 1.0
    for size, taps, step in zip(positions, extents, steps, strict=True):
        reach = [abs(tap - (taps - 1) / 2) * step for tap in range(min(taps, 4096))]
        share *= sum(max(size - offset, 0.0) for offset in reach) / (size * len(reach))
    return share or 1.0
