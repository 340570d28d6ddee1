"""What one layer call does to a random signal and to the gradient: the dispatch of the laws."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping

import numpy as np

from auditor.graph import attention_laws, kernel_laws, layer_laws, merge_laws, recurrent_laws
from auditor.graph.activations import (
    ActivationMoments,
    Pointwise,
    activation_moments,
    curve,
)
from auditor.graph.interval import Interval
from auditor.graph.layer_graph import LayerCall, LayerGraph
from auditor.graph.operators import RECURRENT_OPS, SHAPE_OPS, Op
from auditor.graph.pointwise import After, operation
from auditor.graph.scaling import scale_and_offset, scaling
from auditor.graph.signal import (
    STANDARD,
    THROUGH,
    Backward,
    Drawn,
    Signal,
    Transfer,
    after_activation,
    backward,
)

#: What raw pixels are: uniform on 0 … 255.
PIXELS = Interval(low=0.0, high=255.0)
PIXEL_MEAN, PIXEL_VARIANCE = 127.5, 255.0**2 / 12
#: An input that the model itself multiplies by less than this is taken to be pixels.
SMALL_SCALE = 0.05


def transfer(
    graph: LayerGraph, call: LayerCall, signals: tuple[Signal | None, ...], *, head: bool
) -> Transfer | None:
    """The call's action on the signals of its inputs; None where it is not covered.

    `head` says that no kernel follows: the gradient is then taken to start before the call's
    activation, because losses are made to cancel the slope of the heads they belong to.
    """
    known = tuple(signal for signal in signals if signal is not None)
    if call.op is Op.INPUT:
        return Transfer(signal=_input(graph, call), inputs=())
    law = LAWS.get(call.op)
    if call.op in SHAPE_OPS or call.op in PASSING:
        law = layer_laws.passing
    if law is None or not known or len(known) != len(signals):
        return None
    with np.errstate(over="ignore", invalid="ignore", under="ignore"):
        made = law(graph, call, known)
        made = _activated(graph, call, made, head=head) if made is not None else None
    return made if made is not None and made.signal.usable else None


Law = Callable[[LayerGraph, LayerCall, tuple[Signal, ...]], Transfer | None]


def _input(graph: LayerGraph, call: LayerCall) -> Signal:
    """Standardised features, or raw pixels where the model itself divides them."""
    rescaled = [scale_and_offset(graph, successor) for successor in graph.successors(call.id)]
    raw = bool(rescaled) and all(
        pair is not None and abs(pair[0].mean) <= SMALL_SCALE for pair in rescaled
    )
    if raw or call.dtype == "uint8":
        return Signal(mean=PIXEL_MEAN, between=0.0, within=PIXEL_VARIANCE)
    return STANDARD


def _activated(
    graph: LayerGraph, call: LayerCall, made: Transfer, *, head: bool
) -> Transfer | None:
    """The transfer with the call's fused (or own) activation after it."""
    if call.op in RECURRENT_OPS:
        return made  # its activations are inside
    if call.activation is None:
        return made
    if not made.signal.usable:
        return None
    if call.activation == "softmax":
        return _softmax(call, made, head=head)
    phi = curve(call.activation, activation_settings(call))
    return _curved(graph, call, made, phi, head=head) if phi is not None else None


def _curved(
    graph: LayerGraph, call: LayerCall, made: Transfer, phi: Pointwise, *, head: bool
) -> Transfer | None:
    """The transfer with a pointwise function after it, its input taken as Gaussian."""
    signal = made.signal
    origin = call.id
    if call.op in (Op.ACTIVATION, Op.ELEMENTWISE):
        origin = graph.predecessors(call.id)[0].id
    mean, between, within = signal.mean, signal.between, signal.within
    moments = activation_moments(phi, mean, between, within)
    level = moments
    if signal.shared > 0:
        shared = min(signal.shared, within)
        level = activation_moments(phi, mean, between + shared, within - shared)
    if not math.isfinite(moments.second) or not math.isfinite(moments.slope_second):
        return None
    drawn = Drawn(phi=phi, mean=mean, between=between, within=within, origin=origin)
    slope = _slope(moments, level)
    return Transfer(
        signal=after_activation(moments, drawn, level.common),
        inputs=made.inputs if head else tuple(m @ slope for m in made.inputs),
    )


def _elementwise(
    graph: LayerGraph, call: LayerCall, signals: tuple[Signal, ...]
) -> Transfer | None:
    """A single operation on its input's own distribution, as far as it is that of a curve."""
    phi = operation(call)
    if phi is None or len(signals) != 1:
        return None
    (signal,) = signals
    made = Transfer(signal=signal, inputs=(THROUGH,))
    drawn = signal.drawn
    if drawn is None:
        return _curved(graph, call, made, phi, head=False)
    law = drawn.mean, drawn.between, drawn.within
    after, before = (
        activation_moments(After(phi, drawn.phi), *law),
        activation_moments(drawn.phi, *law),
    )
    if not math.isfinite(after.second) or not math.isfinite(after.slope_second):
        return None
    if before.slope_second <= 0:
        return None
    both = Drawn(
        phi=After(phi, drawn.phi),
        mean=drawn.mean,
        between=drawn.between,
        within=drawn.within,
        origin=drawn.origin,
    )
    factor = after.slope_second / before.slope_second
    return Transfer(signal=after_activation(after, both), inputs=(THROUGH * factor,))


def activation_settings(call: LayerCall) -> Mapping[str, object]:
    """The configuration of the call's activation itself, empty for one given by name."""
    if call.op is Op.ACTIVATION:
        nested = call.config.get("activation")
        if isinstance(nested, str):
            return {}
        outer: Mapping[str, object] = call.config
        if not isinstance(nested, Mapping):
            return outer
    else:
        nested = call.config.get("activation")
    settings = nested.get("config") if isinstance(nested, Mapping) else None
    return settings if isinstance(settings, Mapping) else {}


def _slope(moments: ActivationMoments, level: ActivationMoments) -> Backward:
    """φ′ on the gradient: its fluctuation turns coherent and common gradient into random."""
    return backward(moments.slope_second, moments.slope**2, level.slope_common)


def _softmax(call: LayerCall, made: Transfer, *, head: bool) -> Transfer | None:
    """A softmax over nearly Gaussian logits, by the quadrature of attention's weights.

    Jᵀg = a ⊙ (g − a·g): of a random gradient's power Σa²/n is left.
    """
    width = call.out_shape[-1] if call.out_shape else None
    if not isinstance(width, int) or width < 1:
        return None
    logits = made.signal
    spread = attention_laws.concentration(width, float(f"{logits.variance:.6g}"))
    mean, second = 1 / width, spread / width
    share = logits.within / logits.variance if logits.variance else 1.0
    variance = max(second - mean**2, 0.0)
    signal = Signal(mean=mean, between=variance * (1 - share), within=variance * share)
    if head:
        return Transfer(signal=signal, inputs=made.inputs)
    slope = backward(second * (1 - mean), 0.0, 0.0)
    return Transfer(signal=signal, inputs=tuple(m @ slope for m in made.inputs))


#: Calls whose output is their input in distribution.
PASSING = frozenset(
    {Op.IDENTITY, Op.CAST, Op.ACTIVATION, Op.NOISE, Op.AUGMENTATION, Op.REGULARIZATION}
)
NORMALIZING = frozenset(
    {Op.BATCH_NORM, Op.LAYER_NORM, Op.GROUP_NORM, Op.INSTANCE_NORM, Op.RMS_NORM}
)
LAWS: Mapping[Op, Law] = {
    Op.DENSE: kernel_laws.kernel,
    Op.EINSUM_DENSE: kernel_laws.kernel,
    Op.CONV: kernel_laws.kernel,
    Op.DEPTHWISE_CONV: kernel_laws.kernel,
    Op.CONV_TRANSPOSE: kernel_laws.kernel,
    Op.LOCALLY_CONNECTED: kernel_laws.kernel,
    Op.SEPARABLE_CONV: kernel_laws.separable,
    Op.EMBEDDING: kernel_laws.embedding,
    Op.DROPOUT: layer_laws.dropout,
    Op.BATCH_NORM: layer_laws.batch_norm,
    Op.INSTANCE_NORM: layer_laws.batch_norm,
    Op.LAYER_NORM: layer_laws.layer_norm,
    Op.GROUP_NORM: layer_laws.layer_norm,
    Op.RMS_NORM: layer_laws.rms_norm,
    Op.SCALE: scaling,
    Op.AVERAGE_POOL: layer_laws.average_pool,
    Op.GLOBAL_AVERAGE_POOL: layer_laws.average_pool,
    Op.MAX_POOL: layer_laws.max_pool,
    Op.GLOBAL_MAX_POOL: layer_laws.max_pool,
    Op.UNIT_NORM: layer_laws.unit_norm,
    Op.REDUCE: layer_laws.reduction,
    Op.ELEMENTWISE: _elementwise,
    Op.ADD: merge_laws.total,
    Op.SUBTRACT: merge_laws.total,
    Op.AVERAGE: merge_laws.total,
    Op.MULTIPLY: merge_laws.product,
    Op.CONCATENATE: merge_laws.concatenation,
    Op.STACK: merge_laws.concatenation,
    Op.MAXIMUM: merge_laws.extreme,
    Op.MINIMUM: merge_laws.extreme,
    Op.MATMUL: merge_laws.contraction,
    Op.DOT: merge_laws.contraction,
    Op.SIMPLE_RNN: recurrent_laws.recurrent,
    Op.LSTM: recurrent_laws.recurrent,
    Op.CONV_LSTM: recurrent_laws.recurrent,
    Op.GRU: recurrent_laws.recurrent,
    Op.ATTENTION: attention_laws.attention,
    Op.DOT_ATTENTION: attention_laws.given_attention,
}
